"""The encoder in a checkpoint: its tensors, its grid of patches, its number of heads."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vasomim.checkpoints.families import PREFIX, refuse_others, settle
from vasomim.checkpoints.reading import Checkpoint
from vasomim.checkpoints.stored_config import encoder_section, parse_config
from vasomim.errors import CheckpointError
from vasomim.files import read_json
from vasomim.models.masked_vit import ARCHITECTURES
from vasomim.models.plain_vit import PlainViT

OWN_ENCODERS = ('MaskedViT', 'MaskTokenViT', 'PlainViT', 'RotaryViT')
MASK_TOKEN = 'mask_token'  # Stands for hidden patches while an encoder is pre-trained; none are hidden afterwards.
CONFIG_FILE = 'config.json'  # Beside the weights, of transformers and timm.


def encoder_tensors(checkpoint: Checkpoint, source: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a checkpoint's encoder by the names of a plain ViT, and what was done to them, in words.

    Raises:
        CheckpointError: If it holds more than a plain ViT can, without which its features are others.
    """
    if checkpoint.family not in ('vasomim', 'unext'):
        refuse_others(checkpoint.tensors, source)
    tensors, notes = settle(checkpoint.tensors, source)
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    return own or tensors, (*checkpoint.notes, *notes)


def backbone_config(checkpoint: Checkpoint, source: str | Path) -> dict[str, Any]:
    """Return the encoder's part of a checkpoint's config; empty where it has none.

    Raises:
        CheckpointError: If the config is no list of plain values, or a size in it makes no sense.
    """
    if checkpoint.config is None:
        return {}
    return encoder_section(parse_config(checkpoint.config, source), source)


def source_grid(checkpoint: Checkpoint, positions: Tensor, source: str | Path) -> tuple[int, int]:
    """Return the grid of a checkpoint's position embeddings, class token first: from its config, else a square.

    Raises:
        CheckpointError: If it is neither, or the config is no list of plain values.
    """
    patches = positions.shape[1] - 1
    if backbone := backbone_config(checkpoint, source):
        size, patch = backbone.get('img_size', 224), backbone.get('patch_size') or 16
        sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, (list, tuple)) else []
        if len(sides) == 2 and all(isinstance(each, int) and each > 0 for each in (*sides, patch)):
            grid = sides[0] // patch, sides[1] // patch
            if grid[0] * grid[1] == patches:
                return grid
    side = math.isqrt(max(0, patches))
    if side * side != patches:
        raise CheckpointError(
            source,
            f'its {patches} position embeddings form no square, and it carries no config that says their grid.',
            'Say it with --grid of `vasomim convert`, or take the checkpoint that the training wrote with its config.',
        )
    return side, side


def heads_of(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], source: str | Path) -> tuple[int, str] | None:
    """Return the number of heads of a checkpoint's encoder and what says it; None where nothing does.

    The tensors are the same for any number. The config in the file says it, a conversion noted it, or a ``config.json``
    of transformers or timm beside the file does.

    Args:
        checkpoint: As it was read.
        tensors: Of the encoder; see :func:`encoder_tensors`.
        source: Names the checkpoint in errors.

    Raises:
        CheckpointError: If ``config.json`` is damaged, or the number does not divide the encoder's width.
    """
    width = tensors['cls_token'].shape[-1] if 'cls_token' in tensors and tensors['cls_token'].ndim else 0
    beside = checkpoint.path.parent / CONFIG_FILE
    for where, heads in (
        ('its config', _heads_of_config(backbone_config(checkpoint, source))),
        ('its header', checkpoint.heads),
        (CONFIG_FILE, _heads_beside(beside, width) if checkpoint.config is None else None),
    ):
        if heads is None:
            continue
        if not isinstance(heads, int) or heads < 1 or width % heads:
            what = f'{where} says {heads!r:.20} heads, which do not divide a width of {width}.'
            raise CheckpointError(beside if where == CONFIG_FILE else source, what, 'Correct it, or download it again.')
        return heads, where
    return None


def shape_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the architecture of an encoder but for its number of heads, from its tensors without a prefix."""
    layers = {int(match[1]) for name in tensors if (match := re.match(r'layers\.(\d+)\.', name))}
    return {
        'embed_dims': tensors['cls_token'].shape[-1],
        'num_layers': 1 + max(layers),
        'feedforward_channels': tensors['layers.0.ffn.layers.0.0.weight'].shape[0],
    }


def usual_heads(shape: Mapping[str, int]) -> int | None:
    """Return the number of heads that a known size of ViT has; None for an unknown one."""
    known = [PlainViT.arch_zoo[name] for name in ARCHITECTURES.values()]
    heads = [each['num_heads'] for each in known if all(each[key] == value for key, value in shape.items())]
    return heads[0] if heads else None


def _heads_of_config(backbone: Mapping[str, Any]) -> Any:
    """Return the heads that the config of an encoder of ours or mmpretrain's says; None for any other."""
    if not backbone:
        return None
    kind, arch = str(backbone.get('type')).rpartition('.')[2], backbone.get('arch', 'base')
    if isinstance(arch, Mapping):
        return arch.get('num_heads')
    if not isinstance(arch, str) or kind not in (*OWN_ENCODERS, 'VisionTransformer', 'MAEViT', 'MoCoV3ViT'):
        return None
    zoo = PlainViT.arch_zoo  # Of mmpretrain, from which it comes.
    return zoo.get(ARCHITECTURES.get(arch, arch) if kind in OWN_ENCODERS else arch, {}).get('num_heads')


def _heads_beside(path: Path, width: int) -> Any:
    """Return the heads that a ``config.json`` says; None where there is none, or it is of a model of another width."""
    if not path.exists():
        return None
    content = read_json(path, CheckpointError, 'Download it again, or move it away.')
    for part, heads, size in (
        (content, 'num_attention_heads', 'hidden_size'),
        (content.get('vision_config'), 'num_attention_heads', 'hidden_size'),
        (content.get('model_args'), 'num_heads', 'embed_dim'),
    ):
        if isinstance(part, dict) and heads in part and part.get(size, width) == width:
            return part[heads]
    return None
