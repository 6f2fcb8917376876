"""Anatomical consistency: the reconstruction keeps the vessels that the segmentor sees in the original."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vasomim.models.pretraining.evidence import MaskedBatch
from vasomim.models.pretraining.parts import LossTerm
from vasomim.registry import MODELS


@MODELS.register_module()
class AnatomicalConsistencyLoss(LossTerm):
    """Binary cross-entropy between the vessels of the reconstruction and those of the original.

    Args:
        weight: Factor of the loss.

    Source: arXiv 2508.10794 and 2602.11536, anatomical consistency.
    """

    needs = ('segmentor',)

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, batch: MaskedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        assert batch.evidence.vessels is not None
        return self.weight * consistency(batch.vessel_logits, batch.evidence.vessels)


def consistency(logits: Tensor, vessels: Tensor) -> Tensor:
    """BCE-with-logits(S(I'), sigmoid(S(I))), mean over the pixels.

    The gradient flows through S into I'; the weights of S are frozen.

    Args:
        logits: S(I'), of the segmentor on the reconstruction, (B, 1, H, W).
        vessels: Its probability in the original, in [0, 1], the same shape; treated as a constant.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), vessels.detach().float())
