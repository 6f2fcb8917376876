"""DINOv3's encoder in downstream tasks: a plain ViT with rotary positions and register tokens."""

from __future__ import annotations

import math

import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from vasomim.errors import ConfigError
from vasomim.models.plain_vit import PlainViT, attend
from vasomim.registry import MODELS

EPS = 1e-5  # DINOv3's; mmpretrain's ViTs normalize with 1e-6.


@MODELS.register_module()
class RotaryViT(PlainViT):
    """Plain ViT whose layers turn queries and keys by the place of their patch, in place of position embeddings.

    Class and register tokens come before the patches and are not turned. LayerScale, which DINOv3 has, is multiplied
    into the projections when a checkpoint is read. The places run from -1 to 1 over a frame of any size; DINOv3's
    random rescaling of them belongs to its pre-training and is left out.

    Args:
        registers: Register tokens.
        theta: Base of the wavelengths.
        **kwargs: Arguments of :class:`~vasomim.models.plain_vit.PlainViT`, but for windows.

    Raises:
        ConfigError: If windows are asked for, or 4 does not divide the width of a head.

    Source: rotary positions: arXiv 2104.09864; over the axes of an image, and registers: DINOv3 (arXiv 2508.10104).
    """

    def __init__(self, registers: int = 4, theta: float = 100.0, **kwargs) -> None:
        if kwargs.get('window_size') or kwargs.get('global_layers') is not None:
            raise ConfigError('model.backbone.window_size', 'RotaryViT attends globally.', 'Set it to 0.')
        super().__init__(**kwargs)
        self.head_width = self.embed_dims // self.layers[0].attn.num_heads
        if self.head_width % 4:
            raise ConfigError('model.backbone.arch', f'4 does not divide heads of {self.head_width}.', 'Change it.')
        self.theta = theta
        for layer in self.layers:
            layer.__class__ = RotaryLayer  # The same tensors, another forward pass.
        self.register_parameter('pos_embed', None)
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, self.embed_dims))
        self.num_extra_tokens = 1 + registers
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = EPS

    def init_weights(self) -> None:
        """Initialize as a ViT, and the register tokens."""
        super().init_weights()
        nn.init.trunc_normal_(self.register_tokens, std=0.02)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Encode frames as :meth:`vasomim.models.plain_vit.PlainViT.forward` does."""
        if frames.shape[-2] % self.patch_size or frames.shape[-1] % self.patch_size:
            raise ValueError(f'frames of {tuple(frames.shape[-2:])} do not divide into patches of {self.patch_size}')
        patches, grid = self.patch_embed(frames)
        own = torch.cat((self.cls_token, self.register_tokens), dim=1).expand(len(patches), -1, -1)
        tokens = torch.cat((own, patches), dim=1)
        angles = rotary_angles(grid, self.head_width, self.theta, frames.device)
        maps = {}
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens, angles)
            if index == len(self.layers) - 1:
                tokens = self.norm1(tokens)
            if index in self.out_indices:
                maps[index] = self._format_output(tokens, grid).contiguous()
        return tuple(maps[index] for index in self.out_indices)


class RotaryLayer(TransformerEncoderLayer):
    """mmpretrain's encoder layer with queries and keys turned."""

    def forward(self, tokens: Tensor, angles: Tensor) -> Tensor:
        """Return (B, N, C) of the same; ``angles`` are those of :func:`rotary_angles`."""
        mixed = attend(self.attn, self.ln1(tokens), lambda heads: turn(heads, angles))
        tokens = tokens + self.attn.out_drop(mixed)
        return self.ffn(self.ln2(tokens), identity=tokens)


def rotary_angles(grid: tuple[int, int], width: int, theta: float, device: torch.device | str) -> Tensor:
    """Return by how much each pair of channels of a patch is turned, in radians.

    Args:
        grid: Patches per column and row, (h, w).
        width: Channels of a head, divisible by 4.
        theta: Base of the wavelengths.
        device: Where the angles lie.

    Returns:
        (h * w, width / 2): the angles of the row, then those of the column, width / 4 wavelengths each.
    """
    centers = [(torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size * 2 - 1 for size in grid]
    places = torch.cartesian_prod(*centers)
    exponents = torch.arange(width // 4, device=device, dtype=torch.float32) * 4 / width
    return (2 * math.pi * places[:, :, None] / theta**exponents).flatten(1)


def turn(tokens: Tensor, angles: Tensor) -> Tensor:
    """Turn the pairs (c, c + width / 2) of channels of the last tokens; those before have no place and stay.

    Args:
        tokens: Queries or keys, (B, heads, N, width).
        angles: (L, width / 2) of the last L <= N tokens.
    """
    own, patches = tokens.split((tokens.shape[2] - len(angles), len(angles)), dim=2)
    sine, cosine = angles.sin().to(tokens.dtype), angles.cos().to(tokens.dtype)
    first, second = patches.chunk(2, dim=-1)
    turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    return torch.cat((own, turned), dim=2)
