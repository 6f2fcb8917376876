"""The vessel segmentor S: UNeXt, a small U-net whose two deepest stages are shifted MLPs over tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from vasomim.models.pretraining.evidence import stack_anatomy
from vasomim.registry import MODELS, WEIGHT_INITIALIZERS

SHIFTS = (-2, -1, 0, 1, 2)


def shift_channels(features: Tensor, dim: int) -> Tensor:
    """Shift five groups of channels by -2 .. 2 px along one axis; zeros enter at the edge.

    Args:
        features: (B, C, H, W).
        dim: The axis, 2 (height) or 3 (width).
    """
    size = features.shape[dim]
    margin = max(SHIFTS)
    padding = (0, 0, margin, margin) if dim == 2 else (margin, margin, 0, 0)
    groups = F.pad(features, padding).chunk(len(SHIFTS), dim=1)  # fewer than five for a width such as 12
    return torch.cat(
        [group.narrow(dim, margin - shift, size) for group, shift in zip(groups, SHIFTS, strict=False)], dim=1
    )


class ConvStage(nn.Module):
    """3 x 3 convolution, batch normalization, 2 x 2 max-pooling, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        return F.relu(F.max_pool2d(self.norm(self.conv(features)), 2))


class ShiftedMLP(nn.Module):
    """Residual block: tokens mix along the height, then along the width, by shifted channels and linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        mixed = _per_pixel(self.norm, features)
        mixed = _per_pixel(self.fc1, shift_channels(mixed, dim=2))
        mixed = F.gelu(self.depthwise(mixed))
        mixed = _per_pixel(self.fc2, shift_channels(mixed, dim=3))
        return features + mixed


class TokenStage(nn.Module):
    """Patch embedding by a 3 x 3 convolution of stride 2, one shifted-MLP block, layer normalization."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)
        self.embed_norm = nn.LayerNorm(channels_out)
        self.block = ShiftedMLP(channels_out)
        self.norm = nn.LayerNorm(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        tokens = self.block(_per_pixel(self.embed_norm, self.embed(features)))
        return _per_pixel(self.norm, tokens)


class UpStage(nn.Module):
    """3 x 3 convolution, batch normalization, bilinear upsampling by 2, ReLU, addition of the skip.

    Args:
        batch_norm: The last stage of UNeXt has none.
        tokens: Whether a shifted-MLP block and a layer normalization follow.
    """

    def __init__(self, channels_in: int, channels_out: int, batch_norm: bool = True, tokens: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv_norm = nn.BatchNorm2d(channels_out) if batch_norm else nn.Identity()
        self.block = ShiftedMLP(channels_out) if tokens else None
        self.norm = nn.LayerNorm(channels_out) if tokens else None

    def forward(self, features: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', 2H, 2W)."""
        features = self.conv_norm(self.conv(features))
        features = F.relu(F.interpolate(features, scale_factor=2, mode='bilinear', align_corners=False))
        if skip is not None:
            features = features + skip
        if self.block is not None and self.norm is not None:
            features = _per_pixel(self.norm, self.block(features))
        return features


@MODELS.register_module()
class UNeXt(BaseModel):
    """UNeXt vessel segmentor: one logit per pixel.

    As a model of its own it is trained on the pseudo-masks of the anatomy extraction; inside VasoMIM it is frozen.

    Args:
        widths: Channels of the three convolutional and the two token stages; the default is UNeXt-S.
        weights: Safetensors or PyTorch file to start from, or the name of weights that come with the package
            (``'unext_s'``); None for random weights.
        data_preprocessor: Config of the preprocessor, for training it.
        init_cfg: mmengine's initialization config.

    Raises:
        CheckpointError: If ``weights`` cannot be read or belongs to another architecture.

    Source: UNeXt, MICCAI 2022 (arXiv 2203.04967), small variant; losses: arXiv 2602.11536.
    """

    def __init__(
        self,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        weights: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = MODELS.build(data_preprocessor) if data_preprocessor else None
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        w1, w2, w3, w4, w5 = widths
        self.encoder = nn.ModuleList([ConvStage(3, w1), ConvStage(w1, w2), ConvStage(w2, w3)])
        self.tokens = nn.ModuleList([TokenStage(w3, w4), TokenStage(w4, w5)])
        self.decoder = nn.ModuleList(
            [
                UpStage(w5, w4, tokens=True),
                UpStage(w4, w3, tokens=True),
                UpStage(w3, w2),
                UpStage(w2, w1),
                UpStage(w1, w1, batch_norm=False),
            ]
        )
        self.logit = nn.Conv2d(w1, 1, 1)
        self._weights = weights
        if weights is None:
            self.apply(_initialize)
        else:
            WEIGHT_INITIALIZERS.build({'type': 'vasomim.StoredWeights', 'weights': weights})(self)
        self.memory_format = torch.channels_last  # two to three times as fast on a CPU
        self.to(memory_format=self.memory_format)

    def logits(self, frames: Tensor) -> Tensor:
        """Vessel logits.

        Args:
            frames: Normalized frames, (B, 3, H, W), H and W divisible by 32.

        Returns:
            (B, 1, H, W).

        Raises:
            ValueError: If H or W is not divisible by 32.
        """
        if frames.shape[-2] % 32 or frames.shape[-1] % 32:
            raise ValueError(f'UNeXt needs a height and width divisible by 32, not {tuple(frames.shape[-2:])}.')
        with torch.autocast(frames.device.type, enabled=False):  # 0.25 M parameters: precision costs little here
            return self._forward(frames.float())

    def _forward(self, frames: Tensor) -> Tensor:
        skips: list[Tensor] = []
        features = frames.contiguous(memory_format=self.memory_format)
        for stage in (*self.encoder, *self.tokens):
            features = stage(features)
            skips.append(features)
        skips.pop()
        for stage in self.decoder:
            features = stage(features, skips.pop() if skips else None)
        return self.logit(features)

    def probability(self, frames: Tensor) -> Tensor:
        """Vessel probability in [0, 1], (B, 1, H, W), without gradients."""
        with torch.no_grad():
            return self.logits(frames).sigmoid()

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Tensor | dict | list:
        """Mmengine's entry: logits (``tensor``), the training losses (``loss``) or samples with masks (``predict``)."""
        if mode == 'tensor':
            return self.logits(inputs)
        if data_samples is None:
            raise ValueError(f"UNeXt: mode '{mode}' needs data samples with anatomy.")
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"UNeXt: unknown mode '{mode}'; choose 'tensor', 'loss' or 'predict'.")

    def loss(self, frames: Tensor, samples: list) -> dict[str, Tensor]:
        """0.5 binary cross-entropy + 0.5 (1 - soft Dice over the batch)."""
        anatomy = stack_anatomy(samples).float()
        logits = self.logits(frames).float()
        return {
            'loss_bce': 0.5 * F.binary_cross_entropy_with_logits(logits, anatomy),
            'loss_dice': 0.5 * (1 - soft_dice(logits.sigmoid(), anatomy)),
        }

    def predict(self, frames: Tensor, samples: list) -> list:
        """Set ``pred_vessels``, bool (1, H, W), probability >= 0.5, in each sample."""
        for sample, vessels in zip(samples, self.probability(frames) >= 0.5, strict=True):
            sample.set_field(vessels, 'pred_vessels', field_type='data')
        return samples

    def init_weights(self) -> None:
        """Initialize by ``init_cfg``; weights that were loaded stay as they are."""
        if self._weights is None:
            super().init_weights()


def soft_dice(probability: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    """Soft Dice over a whole batch, in [0, 1].

    Args:
        probability: Values in [0, 1], any shape.
        target: Values in {0, 1}, the same shape.
        smooth: Added to numerator and denominator.
    """
    overlap = (probability * target).sum()
    return (2 * overlap + smooth) / (probability.sum() + target.sum() + smooth)


def _per_pixel(layer: nn.Module, features: Tensor) -> Tensor:
    """Apply a layer over the last axis to the channels of (B, C, H, W)."""
    return layer(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _initialize(module: nn.Module) -> None:
    """He initialization of convolutions by what a value feeds, truncated normal of linear layers."""
    if isinstance(module, nn.Conv2d):  # PyTorch's own takes a depth-wise convolution for one that feeds all channels.
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
