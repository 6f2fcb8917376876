"""Overlap losses of segmentation: soft Dice and soft clDice."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vasomim import compat

compat.prepare()

from mmseg.registry import MODELS  # noqa: E402


@MODELS.register_module()
class SoftDiceLoss(nn.Module):
    """One minus the soft Dice coefficient, averaged over the foreground classes.

    mmseg's ``DiceLoss`` compares a single logit with the background, so that it cannot train one.

    Args:
        over_batch: Sum a class over the whole batch, as suits classes that few frames show; else per frame.
        smooth: Pixels added to numerator and denominator, > 0: an empty prediction of an empty mask costs nothing.
        loss_weight: Factor.
        loss_name: Name in the log.

    Source: V-Net (arXiv 1606.04797), with first powers in the denominator.
    """

    def __init__(
        self,
        over_batch: bool = False,
        smooth: float = 1.0,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_dice',
    ) -> None:
        super().__init__()
        self.over_batch, self.smooth = over_batch, smooth
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, logits: Tensor, labels: Tensor, weight: None = None, ignore_index: int = 255) -> Tensor:
        """Return the loss.

        Args:
            logits: (B, 1, H, W) for one class, or (B, classes, H, W) with the background first.
            labels: Class indices, (B, H, W).
            weight: Always None, which mmseg's heads pass where they sample no pixels.
            ignore_index: Label of pixels that do not count.

        Raises:
            ValueError: If pixels have weights.
        """
        unweighted(weight)
        predicted, true = foreground(logits, labels, ignore_index)
        axes = (0, 2, 3) if self.over_batch else (2, 3)
        overlap, total = (predicted * true).sum(axes), predicted.sum(axes) + true.sum(axes)
        return self.loss_weight * (1 - (2 * overlap + self.smooth) / (total + self.smooth)).mean()


@MODELS.register_module()
class SoftCenterlineDiceLoss(nn.Module):
    """One minus soft clDice: do the soft centerlines of prediction and truth lie inside the other's vessels?

    An addition to Dice for vessels, not a loss of its own: it does not see their width.

    Args:
        iterations: Erosions of the soft skeleton, at least half the width of the widest vessel in pixels.
        smooth: Pixels added to numerator and denominator, > 0.
        loss_weight: Factor.
        loss_name: Name in the log.

    Source: clDice (Shit et al., CVPR 2021), section 3: soft skeleton by repeated minimum and maximum pooling.
    """

    def __init__(
        self,
        iterations: int = 8,
        smooth: float = 1.0,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_cldice',
    ) -> None:
        super().__init__()
        self.iterations, self.smooth = iterations, smooth
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, logits: Tensor, labels: Tensor, weight: None = None, ignore_index: int = 255) -> Tensor:
        """Return the loss; arguments as in :meth:`SoftDiceLoss.forward`."""
        unweighted(weight)
        predicted, true = foreground(logits, labels, ignore_index)
        axes = (2, 3)
        lines = soft_skeleton(predicted, self.iterations), soft_skeleton(true, self.iterations)
        precision = ((lines[0] * true).sum(axes) + self.smooth) / (lines[0].sum(axes) + self.smooth)
        sensitivity = ((lines[1] * predicted).sum(axes) + self.smooth) / (lines[1].sum(axes) + self.smooth)
        return self.loss_weight * (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()


def unweighted(weight: Tensor | None) -> None:
    """Refuse weights of pixels."""
    if weight is not None:
        raise ValueError('overlap losses take no weights of pixels: leave `sampler` out of the head')


def foreground(logits: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return probabilities and truth of the foreground classes, (B, classes without background, H, W) in [0, 1]."""
    counted = (labels != ignore_index).unsqueeze(1)
    logits = logits.float()
    classes = logits.shape[1]
    probability = logits.sigmoid() if classes == 1 else logits.softmax(dim=1)[:, 1:]
    indices = torch.arange(1, max(2, classes), device=labels.device).view(1, -1, 1, 1)
    return probability * counted, (labels.unsqueeze(1) == indices).float() * counted


def soft_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """Thin maps in [0, 1], (B, C, H, W), to soft centerlines: what each erosion loses to an opening, collected."""
    skeleton = functional.relu(maps - dilated(eroded(maps)))
    for _ in range(iterations):
        maps = eroded(maps)
        lost = functional.relu(maps - dilated(eroded(maps)))
        skeleton = skeleton + functional.relu(lost - skeleton * lost)
    return skeleton


def eroded(maps: Tensor) -> Tensor:
    """Minimum over each pixel's row and column neighbors."""
    along = -functional.max_pool2d(-maps, (3, 1), 1, (1, 0)), -functional.max_pool2d(-maps, (1, 3), 1, (0, 1))
    return torch.minimum(*along)


def dilated(maps: Tensor) -> Tensor:
    """Maximum over each pixel's 3 x 3 neighborhood."""
    return functional.max_pool2d(maps, 3, 1, 1)
