"""Grey frames in, normalized three-channel batches out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from vasomim.registry import MODELS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@MODELS.register_module()
class AngiogramPreprocessor(BaseDataPreprocessor):
    """Move grey frames and their anatomy to the device, replicate the channel and normalize there.

    A batch travels as 8-bit grey, a twelfth of the bytes of the normalized batch, and the anatomy maps in one piece. As
    :func:`vasomim.data.collate.collate_angiograms` stacks both and a loader pins them, no step waits for that.

    Args:
        mean: Mean of each channel, in units of 255.
        std: Standard deviation of each channel, in units of 255.
    """

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__(non_blocking=True)
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn ``inputs``, uint8 (1, H, W) each or stacked, into float (B, 3, H, W).

        The samples get ``anatomy``, (1, H, W) on the device: of the batch's, uint8 (B, 1, H, W), or of their own.
        """
        frames = _stack(data['inputs']).to(self.device, non_blocking=True)
        samples: Any = data.get('data_samples')
        anatomy = data.get('anatomy')
        if anatomy is None and samples and all('anatomy' in sample for sample in samples):
            anatomy = _stack([sample.anatomy for sample in samples])
        if anatomy is not None:
            for sample, item in zip(samples, anatomy.to(self.device, non_blocking=True), strict=True):
                sample.set_field(item, 'anatomy', field_type='data')
        return {'inputs': self.normalize(frames), 'data_samples': samples}

    def normalize(self, frames: Tensor) -> Tensor:
        """Grey values in 0-255, (B, 1, H, W), to normalized (B, 3, H, W)."""
        return (frames.float() / 255 - self.mean) / self.std

    def denormalize(self, frames: Tensor) -> Tensor:
        """Normalized (B, 3, H, W) to uint8 grey (B, H, W), the mean of the channels."""
        grey = (frames.float() * self.std + self.mean).mean(dim=1)
        return (grey * 255).round().clamp(0, 255).to(torch.uint8)


def _stack(items: Tensor | Sequence[Tensor]) -> Tensor:
    return items if isinstance(items, Tensor) else torch.stack(tuple(items))
