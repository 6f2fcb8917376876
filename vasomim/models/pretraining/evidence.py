"""What is known of the vessels in a batch, and what a model has made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from vasomim.masking import MaskPlan


@dataclass(frozen=True)
class Evidence:
    """What is known of the vessels in a batch.

    Attributes:
        anatomy: Extracted vessels in {0, 1}, (B, 1, H, W); None where the data carries none.
        vessels: The segmentor's vessel probability in [0, 1], (B, 1, H, W); None where no segmentor is asked.
        guidance: What guides the masks, in [0, 1], (B, 1, H, W), or coarser down to a value a patch; None where nothing
            does.
    """

    anatomy: Tensor | None = None
    vessels: Tensor | None = None
    guidance: Tensor | None = None


@dataclass(frozen=True)
class MaskedBatch:
    """A batch, its masks, and what the model predicts of it: all that a loss may use.

    Attributes:
        frames: Normalized frames, (B, 3, H, W).
        evidence: What is known of their vessels.
        plan: The masks.
        patches: Predictions of all patches, (B, L, p * p * 3).
        head: The head of the model, for targets and errors (``loss_per_patch``).
        segmentor: The frozen segmentor; None for a model without.
    """

    frames: Tensor
    evidence: Evidence
    plan: MaskPlan
    patches: Tensor
    head: Any
    segmentor: Any = None

    @cached_property
    def reconstruction(self) -> Tensor:
        """The predictions as frames I', visible patches predicted as well, (B, 3, H, W); computed once."""
        return self.head.fold(self.patches, self.frames)

    @cached_property
    def vessel_logits(self) -> Tensor:
        """The segmentor's logits S(I') on the reconstruction, (B, 1, H, W), with gradients; computed once."""
        return self.segmentor.logits(self.reconstruction)


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
