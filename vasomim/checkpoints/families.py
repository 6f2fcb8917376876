"""Tensors of other projects' encoders as those of our plain ViT, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vasomim.checkpoints.naming import GAMMAS, HF, HF_MAE, MAE, PLAIN, REGISTERS, TIMM, to_ours, to_theirs
from vasomim.errors import CheckpointError, did_you_mean

PREFIX = 'backbone.'  # Before our names of an encoder's tensors.
TARGETS = ('vasomim', 'mmpretrain', 'timm', 'mae', 'hf')
POSITIONS = 'backbone.pos_embed'
CLASS_TOKEN = 'backbone.cls_token'
# Needed neither by an encoder nor by its decoder; left out of a conversion without asking, but named.
HEADS = re.compile(r'(vit\.|deit\.|dinov2\w*\.)?((head|head_dist|classifier|pooler)\..+|(embeddings\.)?mask_token)')
FUSION = re.compile(r'backbone\.proj_(weights|layers\..+)')  # MFF (arXiv 2308.00261) adds up layers for its decoder.
POOLED_NORM = re.compile(r'fc_norm\..+')  # Of timm, behind the mean over patches.
# Whatever stands in a layer, or has a part in what the layers get, changes the features.
VITAL = re.compile(
    r'(vit\.|deit\.|dinov\w*\.)?((blocks|layers|(encoder\.|model\.)?layer)\.\d+\..+|norm_pre\..+|pre_norm\..+|dist_token)'
)


@dataclass(frozen=True)
class Adopted:
    """Tensors by our names, those that were dropped by request, and what was done to the others, in words."""

    tensors: dict[str, Tensor]
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def adopt(
    tensors: Mapping[str, Tensor],
    family: str,
    source: str | Path,
    drop: Sequence[str] = (),
    grid: tuple[int, int] | None = None,
    rotary: bool = False,
) -> Adopted:
    """Turn the tensors of a family into ours, so that a plain ViT gives the same features.

    Queries, keys and values are joined, LayerScale is multiplied into the projections before it, and position
    embeddings without a class token get zeros for it. A name that is not known stays.

    Args:
        tensors: By their names.
        family: What :func:`vasomim.checkpoints.naming.detect_family` found.
        source: Names the checkpoint in errors.
        drop: Tensors to go without: a name, or the name of what holds them.
        grid: Patches per column and row, where the number of position embeddings does not tell.
        rotary: Whether they are for a :class:`~vasomim.models.rotary_vit.RotaryViT`, which holds DINOv3's.

    Raises:
        CheckpointError: If a plain ViT cannot hold what changes the features, such as register tokens; or ``drop``
            names nothing.
    """
    if family == 'dinov3' and not rotary:
        raise CheckpointError(
            source,
            'it is a DINOv3: its layers turn queries and keys by rotary positions, and it has no position embeddings; '
            'a plain ViT cannot give its features.',
            'For a downstream task pass --cfg-options model.backbone.type=mmpretrain.RotaryViT; elsewhere take an '
            'encoder with learned position embeddings: DINOv2, MAE, or a ViT of timm or transformers.',
        )
    if family == 'beit':
        raise _beit(source)
    kept, dropped = _without(tensors, drop, source)
    ours: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    foreign = []
    for name, tensor in kept.items():
        known = to_ours(name, family)
        if known is None:
            ours[name] = tensor
            if family not in ('vasomim', 'unext') and VITAL.fullmatch(name):
                foreign.append(name)
        elif known[1] is None:
            ours[known[0]] = tensor
        else:
            thirds.setdefault(known[0], {})[known[1]] = tensor
    if foreign:
        raise _cannot_hold(source, foreign)
    ours.update({name: _joined(name, parts, source) for name, parts in thirds.items()})
    notes: list[str] = []
    if family not in ('vasomim', 'unext'):
        _fold(ours, notes)
        _fill_biases(ours, notes)
        count = sum(tensors[name].shape[1] for name in dropped if name.endswith(('reg_token', 'register_tokens')))
        _settle_positions(ours, count, grid, source, notes)
        if REGISTERS in ours and family != 'dinov3':
            name = next(name for name in kept if to_ours(name, family) == (REGISTERS, None))
            raise _cannot_hold(source, [name])
    return Adopted(ours, dropped, tuple(notes))


def is_plain_vit(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors by our names hold an encoder of a ViT's layers, and not, say, of convolutions."""
    return f'{PREFIX}layers.0.attn.qkv.weight' in tensors


