from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from vasomim.masking import (
    AnatomyMasking,
    MaskPlan,
    MaskRequest,
    UniformMasking,
    block_mask,
    guided_mask,
    mask_to_pixels,
    masked_count,
    pool_guidance,
    uniform_mask,
    weak_to_strong,
)


def inclusion_probabilities(weights: list[float], draws: int, masked: int) -> np.ndarray:
    """Chance of each patch to be masked, by enumerating every order of the guided draws and the uniform rest."""
    size = len(weights)
    candidates = [index for index, weight in enumerate(weights) if weight > 0]
    draws = min(draws, len(candidates))
    chance = np.zeros(size)
    for order in itertools.permutations(candidates, draws):
        probability, left = 1.0, sum(weights)
        for index in order:
            probability *= weights[index] / left
            left -= weights[index]
        rest = [index for index in range(size) if index not in order]
        chance[list(order)] += probability
        chance[rest] += probability * (masked - draws) / len(rest)
    return chance


@pytest.mark.parametrize(
    ('weights', 'ratio', 'strength'),
    [
        ([5.0, 1.0, 0.5, 0.0, 0.0, 2.0, 0.1, 0.0], 0.5, 0.5),
        ([5.0, 1.0, 0.5, 0.0, 0.0, 2.0, 0.1, 0.0], 0.75, 1.0),  # six asked, five have vessels
        ([0.0, 0.0, 3.0, 0.0, 0.0, 0.0], 0.5, 1.0),  # three asked, one has vessels
        ([0.0] * 6, 0.5, 1.0),  # no vessel at all
        ([1.0, 2.0, 3.0, 4.0], 0.5, 0.0),  # no guidance
    ],
)
def test_guided_mask_draws_with_the_enumerated_probabilities(
    weights: list[float], ratio: float, strength: float
) -> None:
    draws = 60_000
    guidance = torch.tensor(weights).expand(draws, -1)
    plan = guided_mask(guidance, ratio, strength, torch.Generator().manual_seed(1))
    masked = len(weights) - int(len(weights) * (1 - ratio))
    expected = inclusion_probabilities(weights, int(strength * masked), masked)
    error = np.sqrt(np.maximum(expected * (1 - expected), 1 / draws) / draws)
    assert np.all(np.abs(plan.mask.double().mean(dim=0).numpy() - expected) <= 4.5 * error)
    assert torch.all(plan.mask.sum(dim=1) == masked)


def test_rows_are_masked_independently() -> None:
    guidance = torch.zeros(3, 10)
    guidance[0, :5] = 1
    guidance[2, 5:] = 1
    plan = guided_mask(guidance.repeat(2000, 1), 0.5, 1.0, torch.Generator().manual_seed(0))
    frequency = plan.mask.reshape(2000, 3, 10).mean(dim=0)
    assert torch.equal(frequency[0], guidance[0])
    assert torch.equal(frequency[2], guidance[2])
    assert torch.all((frequency[1] - 0.5).abs() < 0.06)


def assert_consistent(plan: MaskPlan) -> None:
    batch, patches = plan.mask.shape
    kept = plan.ids_keep.shape[1]
    for row in range(batch):
        visible = [int(index) for index in plan.ids_keep[row]]
        assert sorted(visible) == [index for index in range(patches) if plan.mask[row, index] == 0]
        assert [int(plan.ids_restore[row, index]) for index in visible] == list(range(kept))
        assert sorted(plan.ids_restore[row].tolist()) == list(range(patches))


@pytest.mark.parametrize('ratio', [0.02, 0.5, 0.75, 0.97])
def test_plans_are_consistent(ratio: float) -> None:
    guidance = torch.rand(4, 49, generator=torch.Generator().manual_seed(3))
    assert_consistent(guided_mask(guidance, ratio, 0.5))
    assert_consistent(uniform_mask(4, 49, ratio))


def test_block_mask_hides_whole_units() -> None:
    plan = block_mask(8, (6, 4), ratio=0.5, unit=2)
    assert_consistent(plan)
    units = plan.mask.reshape(8, 3, 2, 2, 2).permute(0, 1, 3, 2, 4).reshape(8, 6, 4)
    assert torch.all((units.sum(dim=2) == 0) | (units.sum(dim=2) == 4))
    assert torch.all(plan.mask.sum(dim=1) == 12)


@pytest.mark.parametrize(
    ('patches', 'ratio', 'expected'),
    [(196, 0.5, 98), (196, 0.75, 147), (256, 0.75, 192), (49, 0.6, 30), (10, 0.01, 1), (196, 0.99, 195)],
)
def test_masked_count(patches: int, ratio: float, expected: int) -> None:
    assert masked_count(patches, ratio) == expected


@pytest.mark.parametrize('ratio', [0.0, 1.0, -0.1, math.nan])
def test_a_ratio_outside_of_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match='mask ratio'):
        uniform_mask(1, 16, ratio)


def test_a_ratio_that_hides_everything_is_refused() -> None:
    with pytest.raises(ValueError, match='hides 4 of 4 patches'):
        uniform_mask(1, 4, 0.9)


