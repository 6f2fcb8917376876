"""Which of the tensors in a file are meant: the state dict among other things, and the encoder behind a prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vasomim.checkpoints.naming import detect_family
from vasomim.errors import CheckpointError, did_you_mean

FIRST = ('state_dict', 'model')  # Where several state dicts are in a file, these are the model.
DISTRIBUTED = 'module.'  # Before each name where a model wrapped for several GPUs was saved.
# What torch.compile, FSDP and recomputed layers put into names.
WRAPPERS = re.compile(r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
# The tensor by which an encoder's naming is known, behind a prefix.
MARKS = re.compile(
    r'((?:.+\.)?)(?:(?:blocks|layers)\.0\.attn\.qkv\.weight|encoder\.layer\.0\.attention\.attention\.query\.weight'
    r'|layers?\.0\.attention\.q_proj\.weight)'
)
NO_ENCODER = re.compile(r'(?:.+\.)?(?:decoder|predictor|neck)\w*\.(?:.+\.)?')


@dataclass(frozen=True)
class Selected:
    """Tensors without what stood before all their names, those that were left out, and what was chosen, in words."""

    tensors: dict[str, Tensor]
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def select(content: Any, path: Path, key: str | None = None, find: bool = False) -> Selected:
    """Choose the tensors that a file is read for.

    Args:
        content: What the file holds.
        path: The file, for errors.
        key: The name of a state dict in it, or what stands before the names that are meant; both may be joined by a
            dot. None for 'state_dict', 'model', the tensors themselves, or the only state dict.
        find: Whether an encoder is looked for that stands behind a prefix.

    Raises:
        CheckpointError: If it holds no tensors, none of the key, or several state dicts or encoders of which the key
            says none.
    """
    if not isinstance(content, dict):
        what = f'it holds a {type(content).__name__}, not tensors by name.'
        raise CheckpointError(path, what, 'Take a checkpoint or a state dict.')
    groups = _groups(content)
    if not groups:
        raise CheckpointError(path, 'it holds no tensors.', 'Take a checkpoint or a state dict.')
    group, prefix = _group_of(groups, path, key)
    notes = [f'its state dict {group!r} was taken, of {", ".join(groups)}'] if len(groups) > 1 and group else []
    tensors = _unwrapped(groups[group], path)
    if all(name.startswith(DISTRIBUTED) for name in tensors):
        tensors = {name.removeprefix(DISTRIBUTED): tensor for name, tensor in tensors.items()}
        prefix = prefix.removeprefix(DISTRIBUTED)
    if prefix and not any(name.startswith(prefix) for name in tensors):
        parts = {name.rpartition('.')[0] for name in tensors} | set(groups)
        raise CheckpointError(
            path, f'it holds nothing under {key!r}.{did_you_mean(str(key), parts)}', 'Leave --key out, or correct it.'
        )
    left = [name for name in tensors if not name.startswith(prefix)]
    tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if find and (found := _prefix(tensors, path)):
        left += [name for name in tensors if not name.startswith(found)]
        tensors = {name.removeprefix(found): tensor for name, tensor in tensors.items() if name.startswith(found)}
        notes.append(f'the encoder stands behind {found!r} there')
    return Selected(tensors, tuple(left), tuple(notes))


def encoders(names: Iterable[str]) -> list[str]:
    """Return the prefixes behind which names of a known encoder stand; '' for names that are known as they are."""
    names = set(names)
    if 'backbone.layers.0.attn.qkv.weight' in names or detect_family(names) != 'vasomim':
        return ['']
    found = {match[1] for name in names if (match := MARKS.fullmatch(name)) and not NO_ENCODER.fullmatch(match[1])}
    return sorted(found)


def _groups(content: dict) -> dict[str, dict[str, Tensor]]:
    """Return the state dicts of a file by their names, the tensors beside them as ''."""
    groups = {'': content, **{name: each for name, each in content.items() if isinstance(name, str) and name}}
    found = {}
    for name, group in groups.items():
        if isinstance(group, dict):
            tensors = {key: each for key, each in group.items() if isinstance(each, Tensor) and isinstance(key, str)}
            if tensors:
                found[name] = tensors
    return found


def _group_of(groups: Mapping[str, dict[str, Tensor]], path: Path, key: str | None) -> tuple[str, str]:
    """Return the state dict that is meant, and what stands before the names that are meant in it."""
    if key is not None:
        if key in groups:
            return key, ''
        first, _, rest = key.partition('.')
        if first in groups and rest:
            return first, f'{rest}.'
    prefix = '' if key is None else f'{key}.'
    for name in (*FIRST, ''):
        if name in groups:
            return name, prefix
    with_encoder = [name for name, tensors in groups.items() if encoders(_short(tensors))]
    candidates = with_encoder or list(groups)
    if len(candidates) > 1:
        raise _several(path, candidates)
    return candidates[0], prefix


def _short(names: Iterable[str]) -> list[str]:
    return [WRAPPERS.sub('', name).removeprefix(DISTRIBUTED) for name in names]


def _unwrapped(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    plain = {WRAPPERS.sub('', name): tensor for name, tensor in tensors.items()}
    if len(plain) < len(tensors):
        raise CheckpointError(path, 'it holds tensors twice, wrapped and not.', 'Save the model without its wrapper.')
    return plain


def _prefix(tensors: Mapping[str, Tensor], path: Path) -> str:
    found = encoders(tensors)
    if len(found) > 1:
        raise _several(path, [each.rstrip('.') for each in found])
    return found[0] if found else ''


def _several(path: Path, names: list[str]) -> CheckpointError:
    return CheckpointError(
        path,
        f'it holds {len(names)} encoders: {", ".join(names)}.',
        f'Say which by `vasomim convert {path} TARGET --key {names[0]}`, and take TARGET.',
    )
