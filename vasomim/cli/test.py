"""``vasomim test``: metrics of a fine-tuned checkpoint on a test split, per image and as a contact sheet."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from vasomim import apis
from vasomim.cli.trust import add_trust
from vasomim.errors import printable

SUMMARY = 'Evaluate a fine-tuned checkpoint: metrics, a table of all images, and pictures of best, median and worst.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = f'{parser.prog} CONFIG CHECKPOINT [options]'
    parser.add_argument(
        'config', metavar='CONFIG', help='config of the task: data and metrics; the model comes from the checkpoint'
    )
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='checkpoint of the task, or the folder of its run (its best checkpoint)',
    )
    parser.add_argument('--data', metavar='FOLDER', help='prepared data to read instead of that of the config')
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='where metrics.json, cases.csv and cases.png go (default: test/ by the checkpoint)',
    )
    parser.add_argument('--hd95', action='store_true', help='the 95 %% Hausdorff distance as well; segmentation only')
    parser.add_argument(
        '--score',
        type=float,
        metavar='S',
        help='score from which boxes count for F1 and are drawn (default: 0.5); detection only',
    )
    parser.add_argument(
        '--num', type=int, default=3, help='best, median and worst cases to draw (default: %(default)s)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config, as in `vasomim train`'
    )
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Evaluate, and print the figures; see :func:`vasomim.apis.evaluating.evaluate`."""
    found = apis.evaluate(
        options.config,
        options.checkpoint,
        data=options.data,
        work_dir=options.work_dir,
        hd95=options.hd95,
        score=options.score,
        num=options.num,
        options=options.cfg_options,
        trust_config=options.trust_config,
    )
    show(found.metrics, f'{found.checkpoint.name} on {found.images} images')
    print(f'metrics.json, cases.csv, cases.png and NOTICE.txt in {printable(found.folder)}')
    return 0


def show(figures: Mapping[str, float], title: str) -> None:
    """Print metrics as a table below a title, and a warning where a model predicts hardly anything."""
    import rich
    from rich.table import Table

    print(printable(title))
    table = Table()
    table.add_column('metric')
    table.add_column('value', justify='right')
    for key, value in figures.items():
        text = f'{value:,}' if isinstance(value, int) else 'undefined' if math.isnan(value) else f'{value:.4f}'
        table.add_row(key, text)
    rich.print(table)
    if figures.get('cases/predicted_boxes') == 0:
        print('warning: no box reaches the score from which they count; lower it by --score.')
    empty, images = figures.get('empty_prediction', 0), figures.get('images', 0)
    if empty - figures.get('empty_truth', 0) > images / 2:
        print(f'warning: the prediction is empty for {empty} of {images} images; the training may have been too short.')
