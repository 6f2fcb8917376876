"""The table of a run, read by another process while it lasts and after it was killed."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmark.fakes import ENTRIES
from tests.benchmark.studies import benchmark
from vasomim.benchmark.running.status import Row, Status, clock, read_status, table
from vasomim.cli import main


def lines(status: Status, height: int | None = None) -> list[str]:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(status, height))
    return captured.get().rstrip('\n').splitlines()


def test_a_run_is_followed_and_a_killed_one_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / 'fakes.yaml').write_text(ENTRIES.format(function='gated', seeds=3))
    command = ('run', '--entries', 'fakes.yaml', '--protocol', 'tiny', '--results', 'results', '--work-dir', 'work')
    process = benchmark(*command, '--jobs', '2', cwd=tmp_path, FAKE_MARKS=str(tmp_path))
    queue = tmp_path / 'work' / 'queue.json'
    while not queue.is_file() or read_status(queue).count('running') < 2:  # The first seed of one method may be.
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    while read_status(queue).count('finished') < 1:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    status = read_status(queue)
    assert status.active and len(status.rows) == 6 and status.left is None
    assert {row.title: row.state for row in status.rows}['fast / one / seed 0'] == 'finished'
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while (status := read_status(queue)).active:  # Until the processes of its jobs have died as well.
        time.sleep(0.01)
    assert status.count('waiting') > 0
    assert main('benchmark', ['status', '--work-dir', str(tmp_path / 'work')]) == 0
    assert 'continues with what is left' in lines(status)[-1]


def test_it_fits_the_screen_and_counts_the_rest() -> None:
    states = ['finished'] * 30 + ['running'] * 2 + ['failed'] + ['waiting'] * 15
    rows = [Row(f'job {number}', state, 75.0, 3700.0) for number, state in enumerate(states)]
    shown = lines(Status(rows, 120.0, True), 24)
    assert len(shown) <= 24
    assert '30 of 48 jobs finished' in shown[0] and 'about 2:00 left' in shown[0]
    assert [line.split('│')[2].strip() for line in shown[4:7]] == ['running', 'running', 'failed']
    assert '1:15' in shown[4] and '1:01:40' in shown[4]
    assert 'and ' in shown[-2] and '30 finished' in shown[-2]
    assert len(lines(Status(rows, None, True))) > 48


def test_cells_of_a_failed_pretraining_wait_for_nothing(tmp_path: Path) -> None:
    from vasomim.benchmark.results.records import Pretraining, name_of
    from vasomim.benchmark.results.store import Store

    inputs = {'method': 'mae', 'seed': 0}
    store = Store(tmp_path / 'results')
    error = {'kind': 'x', 'message': 'y'}
    store.write_pretraining(Pretraining(name_of(inputs), inputs, 'failed', error=error, finished='in this run'))
    common = {'results': str(store.folder), 'claim': str(tmp_path / 'none'), 'predicted': None, 'failed': None}
    jobs = [
        {**common, 'kind': 'pretraining', 'name': name_of(inputs), 'title': 'first', 'pretraining': None},
        {**common, 'kind': 'cell', 'name': 'f' * 16, 'title': 'second', 'pretraining': name_of(inputs)},
    ]
    queue = tmp_path / 'queue.json'
    queue.write_text(json.dumps({'slots': 1, 'run': str(tmp_path / 'none'), 'jobs': jobs}))
    assert [row.state for row in read_status(queue).rows] == ['failed', 'not run']
    jobs[0]['failed'] = 'in this run'  # It was the run before that it failed in: this one tries it again.
    queue.write_text(json.dumps({'slots': 1, 'run': str(tmp_path / 'none'), 'jobs': jobs}))
    assert [row.state for row in read_status(queue).rows] == ['waiting', 'waiting']


@pytest.mark.parametrize(('seconds', 'text'), [(None, ''), (5.4, '0:05'), (3599.6, '1:00:00'), (36000, '10:00:00')])
def test_times(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text
