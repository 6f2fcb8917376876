"""Checkpoints under the names of another project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vasomim.checkpoints.encoders import CONFIG_FILE, heads_of, source_grid
from vasomim.checkpoints.families import (
    HEADS,
    POSITIONS,
    PREFIX,
    expected,
    is_plain_vit,
    refuse_others,
    resize_positions,
    settle,
    translate,
)
from vasomim.checkpoints.loading import LEAST, NEEDED, LoadReport
from vasomim.checkpoints.reading import Checkpoint, read_checkpoint
from vasomim.checkpoints.runs import best_checkpoint
from vasomim.checkpoints.writing import save_pickled, save_weights
from vasomim.errors import CheckpointError

# Where a file of PyTorch has the tensors, for those who look for them there; others take a bare state dict.
KEYS = {'mae': 'model', 'vasomim': 'state_dict', 'mmpretrain': 'state_dict'}


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote, from which family, and what it did to the tensors beside renaming them."""

    report: LoadReport
    family: str
    written: int
    with_config: bool
    notes: tuple[str, ...] = ()


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str = 'vasomim',
    drop: Sequence[str] = (),
    grid: tuple[int, int] | None = None,
    resize: tuple[int, int] | None = None,
    key: str | None = None,
) -> Conversion:
    """Write a checkpoint under the names of another project; its family is detected.

    Args:
        source: As in :func:`vasomim.checkpoints.reading.read_checkpoint`; of a run's folder its best checkpoint, else
            its last.
        target: The file to write: .safetensors, or .pth for what cannot read that.
        to: 'vasomim', 'mmpretrain', 'timm', 'mae' or 'hf'.
        drop: Tensors to go without; see :func:`vasomim.checkpoints.families.adopt`.
        grid: Patches per column and row of the position embeddings; None for what the config says, else a square.
        resize: Patches per column and row that the position embeddings are resized to; None leaves them.
        key: The state dict, or what stands before the names of the encoder that is meant, where there are several.

    Returns:
        What became of the tensors.

    Raises:
        CheckpointError: If the source cannot be read, the target has another suffix, the encoder lacks more than one in
            twenty of its tensors, or holds what the target has no place for.
    """
    target = Path(target)
    if target.suffix not in ('.safetensors', '.pth', '.pt'):
        cure = 'Name it with .safetensors, or with .pth for programs that read nothing else.'
        raise CheckpointError(target, f'there is no format {target.suffix or "without a suffix"} to write.', cure)
    path = best_checkpoint(source)
    checkpoint = read_checkpoint(path, drop, grid, key=key, find=True)
    tensors, left, notes = dict(checkpoint.tensors), list(checkpoint.left), checkpoint.notes
    if checkpoint.family not in ('vasomim', 'unext'):
        refuse_others(tensors, path, HEADS)
        left += [name for name in tensors if not name.startswith(('backbone.', 'neck.'))]
        tensors = {name: tensor for name, tensor in tensors.items() if name not in left}
    settled: tuple[str, ...] = ()
    if to != 'mmpretrain':  # Whose models hold more than a plain ViT, under the same names.
        tensors, settled = settle(tensors, path, grid)
    resized = _resize_positions(tensors, checkpoint, path, grid, resize) if resize else []
    theirs, unnamed = translate(tensors, to, path)
    wanted = expected(tensors) if to != 'vasomim' or checkpoint.family != 'vasomim' else []
    if to != 'vasomim' and not wanted:
        cure = 'Convert it without --to, or take a checkpoint of an encoder.'
        raise CheckpointError(path, f'it holds no plain ViT, for which {to} would have names.', cure)
    report = LoadReport(
        str(path),
        matched=sorted(tensors.keys() - set(unnamed)),
        missing=sorted(set(wanted) - tensors.keys()),
        unexpected=sorted([*left, *unnamed]),
        resized=resized,
    )
    lacking = [name for name in report.missing if name.removeprefix('backbone.') in NEEDED]
    if lacking or len(report.missing) > (1 - LEAST) * len(wanted):
        cure, name = 'Take a checkpoint with the whole encoder.', [*lacking, *report.missing][0]
        raise CheckpointError(path, f'its encoder is not whole: {name} is missing ({report}).', cure)
    # One that describes the tensors no more would only mislead.
    config = None if resized or settled or to not in ('vasomim', 'mmpretrain') else checkpoint.config
    facts: dict[str, str] = {}
    encoder = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if is_plain_vit(tensors) and (heads := heads_of(checkpoint, encoder, path)):
        facts['num_heads'] = str(heads[0])
        notes += (f'{heads[0]} heads, as {heads[1]} says',) if heads[1] == CONFIG_FILE else ()
    if target.suffix == '.safetensors':
        save_weights(theirs, target, config, **facts)
    else:
        meta: dict[str, Any] = {**facts, **({'cfg': config} if config else {})}
        inner = KEYS.get(to)
        save_pickled({inner: theirs, **({'meta': meta} if meta else {})} if inner else theirs, target)
    return Conversion(report, checkpoint.family, len(theirs), config is not None, (*notes, *settled))


def _resize_positions(
    tensors: dict[str, Tensor],
    checkpoint: Checkpoint,
    path: Path,
    grid: tuple[int, int] | None,
    resize: tuple[int, int],
) -> list[str]:
    resized = []
    for name in (POSITIONS, 'neck.decoder_pos_embed'):
        if name in tensors:
            from_grid = grid or source_grid(checkpoint, tensors[name], path)
            if tensors[name].shape[1] != 1 + from_grid[0] * from_grid[1]:
                what = f'{name} has {tensors[name].shape[1] - 1} positions, not {from_grid[0]} x {from_grid[1]}.'
                raise CheckpointError(path, what, 'Give the grid of the checkpoint as --grid ROWS COLUMNS.')
            tensors[name] = resize_positions(tensors[name], from_grid, resize)
            resized.append(name)
    return resized