def settle(
    tensors: Mapping[str, Tensor], source: str | Path, grid: tuple[int, int] | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Turn the encoder of a whole model into a plain ViT, as :func:`adopt` does for one by itself.

    mmpretrain names the encoder in its models as we do, also where it has what a plain ViT lacks.

    Args:
        tensors: By our names; those of other parts, and encoders that are no ViT, stay as they are.
        source: Names the checkpoint in errors.
        grid: Patches per column and row, where the number of position embeddings does not tell.

    Returns:
        The tensors, and what was done to them, in words.

    Raises:
        CheckpointError: If a plain ViT cannot hold a tensor of the encoder.
    """
    ours, notes = dict(tensors), list[str]()
    if not is_plain_vit(ours):
        return ours, ()
    if any(name.startswith(PREFIX) and 'relative_position' in name for name in ours):
        raise _beit(source)
    _fold(ours, notes)
    _fill_biases(ours, notes)
    if fused := [name for name in ours if FUSION.fullmatch(name)]:
        ours = {name: tensor for name, tensor in ours.items() if name not in fused}
        notes.append(f'{len(fused)} tensors left out: the fusion of layers that only the pre-training by MFF uses')
    _settle_positions(ours, 0, grid, source, notes)
    known = [*PLAIN, re.compile(re.escape(REGISTERS))] if POSITIONS not in ours else PLAIN
    strange = [n for n in ours if n.startswith(PREFIX) and not any(each.fullmatch(n) for each in known)]
    if strange:
        raise _cannot_hold(source, strange)
    return ours, tuple(notes)


def refuse_others(tensors: Mapping[str, Tensor], source: str | Path, *allowed: re.Pattern[str]) -> None:
    """Refuse tensors of another project's encoder that have no place in ours.

    Args:
        tensors: As :func:`adopt` gives them: those that it did not know have the names of the file.
        source: Names the checkpoint in the error.
        *allowed: Names that may be there; without one, those of heads, and of a norm behind the pooling.

    Raises:
        CheckpointError: If there is another.
    """
    for name in tensors:
        if not name.startswith((PREFIX, 'neck.')) and not any(
            each.fullmatch(name) for each in allowed or (HEADS, POOLED_NORM)
        ):
            cure = f'Convert it with --drop {name} to go without it.'
            raise CheckpointError(source, f'{name} has no place in an encoder or decoder of ours.', cure)


def translate(tensors: Mapping[str, Tensor], to: str, source: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """Give our tensors the names of another project; queries, keys and values part where it keeps them apart.

    Args:
        tensors: By our names, as :func:`adopt` gives them.
        to: One of ``TARGETS``.
        source: Names the checkpoint in errors.

    Returns:
        Tensors by their names, and our names of those that have none there.

    Raises:
        CheckpointError: If there is no such target, or a layer holds what it has no name for.
    """
    if to not in TARGETS:
        raise CheckpointError('to', f"there is no '{to}'.{did_you_mean(to, TARGETS)}", f'Take {", ".join(TARGETS)}.')
    if to == 'vasomim':
        return dict(tensors), []
    ours = dict(tensors)
    if to == 'mmpretrain':
        left = [name for name in ours if not name.startswith(('backbone.', 'neck.'))]
        return {name: tensor for name, tensor in ours.items() if name not in left}, left
    _fold(ours, [])
    decoder = any(name.startswith('neck.decoder_blocks.') for name in ours)
    table = {'timm': TIMM, 'mae': MAE, 'hf': HF_MAE if decoder else HF}[to]
    theirs: dict[str, Tensor] = {}
    left = []
    for name, tensor in ours.items():
        names = to_theirs(name, table)
        if not names:
            left.append(name)
        theirs.update(zip(names, tensor.chunk(len(names)) if len(names) > 1 else [tensor], strict=False))
    strange = [name for name in left if name.startswith('backbone.layers.') or name == REGISTERS]
    if strange:
        raise _cannot_hold(source, strange)
    return theirs, left


def expected(tensors: Mapping[str, Tensor]) -> list[str]:
    """Our names of the tensors of a whole encoder with as many layers as there are; empty where there is no layer."""
    layers = {int(match[1]) for name in tensors if (match := re.match(r'backbone\.layers\.(\d+)\.', name))}
    names = []
    for template in TIMM if layers else ():
        for number in range(1 + max(layers)) if '#' in template else (0,):
            name = template.replace('#', str(number))
            names += [name.replace('@', each) for each in ('weight', 'bias')] if '@' in name else [name]
    return names


def resize_positions(positions: Tensor, source: tuple[int, int], target: tuple[int, int], prefix: int = 1) -> Tensor:
    """Return position embeddings for another grid, by bicubic interpolation.

    Args:
        positions: (1, prefix + h * w, C), those of tokens that are no patches first.
        source: Their grid, (h, w).
        target: The grid wanted; the same one returns them as they are.
        prefix: Tokens that are no patches: 1 for a class token, more with registers, 0 for none. They stay.

    Raises:
        ValueError: If the number of positions is another than grid and prefix say.
    """
    if positions.shape[1] != prefix + source[0] * source[1]:
        raise ValueError(f'{positions.shape[1]} positions are not {prefix} and a grid of {source[0]} x {source[1]}')
    if tuple(source) == tuple(target):
        return positions
    patches = positions[:, prefix:].reshape(1, *source, -1).permute(0, 3, 1, 2).float()
    patches = torch.nn.functional.interpolate(patches, size=tuple(target), mode='bicubic', align_corners=False)
    return torch.cat((positions[:, :prefix], patches.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)


def prefix_of(count: int, registers: int = 0, grid: tuple[int, int] | None = None) -> int:
    """Return how many of an encoder's position embeddings are not of patches.

    Args:
        count: Position embeddings.
        registers: Register tokens of the encoder.
        grid: Patches per column and row; None for a square.

    Returns:
        0, 1 (the class token) or 1 + registers; 1 where none of them leaves the grid.
    """
    for prefix in (1, 0, 1 + registers):
        patches = count - prefix
        if patches == (grid[0] * grid[1] if grid else math.isqrt(max(0, patches)) ** 2):
            return prefix
    return 1


def _without(
    tensors: Mapping[str, Tensor], drop: Sequence[str], source: str | Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    dropped: list[str] = []
    for each in drop:
        found = [name for name in tensors if f'.{each}.' in f'.{name}.']
        if not found:
            hint = did_you_mean(each, {part for name in tensors for part in (name, name.split('.')[-1])})
            raise CheckpointError(source, f"it holds no '{each}' to drop.{hint}", 'Leave --drop out.')
        dropped += found
    return {name: tensor for name, tensor in tensors.items() if name not in dropped}, tuple(dropped)


def _beit(source: str | Path) -> CheckpointError:
    return CheckpointError(
        source,
        'it is a BEiT: its layers attend by the relative positions of patches too, which a plain ViT does not have.',
        'Take an encoder with learned position embeddings: DINOv2, MAE, or a ViT of timm or transformers.',
    )


def _cannot_hold(source: str | Path, names: Sequence[str]) -> CheckpointError:
    more = f' and {len(names) - 1} more' if len(names) > 1 else ''
    parts = {re.sub(r'\.(weight|bias)$', '', name) for name in names}
    part = next(iter(parts)) if len(parts) == 1 else 'NAME'
    part = part.rpartition('.')[2] if part in names else part  # A tensor alone is known by its last name.
    return CheckpointError(
        source,
        f'a plain ViT cannot hold {names[0]}{more}, without which its features are others.',
        f'Convert it with --drop {part} to go without, or take another encoder.',
    )


def _joined(name: str, parts: dict[int, Tensor], source: str | Path) -> Tensor:
    """Queries, keys and values in one; a bias that is missing beside others is zero."""
    if name.endswith('bias') and len(parts) < 3:
        zeros = torch.zeros_like(next(iter(parts.values())))
        parts = {**dict.fromkeys(range(3), zeros), **parts}
    if len(parts) < 3:
        lacking = ', '.join(each for third, each in enumerate(('queries', 'keys', 'values')) if third not in parts)
        raise CheckpointError(source, f'{name} lacks its {lacking}.', 'Copy or download it again.')
    return torch.cat([parts[third] for third in range(3)])


def _fold(tensors: dict[str, Tensor], notes: list[str]) -> None:
    """Multiply LayerScale into the projections before it: g * (W x + b) = (g W) x + g b."""
    folded = 0
    for gamma, projection in zip(GAMMAS, ('attn.proj', 'ffn.layers.1'), strict=True):
        pattern = re.compile(re.escape(gamma).replace(r'\#', r'(\d+)'))
        for name in [name for name in tensors if pattern.fullmatch(name)]:
            scale = tensors.pop(name).double()
            layer = f'{name.split(".attn.")[0].split(".ffn.")[0]}.{projection}'
            for part, factor in (('weight', scale[:, None]), ('bias', scale)):
                if (tensor := tensors.get(f'{layer}.{part}')) is not None:
                    tensors[f'{layer}.{part}'] = (tensor.double() * factor).to(tensor.dtype)
            folded += 1
    if folded:
        notes.append(f'LayerScale was multiplied into the projections before it ({folded} times)')


def _fill_biases(tensors: dict[str, Tensor], notes: list[str]) -> None:
    """Give zeros to queries, keys and values of an encoder that was built without their biases."""
    weights = [name for name in tensors if re.fullmatch(r'backbone\.layers\.\d+\.attn\.qkv\.weight', name)]
    biases = [f'{name.removesuffix("weight")}bias' for name in weights]
    whole = all(name.replace('.qkv.weight', '.proj.bias') in tensors for name in weights)
    if not weights or not whole or any(name in tensors for name in biases):
        return
    for weight, bias in zip(weights, biases, strict=True):
        tensors[bias] = tensors[weight].new_zeros(len(tensors[weight]))
    notes.append('queries, keys and values have no biases there; they are zero here')


def _settle_positions(
    tensors: dict[str, Tensor],
    dropped_registers: int,
    grid: tuple[int, int] | None,
    source: str | Path,
    notes: list[str],
) -> None:
    """Leave one position embedding before those of the patches: the class token's."""
    positions = tensors.get(POSITIONS)
    if positions is None or positions.ndim != 3:
        return
    prefix = prefix_of(positions.shape[1], dropped_registers, grid)
    if prefix > 1:
        tensors[POSITIONS] = torch.cat((positions[:, :1], positions[:, prefix:]), dim=1)
        notes.append(f'the position embeddings of {prefix - 1} register tokens went with them')
    if prefix == 0 and CLASS_TOKEN not in tensors:
        what = 'it has no class token, which a plain ViT of this project attends to.'
        raise CheckpointError(source, what, 'Take an encoder with a class token.')
    if prefix == 0:
        tensors[POSITIONS] = torch.cat((torch.zeros_like(positions[:, :1]), positions), dim=1)
        notes.append('the class token has no position embedding there; it is zero here')
