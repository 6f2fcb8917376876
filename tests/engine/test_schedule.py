from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from vasomim.engine.schedule import WarmupCosineLR
from vasomim.registry import PARAM_SCHEDULERS


def rates(total: int, **options) -> list[float]:
    """Learning rates of the steps of a training, by stepping the scheduler as the engine does."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = WarmupCosineLR(optimizer, end=total, **options)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_then_cosine() -> None:
    found = rates(40, warmup=0.1)
    expected = [2.0 * (step + 1) / 4 for step in range(4)]
    expected += [1.0 * (1 + math.cos(math.pi * (step - 4) / 36)) for step in range(4, 40)]
    assert found == pytest.approx(expected)


def test_without_warm_up() -> None:
    assert rates(10, warmup=0.0)[0] == pytest.approx(2.0)


@pytest.mark.parametrize('epochs', [1, 3, 800])
def test_it_follows_the_length_of_the_training_in_steps(epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    config = dict(type='WarmupCosineLR', warmup=0.05, by_epoch=True, end=epochs, convert_to_iter_based=True)
    scheduler = PARAM_SCHEDULERS.build(
        config,
        default_args=dict(optimizer=optimizer, epoch_length=10),
    )
    assert not scheduler.by_epoch
    assert scheduler.end == 10 * epochs
    assert scheduler.warmup_steps == pytest.approx(0.5 * epochs)


def test_bad_arguments_are_refused() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    with pytest.raises(ValueError, match='warmup'):
        WarmupCosineLR(optimizer, warmup=1.0, end=10)
    with pytest.raises(ValueError, match='end of the training is unknown'):
        WarmupCosineLR(optimizer)
    with pytest.raises(ValueError, match='length of an epoch'):
        WarmupCosineLR.build_iter_from_epoch(optimizer, end=10)


@pytest.mark.parametrize('epochs', [1, 7, 200])
def test_the_segmentors_rate_follows_the_published_formula(epochs: int) -> None:
    config = Config.fromfile(Path(__file__).parents[2] / 'configs/segmentor/unext_s.py').param_scheduler[0]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=optimizer, end=epochs))
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx([1e-3 * (1 - epoch / epochs) ** 0.9 for epoch in range(epochs)])
    assert min(found) > 0
