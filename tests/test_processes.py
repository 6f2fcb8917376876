"""Work in several processes: what comes back, what an error and a death of one cost, and what outlives what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from vasomim.cores import cores
from vasomim.errors import ConfigError, DatasetError
from vasomim.processes import AHEAD, for_each, number_of


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def fail_at(bad: int, folder: Path, number: int) -> None:
    if number == bad:
        raise DatasetError(str(number), 'it is damaged.', 'Mend it.')
    (folder / str(number)).write_text('')


def die_at(bad: int, number: int) -> int:
    if number == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(folder: Path, number: int) -> None:
    (folder / f'{number}.{os.getpid()}').write_text('')
    time.sleep(100)


def test_each_task_has_its_result_under_its_place():
    tasks = list(range(100, 140))
    found = list(for_each(square, tasks, 2, 'here'))
    assert sorted((place, result) for place, (result, _) in found) == [(k, (k + 100) ** 2) for k in range(40)]
    workers = Counter(pid for _, (_, pid) in found)
    assert len(workers) == 2 and os.getpid() not in workers


@pytest.mark.parametrize(('isolate', 'here'), [(False, True), (True, False)])
def test_a_single_process_is_this_one_only_if_that_may_die(isolate, here):
    ((place, (result, pid)),) = for_each(square, [3], 4, 'here', isolate)
    assert (place, result, pid == os.getpid()) == (0, 9, here)


def test_a_single_process_gives_the_results_in_order():
    assert [place for place, _ in for_each(square, range(300), 1, 'here')] == list(range(300))


def test_nothing_to_do_starts_nothing():
    assert list(for_each(square, [], 4, 'here')) == []


def test_an_error_ends_it_with_what_was_not_begun_left_undone(tmp_path):
    with pytest.raises(DatasetError, match='damaged'):
        list(for_each(partial(fail_at, 0, tmp_path), range(200), 2, tmp_path))
    assert len(list(tmp_path.iterdir())) < 200 - AHEAD


def test_the_death_of_a_process_is_an_error_that_names_the_files():
    with pytest.raises(DatasetError) as caught:
        list(for_each(partial(die_at, 5), range(20), 2, 'these/files'))
    assert caught.value.where == 'these/files'


def test_a_caller_that_stops_early_leaves_no_process():
    ((_, (_, pid)),) = [next(iter(found := for_each(square, range(50), 1, 'here')))]
    found.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        'import sys\nfrom functools import partial\nfrom pathlib import Path\n'
        'from tests.test_processes import sleep\nfrom vasomim.processes import for_each\n'
        'if __name__ == "__main__":\n    list(for_each(partial(sleep, Path(sys.argv[1])), range(2), 2, "here"))\n'
    )
    (tmp_path / 'main.py').write_text(code)
    (tmp_path / 'marks').mkdir()
    root = str(Path(__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / 'main.py'), str(tmp_path / 'marks')], env={**os.environ, 'PYTHONPATH': root}
    )
    while len(marks := list((tmp_path / 'marks').iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    for pid in (int(mark.suffix[1:]) for mark in marks):
        while Path(f'/proc/{pid}').exists() and 'Z (' not in Path(f'/proc/{pid}/status').read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_number_of_processes():
    assert (number_of(None), number_of(3)) == (cores(), 3)
    with pytest.raises(ConfigError, match='jobs'):
        number_of(0)
