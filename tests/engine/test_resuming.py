"""Checkpoints to resume from whose weights are sound and whose training state is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vasomim.engine import PretrainRunner
from vasomim.errors import CheckpointError


@pytest.fixture
def saved(toy, tmp_path: Path) -> Path:
    PretrainRunner(**toy.config(tmp_path / 'saved', epochs=1)).train()
    return tmp_path / 'saved' / 'epoch_1.pth'


@pytest.mark.parametrize(
    'change',
    [
        {'meta': {'epoch': 'x'}},
        {'meta': {'epoch': -1}},
        {'meta': {'iter': 1.5}},
        {'meta': {'iter': None}},
        {'meta': {'seed': 'x'}},
        {'meta': {'seed': 1 << 40}},
        {'meta': {'position': 'x'}},
        {'meta': []},
        {'message_hub': 3},
        {'message_hub': {}},
        {'optimizer': []},
        {'optimizer': {'param_groups': [{'lr': 'x'}]}},
        {'optimizer': {'param_groups': [{'lr': float('nan')}]}},
        {'optimizer': {'state': {}, 'param_groups': []}},
        {'param_schedulers': [3]},
        {'param_schedulers': 3},
        {'state_dict': []},
        {'state_dict': {'backbone.weight': 'x'}},
    ],
    ids=str,
)
def test_a_damaged_state_is_refused(change: dict, saved: Path, toy, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=False)
    for key, value in change.items():
        content[key] = {**content[key], **value} if key == 'meta' and value else value
    torch.save(content, tmp_path / 'epoch_1.pth')
    options = dict(epochs=2, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    runner = PretrainRunner(**toy.config(tmp_path / 'run', **options))
    with pytest.raises(CheckpointError, match=r'epoch_1\.pth'):
        runner.train()


def test_weights_alone_are_loaded_and_not_resumed(saved: Path, toy, tmp_path: Path) -> None:
    weights = torch.load(saved, weights_only=False)['state_dict']
    torch.save(weights, tmp_path / 'weights.pth')
    options = dict(epochs=1, load_from=str(tmp_path / 'weights.pth'))
    with pytest.raises(CheckpointError, match='no state of a training'):
        PretrainRunner(**toy.config(tmp_path / 'resumed', resume=True, **options)).train()
    runner = PretrainRunner(**toy.config(tmp_path / 'loaded', **options))
    runner.load_or_resume()
    assert all(torch.equal(value, weights[name]) for name, value in runner.model.state_dict().items())
