"""Random numbers that depend on the place in a training alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader, Dataset

from vasomim.engine.seeding import with_seeds


class Drawn(Dataset):
    """Items of three random numbers, one from each generator that transforms may use."""

    metainfo = 'some'

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        import random

        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(1).item()], dtype=torch.float64)


def epoch(workers: int = 0, rank: int = 0, seed: int = 1, number: int = 0, start: int = 0) -> list[torch.Tensor]:
    dataset = Drawn()
    loader = DataLoader(dataset, 4, sampler=DefaultSampler(dataset, seed=5), num_workers=workers)
    seeded = with_seeds(loader, rank)
    seeded.batch_sampler.begin(seed, number, start)
    return list(seeded)


def test_an_item_is_drawn_alike_in_any_number_of_processes() -> None:
    batches = epoch()
    assert [len(batch) for batch in batches] == [4, 4, 2]
    for workers in (1, 3):
        assert all(torch.equal(one, other) for one, other in zip(batches, epoch(workers), strict=True))
    numbers = torch.cat(batches)[:, 1:]
    assert len(numbers.unique()) == numbers.numel()


@pytest.mark.parametrize('start', [1, 2, 3])
def test_an_epoch_is_taken_up_in_its_middle(start) -> None:
    assert all(torch.equal(one, other) for one, other in zip(epoch()[start:], epoch(start=start), strict=True))


@pytest.mark.parametrize('change', [{'rank': 1}, {'seed': 2}, {'number': 1}])
def test_another_rank_seed_or_epoch_draws_other_numbers(change) -> None:
    one, other = torch.cat(epoch()), torch.cat(epoch(**change))
    assert torch.equal(one[:, 0], other[:, 0])  # The order is the sampler's.
    assert not (one[:, 1:] == other[:, 1:]).any()


def test_all_else_is_that_of_the_data_set_inside() -> None:
    dataset = Drawn()
    seeded = with_seeds(DataLoader(dataset, 4))
    assert len(seeded) == 3 and seeded.batch_sampler.batch_size == 4
    assert seeded.dataset.metainfo == 'some' and not hasattr(seeded.dataset, 'other')
    assert seeded.dataset[3][0] == 3
