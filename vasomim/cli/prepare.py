"""``vasomim prepare``: published archives in, one layout out; see prepare_pretrain for frames without labels."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vasomim import apis
from vasomim.apis.preparing_labels import PreparedLabels
from vasomim.cli.prepare_pretrain import add_pretrain_arguments, run_pretrain
from vasomim.errors import printable
from vasomim.prepare.catalog import all_datasets
from vasomim.prepare.folder import FOLDER
from vasomim.prepare.prepared import EMPTY_SPLIT

SUMMARY = 'Bring data, as published or your own, into the layout of the readers: to pre-train on, or labelled.'

OPTIONS: dict[str, dict[str, Any]] = {  # Of the labelled sets; each has those that its dataset names.
    'seed': dict(type=int, default=0, help='of the splits, where none are published (default: %(default)s)'),
    'val': dict(type=float, default=0.1, help='share for validation, where none is published (default: 0.1)'),
    'test': dict(type=float, help="share for testing, where no list says it (default: the set's published one)"),
    'group': dict(
        metavar='REGEX',
        help="finds the patient in a name, whose frames stay in one split; '.+': each frame by itself",
    ),
    'threshold': dict(type=int, help='grey levels of a mask above it are foreground (default: two values)'),
    'label': dict(metavar='NAME', help='what the masks show (default: vessel)'),
    'skip_missing': dict(action='store_true', help='leave out listed images that are not on disk'),
}
FLAGS = {'label': '--class', 'skip_missing': '--skip-missing'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f'{SUMMARY} A run that was stopped continues where it stopped.'
    tasks = parser.add_subparsers(dest='purpose', required=True, metavar='{pretrain,downstream}')
    add_pretrain_arguments(tasks.add_parser('pretrain', help='frames without labels, with anatomy maps'))
    downstream = tasks.add_parser('downstream', help='labelled data for segmentation or detection')
    kinds = downstream.add_subparsers(dest='kind', required=True, metavar='KIND')
    for dataset in (*all_datasets(), FOLDER):
        text = dataset.layout.replace('%', '%%')
        own = kinds.add_parser(dataset.name, help=text, description=f'SRC: {text}.')
        own.add_argument('source', metavar='SRC', type=Path, help='folder or zip file')
        add_destination(own, dataset.options)
    simulated = ', '.join(dataset.name for dataset in all_datasets() if dataset.simulate)
    text = f'simulated into DST_published, then prepared; SRC is one of {simulated}'
    own = kinds.add_parser('synthetic', help=text, description=f'{text}.')
    own.add_argument('source', metavar='SRC', help=simulated)
    own.add_argument('--frames', type=int, default=64, help='images in all (default: %(default)s)')
    own.add_argument('--size', type=int, default=512, help='height and width, pixels (default: %(default)s)')
    own.add_argument('--jobs', type=int, help='processes that simulate (default: one for each core)')
    add_destination(own, ('seed', 'val'))


def add_destination(parser: argparse.ArgumentParser, options: Iterable[str]) -> None:
    """Add DST, and options of :data:`OPTIONS`."""
    parser.add_argument('destination', metavar='DST', type=Path, help='folder of the prepared set')
    for name in options:
        parser.add_argument(FLAGS.get(name, f'--{name}'), dest=name, **OPTIONS[name])


def run(options: argparse.Namespace) -> int:
    """Prepare, and print what came of it.

    Raises:
        DatasetError: If the source is not what it should be, or the destination holds something else.
        ConfigError: If an option is out of range.
        StorageError: If the destination cannot be written, or another process prepares it.
    """
    if options.purpose == 'pretrain':
        return run_pretrain(options)
    own = {name: getattr(options, name) for name in (*OPTIONS, 'frames', 'size', 'jobs') if hasattr(options, name)}
    apis.prepare_downstream(options.kind, options.source, options.destination, progress=True, finished=show, **own)
    return 0


def show(prepared: PreparedLabels) -> None:
    """Print what came of a set."""
    counts = ', '.join(f'{number} {split}' for split, number in prepared.frames.items())
    print(f'{printable(prepared.root)}: {counts}. Splits: {printable(prepared.split_rule)}.')
    for split, number in prepared.frames.items():
        if not number:
            print(f'  warning: no frame for {split}. {EMPTY_SPLIT}')
    for line in prepared.repairs.lines():
        print(f'  {printable(line)}')
