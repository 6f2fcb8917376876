"""Several real processes of one job: one of them claims and records, and all of them end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vasomim.benchmark.results.store import Store
from vasomim.benchmark.running.cells import BROKEN, DONE, TAKEN
from vasomim.benchmark.running.claims import Claim
from vasomim.benchmark.study.jobs import PRETRAIN, Job

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow

# Stands in for a training: the processes meet, and one may fail in the midst of it.
PROGRAM = """
import os, sys
from pathlib import Path

import pytest
from vasomim.benchmark.running import cells

def train(job):
    import torch
    torch.distributed.init_process_group('gloo')
    torch.distributed.barrier()
    if sys.argv[2] == os.environ['RANK']:
        raise MemoryError('no memory for a tensor')
    torch.distributed.barrier()

def pretrain(job):
    train(job)
    cells.encoder_of(job.folder).write_text('weights')
    return cells.file_sha256(cells.encoder_of(job.folder))

cells.train, cells.pretrain = train, pretrain
status = cells.execute(sys.argv[1])
# A file for each process: lines that both print at once may run into each other.
Path(sys.argv[1]).with_name('status' + os.environ['RANK']).write_text(str(status))
"""


def execute(folder: Path, broken: str = 'none') -> tuple[Job, list[int]]:
    """Let two processes carry out one job; return it with the status of each."""
    program = folder / 'program.py'
    program.write_text(PROGRAM)
    inputs = {'method': 'mae', 'seed': 0}
    job = Job(PRETRAIN, inputs, folder / 'work', folder / 'results', processes=2)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone', str(program)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    command += [str(job.write()), broken]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return job, [int((job.folder / f'status{rank}').read_text()) for rank in (0, 1)]


def test_one_process_claims_and_records_for_all(tmp_path) -> None:
    job, statuses = execute(tmp_path)
    assert statuses == [DONE, DONE]
    record = Store(job.results).pretrainings()[0]
    assert record.pretraining == job.name and record.cost['devices'] == 2


def test_all_leave_a_job_that_another_run_works_on(tmp_path) -> None:
    job = Job(PRETRAIN, {'method': 'mae', 'seed': 0}, tmp_path / 'work', tmp_path / 'results')
    with Claim(job.claim) as claim:
        assert claim is not None
        assert execute(tmp_path)[1] == [TAKEN, TAKEN]
    assert not Store(job.results).pretrainings(None)


def test_the_record_names_the_process_that_failed_first(tmp_path) -> None:
    job, statuses = execute(tmp_path, '1')
    assert statuses == [BROKEN, BROKEN]
    error = Store(job.results).pretrainings('failed')[0].error
    assert error is not None
    assert (error['kind'], error['message']) == ('OutOfMemory', 'process 1: no memory for a tensor')
