"""Anatomical consistency: the reconstruction keeps the vessels that the segmentor sees in the original."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from vasomim.registry import MODELS


def stack_anatomy(samples: Sequence[BaseDataElement]) -> Tensor:
    """The anatomy maps of a batch, uint8 (B, 1, H, W) in {0, 1}.

    Raises:
        ValueError: If there are no samples, or one carries no anatomy.
    """
    if not samples:
        raise ValueError('No data samples came with the frames, and with them no anatomy maps.')
    for sample in samples:
        if 'anatomy' not in sample:
            name = sample.metainfo.get('img_path', 'a sample')
            raise ValueError(
                f"{name} carries no anatomy map: set anatomy='precomputed' or 'on_the_fly' in the "
                'dataset, and keep LoadAnatomy in its pipeline.'
            )
    return torch.stack([sample.anatomy for sample in samples])


def vessel_guidance(anatomy: Tensor, vessels: Tensor | None, eta: float) -> Tensor:
    """Guidance G = eta B + (1 - eta) sigmoid(S(I)).

    Args:
        anatomy: Extracted vessels B in {0, 1}, (B, 1, H, W).
        vessels: Vessel probability of the segmentor in [0, 1], the same shape; not needed for eta = 1.
        eta: Weight of the extraction in [0, 1]; 1 is VasoMIM-v1.

    Returns:
        float (B, 1, H, W) in [0, 1].

    Source: arXiv 2602.11536; eta = 1: arXiv 2508.10794.
    """
    if vessels is None:
        return anatomy.float()
    return eta * anatomy.float() + (1 - eta) * vessels.float()


@MODELS.register_module()
class AnatomicalConsistencyLoss(nn.Module):
    """Binary cross-entropy between the vessels of the reconstruction and those of the original.

    BCE-with-logits(S(I'), sigmoid(S(I))), mean over the pixels. The gradient flows through S into I'; the weights of S
    are not this module's and stay untouched.

    Args:
        weight: Factor of the loss.

    Source: arXiv 2508.10794 and 2602.11536, anatomical consistency.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, vessels: Tensor) -> Tensor:
        """The loss of the segmentor's ``logits`` on the reconstruction against its ``vessels`` in the original.

        Args:
            logits: (B, 1, H, W).
            vessels: Probability in [0, 1], the same shape; treated as a constant.
        """
        return self.weight * F.binary_cross_entropy_with_logits(logits.float(), vessels.detach().float())
