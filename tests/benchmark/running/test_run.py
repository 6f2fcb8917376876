"""Runs by real processes: isolation, restarts after SIGKILL, two runs at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmark.fakes import ENTRIES
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.running.claims import Claim, held

ROOT = Path(__file__).parents[3]


class Study:
    """A protocol of fake cells in a folder of its own."""

    def __init__(self, folder: Path, function: str, seeds: int) -> None:
        self.folder = folder
        (folder / 'marks').mkdir(parents=True)
        self.entries = folder / 'entries.yaml'
        self.entries.write_text(ENTRIES.format(function=function, seeds=seeds))
        self.store = Store(folder / 'results')

    def start(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / 'benchmark' / 'run.py'), 'run', '--entries', str(self.entries)]
        command += ['--protocol', 'tiny', '--results', str(self.folder / 'results')]
        command += ['--work-dir', str(self.folder / 'work'), '--jobs', '2', *options]
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'FAKE_MARKS': str(self.folder / 'marks')}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder
        )

    def run(self, *options: str) -> tuple[int, str]:
        process = self.start(*options)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def scores(self) -> dict[str, tuple]:
        return {
            cell.cell: (cell.scores, self.store.table_path(cell.cell).read_text()) for cell in self.store.cells(None)
        }


def test_a_run_finishes_and_a_second_one_has_nothing_to_do(tmp_path) -> None:
    study = Study(tmp_path, 'quick', 2)
    status, output = study.run()
    assert status == 0, output
    cells = study.store.cells()
    assert [(cell.method, cell.seed) for cell in cells] == [('one', 0), ('one', 1), ('two', 0), ('two', 1)]
    assert cells[0].cost['seconds'] >= 0 and 'method=one' in cells[0].command
    before = {path: path.stat().st_mtime_ns for path in study.store.folder.glob('*.json')}
    status, output = study.run()
    assert status == 0 and 'nothing is left to run' in output
    assert before == {path: path.stat().st_mtime_ns for path in study.store.folder.glob('*.json')}
    victim = next(iter(before))
    victim.write_text(victim.read_text().replace('finished', 'finishd', 1))
    status, output = study.run()
    assert status == 0 and 'set aside' in output and len(study.store.cells()) == 4


def test_cells_that_other_inputs_leave_behind_are_counted_with_the_input(tmp_path) -> None:
    study = Study(tmp_path, 'quick', 2)
    assert study.run()[0] == 0
    study.entries.write_text(study.entries.read_text().replace('title: Fast,', 'title: Fast, version: 2,'))
    # A plan says the same of the whole study, and leaves none behind.
    command = [sys.executable, str(ROOT / 'benchmark' / 'run.py'), 'plan', '--entries', str(study.entries)]
    command += ['--protocol', 'tiny', '--results', str(study.store.folder), '--work-dir', str(tmp_path / 'work')]
    command += ['--no-estimate', '--only', 'method=one']
    planned = subprocess.run(command, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert '4 finished cells were computed from other inputs' in planned.stdout, planned.stderr
    status, output = study.run('--only', 'method=one')
    assert status == 0
    assert '4 finished cells were computed from other inputs' in output and 'version of the task (4)' in output
    status, output = study.run('--only', 'method=two')
    assert status == 0 and 'other inputs' not in output
    (study.store.folder / 'studies' / 'tiny.json').write_text('{')  # It is written anew.
    status, output = study.run()
    assert status == 0 and len(study.store.study('tiny')) == 4, output


def test_killed_runs_end_as_an_undisturbed_one(tmp_path) -> None:
    undisturbed = Study(tmp_path / 'undisturbed', 'slow', 30)
    assert undisturbed.run()[0] == 0
    disturbed = Study(tmp_path / 'disturbed', 'slow', 30)
    rng = random.Random(0)
    progress = [0]
    for _ in range(10):
        process = disturbed.start()
        marks = {path: path.stat().st_mtime_ns for path in (disturbed.folder / 'marks').iterdir()}
        while marks == {path: path.stat().st_mtime_ns for path in (disturbed.folder / 'marks').iterdir()}:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))  # Before, while and after results are written.
        process.send_signal(signal.SIGKILL)
        process.communicate()
        progress.append(len(disturbed.store.cells()))  # Raises if a kill left a damaged file.
    status, output = disturbed.run()
    assert status == 0, output
    assert progress == sorted(progress) and 0 < progress[-1] < 60
    assert disturbed.scores() == undisturbed.scores() and len(disturbed.scores()) == 60
    assert 'computed' not in output


def test_two_runs_at_once_share_the_cells(tmp_path) -> None:
    study = Study(tmp_path, 'slow', 6)
    processes = [study.start() for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len(study.store.cells()) == 12
    # Each is computed once: `slow` fails where a cell is computed again or twice at once.
    assert not [cell for cell in study.store.cells(None) if cell.status == 'failed']


def test_a_cell_that_dies_takes_no_other_down_and_is_tried_again(tmp_path) -> None:
    study = Study(tmp_path, 'one_is_killed', 2)
    status, output = study.run()
    assert status == 1 and '2 jobs finished, 2 failed' in output
    failed = study.store.cells('failed')
    assert [cell.error['kind'] for cell in failed] == ['Killed', 'OutOfMemory']
    log = tmp_path / 'work' / 'cells' / failed[0].cell / failed[0].error['log']
    assert log.read_text() == 'working\n'
    assert [cell.method for cell in study.store.cells()] == ['two', 'two']
    status, output = study.run()
    assert status == 1 and '4 cells, 2 of them finished before' in output


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path) -> None:
    study = Study(tmp_path, 'full_disk', 2)
    status, output = study.run('--jobs', '1', '--only', 'method=one')
    assert status == 2 and 'No space left on device' in output
    assert [cell.seed for cell in study.store.cells()] == [0]


def test_submitits_executor_gives_the_same_results(tmp_path) -> None:
    pytest.importorskip('submitit')
    forked, submitted = Study(tmp_path / 'forked', 'quick', 1), Study(tmp_path / 'submitted', 'quick', 1)
    assert forked.run()[0] == 0
    status, output = submitted.run('--executor', 'submitit-local')
    assert status == 0, output
    assert submitted.scores() == forked.scores() and len(submitted.scores()) == 2


def test_a_claim_goes_with_its_process_and_counts_time(tmp_path) -> None:
    path = tmp_path / 'claim'
    code = f"""
