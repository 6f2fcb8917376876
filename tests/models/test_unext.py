from __future__ import annotations

import hashlib

import cv2
import pytest
import torch

from vasomim.checkpoints.runs import SHIPPED
from vasomim.evaluation import dice
from vasomim.models import AngiogramPreprocessor, UNeXt
from vasomim.models.unext import SHIFTS, shift_channels
from vasomim.registry import MODELS
from vasomim.synthetic import simulate_frame

from .builders import batch


@pytest.mark.parametrize('dim', [2, 3])
def test_shift_against_a_loop(dim: int) -> None:
    features = torch.randn(2, 12, 5, 6)
    group_of = [index for index, group in enumerate(torch.arange(12).chunk(5)) for _ in group]
    expected = torch.zeros_like(features)
    for channel in range(12):
        for position in range(features.shape[dim]):
            source = position - SHIFTS[group_of[channel]]
            if 0 <= source < features.shape[dim]:
                expected[:, channel].select(dim - 1, position).copy_(features[:, channel].select(dim - 1, source))
    assert torch.equal(shift_channels(features, dim), expected)


def test_size_is_that_of_unext_small() -> None:
    model = UNeXt()
    tensors = model.state_dict().values()
    assert len(tensors) == 101
    assert sum(tensor.numel() for tensor in tensors) == 253_920


def test_logits_have_the_size_of_the_frame() -> None:
    model = UNeXt().eval()
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)
    with pytest.raises(ValueError, match='divisible by 32'):
        model(torch.zeros(1, 3, 60, 96))
    with pytest.raises(ValueError, match='unknown mode'):
        model(torch.zeros(1, 3, 64, 64), [], mode='los')


def test_convolutions_start_with_the_variance_of_he_by_what_a_value_feeds() -> None:
    torch.manual_seed(0)
    convolutions = {name: item for name, item in UNeXt().named_modules() if isinstance(item, torch.nn.Conv2d)}
    assert {item.groups > 1 for item in convolutions.values()} == {True, False}
    for name, item in convolutions.items():
        feeds = item.kernel_size[0] * item.kernel_size[1] * item.out_channels / item.groups
        if item.weight.numel() > 500:
            assert item.weight.std().item() == pytest.approx((2 / feeds) ** 0.5, rel=0.1), name


def test_it_learns_to_find_dark_lines() -> None:
    torch.manual_seed(0)
    frames, samples = batch(4)
    for index, sample in enumerate(samples):
        sample.anatomy.zero_()
        sample.anatomy[0, :, 10 * index + 8 : 10 * index + 14] = 1
        frames[index] = 0.1 * frames[index] - 3 * sample.anatomy
    model = MODELS.build(dict(type='UNeXt')).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        sum(model(frames, samples, mode='loss').values()).backward()
        optimizer.step()
    found = torch.stack([sample.pred_vessels for sample in model.eval()(frames, samples, mode='predict')])
    truth = torch.stack([sample.anatomy for sample in samples]).bool()
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_own_weights_survive_initialization_but_random_ones_take_the_config() -> None:
    model = MODELS.build(dict(type='UNeXt', init_cfg=dict(type='Constant', layer='Linear', val=2.0)))
    model.init_weights()
    assert torch.all(model.tokens[0].block.fc1.weight == 2)


def test_shipped_weights_are_those_of_their_card() -> None:
    card = (SHIPPED / 'README.md').read_text(encoding='utf-8')
    digest = hashlib.sha256((SHIPPED / 'unext_s.safetensors').read_bytes()).hexdigest()
    assert digest in card


def test_shipped_weights_find_simulated_vessels() -> None:
    model, preprocessor = UNeXt(weights='unext_s').eval(), AngiogramPreprocessor()
    scores = []
    for seed in range(5000, 5006):
        frame = simulate_frame(seed)
        small = cv2.resize(frame.image, (224, 224), interpolation=cv2.INTER_AREA)
        truth = cv2.resize(frame.vessels, (224, 224), interpolation=cv2.INTER_NEAREST)
        found = model.probability(preprocessor.normalize(torch.from_numpy(small)[None, None])) >= 0.5
        scores.append(dice(found.numpy()[0, 0], truth))
    assert sum(scores) / len(scores) > 0.4  # Chance is below 0.1: vessels cover a twentieth of a frame.


def test_mixed_precision_does_not_reach_the_segmentor() -> None:
    model = UNeXt().eval()
    frames = torch.randn(1, 3, 64, 64)
    expected = model.probability(frames)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = model.probability(frames)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
