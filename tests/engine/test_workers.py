"""Errors of worker processes come out as they were raised."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, Dataset

from vasomim.engine.workers import worker_error
from vasomim.errors import DatasetError


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


def test_others_are_left_alone():
    assert worker_error(raised_in_a_worker(RuntimeError('something else'))) is None
    assert worker_error(RuntimeError('CUDA out of memory')) is None
