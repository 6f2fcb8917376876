from __future__ import annotations

import math

import pytest
import torch

from vasomim.masking import uniform_mask
from vasomim.models import AnatomicalConsistencyLoss, AngiogramPreprocessor, Evidence, MaskedBatch, ReconstructionHead
from vasomim.models.pretraining.consistency import consistency
from vasomim.models.pretraining.guidance import vessel_guidance
from vasomim.models.unext import soft_dice


def patches_of(frame: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Patches row by row, pixels row by row with their channels last, flattened."""
    rows, columns = frame.shape[1] // size, frame.shape[2] // size
    return [
        torch.stack(
            [
                frame[channel, row * size + y, column * size + x]
                for y in range(size)
                for x in range(size)
                for channel in range(3)
            ]
        )
        for row in range(rows)
        for column in range(columns)
    ]


@pytest.mark.parametrize(('norm_pix', 'criterion'), [(True, 'L2'), (False, 'L2'), (False, 'L1')])
def test_reconstruction_loss_against_loops(norm_pix: bool, criterion: str) -> None:
    torch.manual_seed(0)
    frames, mask = torch.randn(2, 3, 8, 8), torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1]])
    predictions = torch.randn(2, 4, 48)
    errors = []
    for image in range(2):
        for index, target in enumerate(patches_of(frames[image], 4)):
            if norm_pix:
                variance = ((target - target.mean()) ** 2).sum() / (len(target) - 1)
                target = (target - target.mean()) / math.sqrt(variance + 1e-6)
            if mask[image, index]:
                difference = predictions[image, index] - target
                errors.append(float((difference.abs() if criterion == 'L1' else difference**2).mean()))
    head = ReconstructionHead(norm_pix=norm_pix, patch_size=4, criterion=criterion)
    assert float(head.loss(predictions, frames, mask)) == pytest.approx(sum(errors) / 4, rel=1e-5)
    per_frame = head.loss_per_frame(predictions, frames, mask)
    per_patch = head.loss_per_patch(predictions, frames)
    assert per_patch[mask > 0].tolist() == pytest.approx(errors, rel=1e-5)
    assert per_frame.tolist() == pytest.approx([sum(errors[:2]) / 2, sum(errors[2:]) / 2], rel=1e-5)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_fold_gives_the_frame_back_for_a_perfect_prediction(norm_pix: bool) -> None:
    frames = torch.randn(2, 3, 32, 32)
    head = ReconstructionHead(norm_pix=norm_pix)
    torch.testing.assert_close(head.fold(head.construct_target(frames), frames), frames, rtol=0, atol=1e-5)


def test_consistency_against_the_definition_and_its_gradient() -> None:
    logits = torch.randn(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    vessels = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    loss = consistency(logits, vessels)
    terms = [
        -(v * math.log(1 / (1 + math.exp(-x))) + (1 - v) * math.log(1 - 1 / (1 + math.exp(-x))))
        for x, v in zip(logits.flatten().tolist(), vessels.flatten().tolist(), strict=True)
    ]
    assert float(loss.detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    loss.backward()
    assert vessels.grad is None
    torch.testing.assert_close(logits.grad, (logits.sigmoid() - vessels).detach() / 50, rtol=1e-4, atol=1e-7)


def test_guidance_mixes_extraction_and_segmentor() -> None:
    anatomy, vessels = torch.tensor([[[[1, 0]]]], dtype=torch.uint8), torch.tensor([[[[0.4, 0.2]]]])
    assert vessel_guidance(anatomy, vessels, 0.25).flatten().tolist() == pytest.approx([0.55, 0.15])
    assert vessel_guidance(anatomy, None, 1.0).flatten().tolist() == [1, 0]
    assert vessel_guidance(None, vessels, 0.0).flatten().tolist() == pytest.approx([0.4, 0.2])
    with pytest.raises(ValueError, match='Neither'):
        vessel_guidance(None, None, 0.5)


def test_the_consistency_term_asks_the_segmentor_for_the_whole_reconstruction() -> None:
    """Of a segmentor whose logit is the mean of the channels, in frames of one patch each."""

    class Mean:
        def logits(self, frames: torch.Tensor) -> torch.Tensor:
            return frames.mean(dim=1, keepdim=True)

    frames, patches = torch.randn(2, 3, 4, 4), torch.randn(2, 1, 48)
    vessels = torch.rand(2, 1, 4, 4)
    head = ReconstructionHead(norm_pix=False, patch_size=4)
    batch = MaskedBatch(frames, Evidence(vessels=vessels), uniform_mask(2, 4, 0.5), patches, head, Mean())
    logits = patches.reshape(2, 4, 4, 3).mean(dim=-1).unsqueeze(1)  # Row by row, channels last.
    expected = 2.0 * consistency(logits, vessels)
    torch.testing.assert_close(AnatomicalConsistencyLoss(weight=2.0)(batch), expected)


def test_soft_dice_against_the_definition() -> None:
    probability, target = torch.rand(2, 1, 3, 3), (torch.rand(2, 1, 3, 3) > 0.5).float()
    overlap = sum(p * t for p, t in zip(probability.flatten().tolist(), target.flatten().tolist(), strict=True))
    expected = (2 * overlap + 1e-5) / (float(probability.sum()) + float(target.sum()) + 1e-5)
    assert float(soft_dice(probability, target)) == pytest.approx(expected, rel=1e-5)
    assert float(soft_dice(torch.zeros(4), torch.zeros(4))) == 1


def test_preprocessor_normalizes_and_back() -> None:
    preprocessor = AngiogramPreprocessor()
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    frames = preprocessor.normalize(grey)
    assert float(frames[0, 1, 0, 7]) == pytest.approx((7 / 255 - 0.456) / 0.224, abs=1e-6)
    assert torch.equal(preprocessor.denormalize(frames), grey[:, 0])
