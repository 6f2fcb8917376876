"""The pre-trained encoder in downstream tasks: a plain ViT that gives feature maps, in windows if asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor
from torch.nn import functional

from vasomim.errors import ConfigError
from vasomim.models.masked_vit import architecture
from vasomim.registry import MODELS


@MODELS.register_module()
class PlainViT(VisionTransformer):
    """mmpretrain's ``VisionTransformer`` with its names and numbers, for segmentation and detection.

    Position embeddings are resized to the frame's grid of patches in each forward pass. With ``window_size`` all layers
    but the ``global_layers`` attend within windows of nearly equal size. The class token joins each window, so that
    windowed layers work on what they were pre-trained on, and gets the mean of what its copies see. In frames that
    windows do not divide, zeros fill the last ones up. All else of a layer, dropped paths too, acts on whole frames.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or 'huge', or a dict with embed_dims, num_layers, num_heads and
            feedforward_channels.
        patch_size: Side of a patch in pixels; None for 14 (huge) or 16 (all others).
        img_size: Side of the frames that the position embeddings are kept for, in pixels.
        out_indices: Layers that give a feature map, counted from 0; None for four at even distances, the last included.
        drop_path_rate: Share of dropped paths in the last layer; it grows linearly from 0 in the first.
        window_size: Largest side of a window in patches; 0 attends globally in all layers.
        global_layers: Layers that attend globally; None for four at even distances, the last included.
        init_cfg: mmengine's initialization config.

    Raises:
        ConfigError: If the architecture or a layer does not exist.

    Source: windows and a few global layers: ViTDet (arXiv 2203.16527).
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        patch_size: int | None = None,
        img_size: int = 224,
        out_indices: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        window_size: int = 0,
        global_layers: Sequence[int] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        settings = architecture(arch)
        depth = settings['num_layers']
        out_indices = quarters(depth) if out_indices is None else out_indices
        global_layers = quarters(depth) if global_layers is None else global_layers
        for option, layers in (('out_indices', out_indices), ('global_layers', global_layers)):
            if not layers or not all(0 <= layer < depth for layer in layers):
                raise ConfigError(
                    f'model.backbone.{option}',
                    f'{list(layers)} does not name layers of an encoder of {depth}.',
                    f'Name one or more of 0 to {depth - 1}, or leave it out.',
                )
        if patch_size is None:
            patch_size = 14 if arch == 'huge' else 16
        super().__init__(
            arch=settings,
            img_size=img_size,
            patch_size=patch_size,
            out_indices=list(out_indices),
            drop_path_rate=drop_path_rate,
            out_type='featmap',
            init_cfg=init_cfg,
        )
        self.patch_size = patch_size
        self.window_size = window_size
        for index in range(depth) if window_size else ():
            if index not in global_layers:
                self.layers[index].__class__ = WindowedLayer  # The same tensors, another forward pass.

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Encode frames.

        Args:
            frames: Normalized, (B, 3, H, W).

        Returns:
            A feature map (B, C, H / patch, W / patch) for each of ``out_indices``.

        Raises:
            ValueError: If the patch size does not divide H and W.
        """
        if frames.shape[-2] % self.patch_size or frames.shape[-1] % self.patch_size:
            raise ValueError(f'frames of {tuple(frames.shape[-2:])} do not divide into patches of {self.patch_size}')
        tokens, grid = self.patch_embed(frames)
        tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        tokens = tokens + resize_pos_embed(self.pos_embed, self.patch_resolution, grid, self.interpolate_mode)
        maps = {}
        for index, layer in enumerate(self.layers):
            windowed = isinstance(layer, WindowedLayer)
            tokens = layer(tokens, grid, self.window_size) if windowed else layer(tokens)
            if index == len(self.layers) - 1:
                tokens = self.norm1(tokens)
            if index in self.out_indices:
                maps[index] = self._format_output(tokens, grid).contiguous()
        return tuple(maps[index] for index in self.out_indices)


class WindowedLayer(TransformerEncoderLayer):
    """mmpretrain's encoder layer that attends within windows."""

    def forward(self, tokens: Tensor, grid: tuple[int, int], largest: int) -> Tensor:
        """Return (B, 1 + h * w, C) of the same; the other arguments are those of :func:`in_windows`."""
        mixed = in_windows(lambda windows: attend(self.attn, self.ln1(windows)), tokens, grid, largest)
        tokens = tokens + self.attn.out_drop(mixed)
        return self.ffn(self.ln2(tokens), identity=tokens)


def attend(attention: Any, tokens: Tensor, turn: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Run mmpretrain's self-attention up to its dropped paths, (B, N, C) to the same shape.

    Args:
        attention: Its ``MultiheadAttention``.
        tokens: Normalized.
        turn: Changes queries and keys, (B, heads, N, C / heads); None leaves them.
    """
    batch, number, channels = tokens.shape
    joined = attention.qkv(tokens).reshape(batch, number, 3, attention.num_heads, -1)
    queries, keys, values = joined.permute(2, 0, 3, 1, 4)
    if turn is not None:
        queries, keys = turn(queries), turn(keys)
    mixed = functional.scaled_dot_product_attention(queries, keys, values)
    mixed = attention.proj(mixed.transpose(1, 2).reshape(batch, number, channels))
    return attention.gamma1(attention.proj_drop(mixed))


def quarters(depth: int) -> tuple[int, ...]:
    """Return four layers at even distances, the last included: 12 layers give 2, 5, 8 and 11."""
    return tuple(max(0, depth * part // 4 - 1) for part in (1, 2, 3, 4))


def in_windows(function: Callable[[Tensor], Tensor], tokens: Tensor, grid: tuple[int, int], largest: int) -> Tensor:
    """Compute within windows.

    Args:
        function: Maps (N, 1 + K, C) to the same shape.
        tokens: Class token and patch tokens, (B, 1 + h * w, C).
        grid: Patches per column and row, (h, w).
        largest: Largest side of a window, in patches.

    Returns:
        (B, 1 + h * w, C); the class token is the mean of those of the windows.
    """
    height, width = grid
    rows, columns = -(-height // largest), -(-width // largest)
    tall, wide = -(-height // rows), -(-width // columns)
    batch, _, channels = tokens.shape
    field = tokens[:, 1:].reshape(batch, height, width, channels)
    field = functional.pad(field, (0, 0, 0, columns * wide - width, 0, rows * tall - height))
    windows = field.reshape(batch, rows, tall, columns, wide, channels).transpose(2, 3)
    class_tokens = tokens[:, :1].repeat_interleave(rows * columns, dim=0)
    windows = function(torch.cat((class_tokens, windows.reshape(-1, tall * wide, channels)), dim=1))
    class_token = windows[:, 0].reshape(batch, rows * columns, channels).mean(dim=1, keepdim=True)
    field = windows[:, 1:].reshape(batch, rows, columns, tall, wide, channels).transpose(2, 3)
    field = field.reshape(batch, rows * tall, columns * wide, channels)[:, :height, :width]
    return torch.cat((class_token, field.reshape(batch, height * width, channels)), dim=1)
