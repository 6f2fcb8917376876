"""Write a checkpoint under this project's names or those of another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vasomim.checkpoints.converting import Conversion, convert_checkpoint
from vasomim.errors import ConfigError


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str = 'vasomim',
    drop: Sequence[str] = (),
    key: str | None = None,
    grid: Sequence[int] | None = None,
    resize: Sequence[int] | None = None,
) -> Conversion:
    """Write a checkpoint under the names of another project; those of the source are detected.

    Args:
        source: A .pth, .pt or .safetensors file, or the folder of a run: its best checkpoint, else its last.
        target: The .safetensors file to write; .pth for what reads nothing else.
        to: Whose names the target has: 'vasomim', 'mmpretrain', 'timm', 'mae' or 'hf'.
        drop: Tensors to go without, or names whose tensors to go without.
        key: Where the file holds several models: the state dict, or what stands before the names of the one meant.
        grid: Rows and columns of the position embeddings, where they form no square and no config says it.
        resize: Rows and columns of patches to which the position embeddings are resized; None leaves them.

    Returns:
        What became of the tensors.

    Raises:
        ConfigError: If a grid has no rows or columns.
        CheckpointError: If the source cannot be read, or cannot be converted without loss, or ``to`` is unknown.
        StorageError: If the target cannot be written.
    """
    for name, value in (('grid', grid), ('resize', resize)):
        if value and min(value) < 1:
            raise ConfigError(f'--{name}', f'{value[0]} x {value[1]} is no grid.', 'Give rows and columns, 1 or more.')
    return convert_checkpoint(source, target, to, drop, rows_and_columns(grid), rows_and_columns(resize), key)


def rows_and_columns(grid: Sequence[int] | None) -> tuple[int, int] | None:
    """Return rows and columns as a tuple."""
    return (grid[0], grid[1]) if grid else None
