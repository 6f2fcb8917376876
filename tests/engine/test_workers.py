"""Errors of worker processes come out as they were raised."""

from __future__ import annotations

import os
import re
import signal

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


def test_memory_that_does_not_suffice_is_explained():
    found = worker_error(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...'))
    assert str(found).startswith('the accelerator: its memory does not suffice: CUDA out of memory.')
    assert 'batch_size' in found.cure


def test_others_are_left_alone():
    assert worker_error(raised_in_a_worker(RuntimeError('something else'))) is None
    assert worker_error(RuntimeError('shapes differ')) is None
