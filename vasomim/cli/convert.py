"""``vasomim convert``: a checkpoint under this project's names or those of another, as safetensors."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from vasomim import apis

SUMMARY = "Convert a checkpoint between this project's names and those of VasoMIM's authors, MAE, timm, transformers."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        'source',
        type=Path,
        help='a .pth, .pt or .safetensors file, or the folder of a run: its best checkpoint, else its last',
    )
    parser.add_argument('target', type=Path, help='the .safetensors file to write; .pth for what reads nothing else')
    parser.add_argument(
        '--to',
        default='vasomim',
        choices=('vasomim', 'mmpretrain', 'timm', 'mae', 'hf'),
        help='whose names the target has (default: vasomim); the names of the source are detected',
    )
    parser.add_argument(
        '--drop',
        action='append',
        default=[],
        metavar='NAME',
        help='go without a tensor, or without all that a name holds; may be repeated',
    )
    parser.add_argument(
        '--key',
        help='where the file holds several models: the state dict, or what stands before the names of the one that is '
        'meant (teacher, base_encoder, teacher.backbone)',
    )
    parser.add_argument(
        '--grid',
        nargs=2,
        type=int,
        metavar=('ROWS', 'COLUMNS'),
        help='the grid of the position embeddings, where they form no square and no config says it',
    )
    parser.add_argument(
        '--resize',
        nargs=2,
        type=int,
        metavar=('ROWS', 'COLUMNS'),
        help='resize the position embeddings to this grid of patches',
    )


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was found, left out and changed; see :func:`vasomim.apis.converting.convert`."""
    done = apis.convert(
        options.source,
        options.target,
        to=options.to,
        drop=options.drop,
        key=options.key,
        grid=options.grid,
        resize=options.resize,
    )
    report = done.report
    print(
        f'{report.source} ({done.family}) -> {options.target} ({options.to}): {done.written} tensors'
        f'{", with its config" if done.with_config else ""}'
    )
    print(
        f'{len(report.matched)} tensors matched, {len(report.missing)} missing, {len(report.unexpected)} left out, '
        f'{len(report.resized)} resized'
    )
    if report.missing:
        print(f'missing: {", ".join(report.missing)}')
    if report.unexpected:
        print(f'left out: {grouped(report.unexpected)}')
    for note in done.notes:
        print(f'note: {note}')
    if options.to == 'hf' or done.family == 'hf':
        print("note: this project normalizes with layer_norm_eps 1e-6, transformers' ViT by default with 1e-12")
    return 0


def grouped(names: list[str]) -> str:
    """Return tensors in short, many of one part by its name and their number: 'pooler (2), mask_token'."""
    parts = Counter(name.split('.')[0] for name in names if name.endswith(('.weight', '.bias')))
    alone = [name for name in names if not name.endswith(('.weight', '.bias'))]
    return ', '.join([*(f'{part} ({count})' for part, count in parts.items()), *alone])
