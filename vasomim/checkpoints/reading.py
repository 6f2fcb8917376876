"""Checkpoints as tensors by our names, whatever project they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vasomim.checkpoints.families import adopt
from vasomim.checkpoints.naming import detect_family
from vasomim.checkpoints.runs import find_weights
from vasomim.checkpoints.selecting import select
from vasomim.checkpoints.stored_config import DISTRUST, look_up
from vasomim.errors import CheckpointError
from vasomim.tensorfiles import check_values, read_file


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by our names, how the file named them, and the config of their training where it has one.

    ``left`` are the tensors that were left out, as its reader asked or because they belong to another model, ``notes``
    what was chosen and done to the others, ``heads`` how many heads its encoder has where the file says it.
    """

    path: Path
    tensors: dict[str, Tensor]
    family: str
    config: str | None = None
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    heads: int | None = None


def read_checkpoint(
    source: str | Path,
    drop: Sequence[str] = (),
    grid: tuple[int, int] | None = None,
    rotary: bool = False,
    key: str | None = None,
    find: bool = False,
) -> Checkpoint:
    """Read a checkpoint without running code from it, and turn the tensors of known families into ours.

    Args:
        source: A .safetensors or PyTorch file, the folder of a run, or the name of weights that come with the package.
        drop: Tensors to go without; see :func:`vasomim.checkpoints.families.adopt`.
        grid: Patches per column and row, where the number of position embeddings does not tell.
        rotary: Whether it is for an encoder with rotary positions.
        key: The state dict, or what stands before the names of the model that is meant, where there are several.
        find: Whether only an encoder is wanted: one behind a prefix is then found, unless the file has a config.

    Raises:
        CheckpointError: If there is no such file, it is damaged, it holds more than tensors and plain values, NaN or
            infinity, or what a plain ViT cannot hold.
    """
    path = find_weights(source)
    content = read_file(path)
    meta = _meta(content)
    config = meta.get('cfg')
    config = config if isinstance(config, str) else None
    chosen = select(content, path, key, find and config is None)
    family = detect_family(chosen.tensors)
    adopted = adopt(chosen.tensors, family, path, drop, grid, rotary)
    check_values(adopted.tensors, path)
    heads = str(meta.get('num_heads', ''))
    return Checkpoint(
        path,
        adopted.tensors,
        family,
        config,
        left=(*adopted.dropped, *chosen.left),
        notes=(*chosen.notes, *adopted.notes),
        heads=int(heads) if heads.isascii() and heads.isdigit() and len(heads) < 6 else None,
    )


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the tensors of a known family into ours; a name that is not known stays."""
    return adopt(tensors, detect_family(tensors), 'tensors').tensors


def trained_classes(source: str | Path) -> tuple[str, ...]:
    """Return the classes that a checkpoint was trained on, without the background; empty where it doesn't say.

    Raises:
        CheckpointError: If it cannot be read, or what it says are no names.
    """
    content = read_file(find_weights(source), values=False)
    names = look_up(content, 'meta.dataset_meta.classes', (list, tuple), source, ())
    if not all(isinstance(name, str) for name in names):
        raise CheckpointError(source, 'its classes (meta.dataset_meta.classes) are no names.', DISTRUST)
    return tuple(names[1:] if names[:1] in (('background',), ['background']) else names)


def _meta(content: Any) -> dict[str, Any]:
    meta = content.get('meta') if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else {}