@pytest.mark.parametrize('value', [math.nan, -1.0])
def test_bad_guidance_is_refused(value: float) -> None:
    guidance = torch.ones(2, 8)
    guidance[1, 3] = value
    with pytest.raises(ValueError, match='NaN or negative'):
        guided_mask(guidance, 0.5, 0.5)
    with pytest.raises(ValueError, match='strength'):
        guided_mask(torch.ones(2, 8), 0.5, 1.5)


def test_a_device_without_the_check_that_does_not_wait_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(condition: torch.Tensor) -> None:
        raise NotImplementedError

    monkeypatch.setattr(torch, '_assert_async', missing)
    assert guided_mask(torch.ones(2, 8), 0.5, 0.5).mask.shape == (2, 8)
    with pytest.raises(ValueError, match='NaN or negative'):
        guided_mask(-torch.ones(2, 8), 0.5, 0.5)


def test_pool_guidance_sums_patches_row_by_row() -> None:
    guidance = torch.rand(2, 1, 12, 8)
    pooled = pool_guidance(guidance, 4)
    for image in range(2):
        for row in range(3):
            for column in range(2):
                patch = guidance[image, 0, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
                assert pooled[image, row * 2 + column] == pytest.approx(float(patch.sum()), rel=1e-5)
    with pytest.raises(ValueError, match='not divisible'):
        pool_guidance(guidance, 5)


def test_mask_to_pixels_undoes_pooling() -> None:
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    pixels = mask_to_pixels(mask, (3, 2), 4)
    assert pixels.shape == (1, 1, 12, 8)
    assert torch.equal(pool_guidance(pixels, 4), mask * 16)


def test_strength_grows_linearly() -> None:
    assert [weak_to_strong(epoch / 4, 0.1, 0.5) for epoch in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_modules_check_their_arguments() -> None:
    for arguments in ({'ratio': 1.0}, {'start': -0.1}, {'end': 1.1}):
        with pytest.raises(ValueError, match='AnatomyMasking'):
            AnatomyMasking(**arguments)
    for arguments in ({'ratio': 0.0}, {'unit': 0}):
        with pytest.raises(ValueError, match='UniformMasking'):
            UniformMasking(**arguments)
    with pytest.raises(ValueError, match='units of 4 x 4'):
        UniformMasking(unit=4)(MaskRequest(1, (14, 14)))


def request(guidance: torch.Tensor | None = None, **changes) -> MaskRequest:
    generator = torch.Generator().manual_seed(4)
    return MaskRequest(**{'batch': 60_000, 'grid': (4, 2), 'guidance': guidance, 'generator': generator, **changes})


def test_every_module_answers_one_request() -> None:
    guidance = torch.rand(60_000, 8)
    for masking in (
        UniformMasking(ratio=0.5),
        UniformMasking(ratio=0.5, unit=2),
        AnatomyMasking(ratio=0.5),
        AnatomyMasking(ratio=0.5, unit=2),
    ):
        plan, again = masking(request(guidance, progress=0.5)), masking(request(guidance, progress=0.5))
        assert plan.mask.shape == (60_000, 8) and torch.all(plan.mask.sum(dim=1) == 4)
        assert torch.equal(plan.mask, again.mask)  # The request's generator is the only source of randomness.


def test_the_strength_of_guided_masks_follows_the_progress() -> None:
    weights = [5.0, 1.0, 0.5, 0.0, 0.0, 2.0, 0.1, 0.0]
    guidance = torch.tensor(weights).expand(60_000, -1)
    masking = AnatomyMasking(ratio=0.5, start=0.0, end=1.0)
    for progress, draws in ((0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)):
        expected = inclusion_probabilities(weights, draws, 4)
        found = masking(request(guidance, progress=progress)).mask.double().mean(dim=0).numpy()
        assert np.abs(found - expected).max() < 0.01, progress
    with pytest.raises(RuntimeError, match='progress'):
        masking(request(guidance))
    constant = AnatomyMasking(start=0.5, end=0.5)
    assert torch.equal(constant(request(guidance)).mask, constant(request(guidance, progress=0.1)).mask)
    with pytest.raises(ValueError, match='no guidance'):
        masking(request(progress=0.5))


def test_guided_units_are_drawn_by_the_sum_of_their_patches() -> None:
    # Six units of 2 x 2 patches, in three rows of two; their sums are 4, 0, 1, 2, 0 and 0.5.
    patches = torch.zeros(6, 4)
    patches[:2, :2] = 1.0
    patches[2, 0] = 1.0
    patches[3, 2:] = 1.0
    patches[5, 3] = 0.5
    masking = AnatomyMasking(ratio=0.5, start=1.0, end=1.0, unit=2)
    plan = masking(request(patches.flatten().expand(60_000, -1), grid=(6, 4)))
    assert_consistent(MaskPlan(plan.mask[:4], plan.ids_keep[:4], plan.ids_restore[:4]))
    units = plan.mask.reshape(-1, 3, 2, 2, 2).permute(0, 1, 3, 2, 4).flatten(3)
    assert torch.all((units.sum(dim=-1) == 0) | (units.sum(dim=-1) == 4))
    expected = inclusion_probabilities([4.0, 0.0, 1.0, 2.0, 0.0, 0.5], 3, 3)
    found = units[..., 0].double().mean(dim=0).flatten().numpy()
    assert np.abs(found - expected).max() < 0.01
