"""Cells that take no training: functions that entries of the tests name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from vasomim.benchmark.results.tables import Scores
from vasomim.benchmark.scoring.measures import Outcome
from vasomim.benchmark.study.jobs import Job

PF_EXITING = 0x4  # Among a process' flags once Linux has begun to end it, before its files are closed.
CASES = tuple(f'case{number}' for number in range(8))

ENTRIES = """
tasks:
  - {{name: fast, title: Fast, dataset: none, task: 'tests.benchmark.fakes:{function}'}}
methods:
  - {{name: one, title: One, kind: scratch}}
  - {{name: two, title: Two, kind: scratch}}
protocols:
  - name: tiny
    title: Tiny
    tasks: [fast]
    methods: [one, two]
    seeds: {seeds}
"""


def outcome(job: Job) -> Outcome:
    values = np.random.default_rng(job.inputs['seed']).random(len(CASES)) + (job.inputs['method'] == 'two')
    return Outcome({'DSC': float(values.mean())}, Scores(CASES, {'DSC': values / 2}, {}))


def quick(job: Job) -> Outcome:
    return outcome(job)


def slow(job: Job) -> Outcome:
    """Take 0.2 s, and leave marks by which a test sees two computations at once, or of what was finished."""
    assert not job.finished(), 'computed again'
    mark = Path(os.environ['FAKE_MARKS']) / job.name
    if mark.exists():
        owner = int(mark.read_text())
        assert not alive(owner), 'computed twice at once'
    mark.write_text(str(os.getpid()))
    time.sleep(0.2)
    return outcome(job)


def alive(pid: int) -> bool:
    """Whether a process computes. A killed one loses its locks first, and on a busy machine is gone much later."""
    try:
        state, *rest = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in 'ZX' and not int(rest[5]) & PF_EXITING


def one_is_killed(job: Job) -> Outcome:
    """As the system kills a process that takes too much memory; seed 1 runs out of memory politely."""
    if job.inputs['method'] == 'one' and job.inputs['seed'] == 0:
        print('working', flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.inputs['method'] == 'one':
        raise MemoryError('no memory for a tensor')
    return outcome(job)


def full_disk(job: Job) -> Outcome:
    """Make the store's writes fail as on a full disk, from the second seed on."""
    if job.inputs['seed'] == 1:
        from vasomim.benchmark.results import store

        def fsync(_: int) -> None:
            raise OSError(28, 'No space left on device')

        store.os.fsync = fsync
    return outcome(job)


def gated(job: Job) -> Outcome:
    """Wait for a file, but for the first seed."""
    while job.inputs['seed'] > 0 and not (Path(os.environ['FAKE_MARKS']) / 'go').exists():
        time.sleep(0.01)
    return outcome(job)


def interrupted(job: Job) -> Outcome:
    """At the first start, be told to make room; submitit starts the job again."""
    marks = Path(os.environ['FAKE_MARKS'])
    start = len(list(marks.iterdir()))
    (marks / str(start)).touch()
    if start == 0:
        os.kill(os.getpid(), signal.SIGUSR2)  # As Slurm does before the end of a job's time.
        time.sleep(60)
        raise AssertionError('not interrupted')
    return outcome(job)
