"""Checkpoints of earlier versions load, with the losses that the code of their time gave.

``earlier.json`` was written by the last commit before methods became compositions: for each model its config, a hash of
its tensors' names and shapes, and its losses with the weights and the batch that are made here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from mmpretrain.structures import DataSample

from vasomim.checkpoints.building import load_model
from vasomim.models import MaskedImageModeling
from vasomim.registry import MODELS

CASES = json.loads(Path(__file__).with_name('earlier.json').read_text(encoding='utf-8'))


def known_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights that depend on the names of the tensors alone."""
    state = {}
    for name, tensor in sorted(model.state_dict().items()):
        generator = torch.Generator().manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
        drawn = torch.randn(tensor.shape, generator=generator) * 0.4
        drawn = drawn.abs() + 0.5 if name.endswith('running_var') else drawn
        state[name] = drawn if tensor.is_floating_point() else tensor
    return state


def known_batch() -> tuple[torch.Tensor, list[DataSample]]:
    generator = torch.Generator().manual_seed(11)
    samples = []
    for index in range(3):
        sample = DataSample(metainfo={'sample_idx': index, 'img_path': f'{index}.png'})
        anatomy = (torch.rand(1, 64, 64, generator=generator) > 0.9).to(torch.uint8)
        sample.set_field(anatomy, 'anatomy', field_type='data')
        samples.append(sample)
    return torch.randn(3, 3, 64, 64, generator=generator), samples


@pytest.mark.parametrize('name', CASES)
def test_a_checkpoint_of_then_gives_the_losses_of_then(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    state = known_weights(MODELS.build(case['config']))
    listed = json.dumps([[key, list(tensor.shape)] for key, tensor in sorted(state.items())])
    assert len(state) == case['tensors'] and hashlib.sha256(listed.encode()).hexdigest() == case['names']
    text = f"default_scope = 'mmpretrain'\nmodel = {case['config']!r}\n"
    torch.save({'meta': {'cfg': text}, 'state_dict': state}, tmp_path / 'epoch_1.pth')
    model = load_model(tmp_path / 'epoch_1.pth')
    assert isinstance(model, MaskedImageModeling)
    frames, samples = known_batch()
    model.progress = 1.0
    torch.manual_seed(5)
    with torch.no_grad():
        losses = {key: float(value) for key, value in model(frames, samples, mode='loss').items()}
        held_out = [float(sample.loss_rec) for sample in model(frames, samples, mode='predict')]
    assert losses == pytest.approx(case['losses'], rel=1e-5)
    assert held_out == pytest.approx(case['held_out'], rel=1e-5)
