"""``vasomim convert``: a checkpoint under this project's names, as safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Convert a checkpoint (VasoMIM's authors, MAE, UNeXt, mmengine) to safetensors with this project's names."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        'source',
        type=Path,
        help='a .pth, .pt or .safetensors file, or the folder of a run: its best checkpoint, else its last',
    )
    parser.add_argument('target', type=Path, help='the .safetensors file to write')


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was found.

    Raises:
        CheckpointError: If the source cannot be read, or the target is not named .safetensors.
    """
    from vasomim.checkpoint import best_checkpoint, read_checkpoint, save_weights
    from vasomim.errors import CheckpointError

    if options.target.suffix != '.safetensors':
        raise CheckpointError(options.target, 'only safetensors files are written.', 'Name it with .safetensors.')
    source = best_checkpoint(options.source)
    checkpoint = read_checkpoint(source)
    save_weights(checkpoint.tensors, options.target, checkpoint.config)
    print(
        f'{source} ({checkpoint.family}) -> {options.target}: {len(checkpoint.tensors)} tensors'
        f'{", with its config" if checkpoint.config else ""}'
    )
    return 0
