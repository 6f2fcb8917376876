"""Errors of worker processes come out as they were raised."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from vasomim.engine.workers import worker_error
from vasomim.errors import DatasetError, TrainingError


class Damaged(Dataset):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> None:
        try:
            raise DatasetError('first.png', 'the cause.', 'Of the other.')
        except DatasetError as cause:
            raise self.error from cause


def raised_in_a_worker(error: Exception) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Damaged(error), num_workers=1))
    return caught.value


def test_an_error_of_ours_is_restored():
    error = DatasetError('a folder/frame 3.png', 'cut short: 300 bytes.', 'Copy it again.\n  Or remove it.')
    found = worker_error(raised_in_a_worker(error))
    assert type(found) is DatasetError
    assert str(found) == str(error)
    assert (found.where, found.what, found.cure) == (error.where, error.what, error.cure)


class Dying(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_was_killed_is_named_with_its_cure():
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Dying(), num_workers=1))
    found = worker_error(caught.value)
    assert type(found) is TrainingError
    assert re.search(r'a worker process \(pid \d+\) died', str(found))
    assert 'num_workers' in found.cure and '--resume' in found.cure


SMALL = """
import subprocess, sys, torch
from torch.utils.data import DataLoader
from vasomim.engine.workers import check_shared_memory, explained
from vasomim.errors import TrainingError
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=' + sys.argv[1], 'tmpfs', '/dev/shm'], check=True)
try:
    with explained('train_dataloader'):
        if sys.argv[1] == '64k':
            check_shared_memory()
        list(DataLoader(torch.zeros(64, 1000, 1000), num_workers=1, batch_size=8))
except TrainingError as error:
    print(error.where, error.cure)
"""


@pytest.mark.parametrize('size', ['64k', '4m'])
def test_shared_memory_that_is_full_has_its_own_cure(size):
    """Before the start where there is hardly any, else when a worker dies of it, by a bus error."""
    if subprocess.run(['unshare', '-m', 'true'], check=False, capture_output=True).returncode:
        pytest.skip('no right to mount')
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    command = ['unshare', '-m', sys.executable, '-c', SMALL, size]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert '/dev/shm' in done.stdout and 'train_dataloader.num_workers=0' in done.stdout, done.stdout + done.stderr


def test_memory_that_does_not_suffice_is_explained():
    found = worker_error(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...'))
    assert str(found).startswith('the accelerator: its memory does not suffice: CUDA out of memory.')
    assert 'batch_size' in found.cure


def test_others_are_left_alone():
    assert worker_error(raised_in_a_worker(RuntimeError('something else'))) is None
    assert worker_error(RuntimeError('shapes differ')) is None


SIGNALS = """
import builtins, os, signal, subprocess, sys, time
from torch.utils.data import DataLoader
from vasomim.engine.seeding import start_worker
loader = DataLoader(range(8), num_workers=1, worker_init_fn=start_worker, prefetch_factor=1)
builtins.kept = iterator = iter(loader)  # As the traceback of an error keeps it until Python has ended.
next(iterator)
worker = iterator._workers[0]
subprocess.run(['kill', '-TERM', str(worker.pid)], check=True)
found = [int(batch) for batch in iterator] if sys.argv[1] == 'read on' else worker.is_alive()
print(found, flush=True)
"""


@pytest.mark.parametrize(('then', 'printed'), [('read on', '[1, 2, 3, 4, 5, 6, 7]'), ('leave', 'True')])
def test_a_signal_to_a_worker_counts_only_if_its_parent_sends_it(then, printed):
    """One that ignored it would hold the parent up forever when that ends with an error, and waits for its workers."""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    command = [sys.executable, '-c', SIGNALS, then]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.strip() == printed, done.stdout + done.stderr