import time
from pathlib import Path
from vasomim.benchmark.running.claims import Claim
with Claim(Path({str(path)!r})) as claim:
    print(claim is not None, flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == 'True\n'
    assert held(path)
    with Claim(path) as claim:
        assert claim is None
    process.kill()
    process.wait()
    assert not held(path)
    path.write_text(json.dumps({'host': None, 'seconds': 10.0}))
    with Claim(path) as claim:
        assert claim is not None and 10.0 <= claim.seconds < 11.0
    assert json.loads(path.read_text())['host'] is None


def test_another_machines_claim_counts_while_it_gives_signs_of_life(tmp_path) -> None:
    path = tmp_path / 'claim'
    path.write_text(json.dumps({'host': 'elsewhere', 'pid': 1, 'seconds': 5.0}))
    with Claim(path) as claim:
        assert claim is None
    os.utime(path, (time.time() - 1000, time.time() - 1000))
    with Claim(path) as claim:
        assert claim is not None and claim.seconds >= 5.0


def test_clocks_that_jump_neither_free_nor_block_a_cell(tmp_path, monkeypatch) -> None:
    path = tmp_path / 'claim'
    path.write_text(json.dumps({'host': 'elsewhere', 'pid': 1, 'seconds': 5.0}))
    monkeypatch.setattr(time, 'time', lambda: 0.0)  # Of this machine; the file system's goes on.
    assert held(path)
    monkeypatch.setattr(time, 'time', lambda: 10.0**10)
    assert held(path)
    ahead = path.stat().st_mtime + 10**6  # Written before the clock of the file system was set back.
    os.utime(path, (ahead, ahead))
    assert not held(path)
    with Claim(path) as claim:
        monkeypatch.setattr(time, 'time', lambda: 0.0)
        assert claim is not None and 5.0 <= claim.seconds < 6.0
