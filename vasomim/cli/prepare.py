"""``vasomim prepare``: published archives in, one layout out; see prepare_pretrain for frames without labels."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vasomim.errors import printable
from vasomim.progress import progress_bar as progress

SUMMARY = 'Bring data, as published or your own, into the layout of the readers: to pre-train on, or labelled.'

KINDS = {
    'arcade': 'the published tree, {syntax,stenosis}/{train,val,test}/{images,annotations}; DST gets three sets: '
    'arcade_v (vessels), arcade_vs (25 segments), arcade_s (stenoses: masks and boxes)',
    'xcav': 'CVAI-*/images/<view> and CVAI-*/ground_truth/<view>; splits are ours, by patient',
    'caxf': 'images/, masks/, train.txt, test.txt and, if there is one, val.txt',
    'stenosis': 'one folder of .bmp and .xml (Danilov et al.); splits are ours, by patient',
    'folder': 'your own: images/ and masks/ of any two grey values; or images with Pascal VOC .xml; or images/ and '
    'COCO .json files',
    'synthetic': 'SRC is arcade, xcav, caxf or stenosis: simulated into DST_published, then prepared',
}
SIMULATED = ('arcade', 'xcav', 'caxf', 'stenosis')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f'{SUMMARY} A run that was stopped continues where it stopped.'
    tasks = parser.add_subparsers(dest='purpose', required=True, metavar='{pretrain,downstream}')
    from vasomim.cli.prepare_pretrain import add_pretrain_arguments

    add_pretrain_arguments(tasks.add_parser('pretrain', help='frames without labels, with anatomy maps'))
    downstream = tasks.add_parser('downstream', help='labelled data for segmentation or detection')
    kinds = downstream.add_subparsers(dest='kind', required=True, metavar='KIND')
    for kind, text in KINDS.items():
        own = kinds.add_parser(kind, help=text, description=f'SRC: {text}.')
        add = own.add_argument
        if kind == 'synthetic':
            add('source', metavar='SRC', help=', '.join(SIMULATED))
            add('--frames', type=int, default=64, help='images in all (default: %(default)s)')
            add('--size', type=int, default=512, help='height and width, pixels (default: %(default)s)')
            add('--jobs', type=int, help='processes that simulate (default: one for each core)')
        else:
            add('source', metavar='SRC', type=Path, help='folder or zip file')
        add('destination', metavar='DST', type=Path, help='folder of the prepared set')
        if kind != 'arcade':
            add('--seed', type=int, default=0, help='of the splits, where none are published (default: %(default)s)')
            add('--val', type=float, default=0.1, help='share for validation, where none is published (default: 0.1)')
        if kind in ('xcav', 'stenosis', 'folder'):
            add(
                '--test', type=float, help="share for testing, where no list says it (default: the set's published one)"
            )
        if kind not in ('arcade', 'synthetic'):
            add(
                '--group',
                metavar='REGEX',
                help="finds the patient in a name, whose frames stay in one split; '.+': each frame by itself",
            )
        if kind in ('xcav', 'caxf', 'folder'):
            add('--threshold', type=int, help='grey levels of a mask above it are foreground (default: two values)')
        if kind == 'folder':
            add('--class', dest='label', metavar='NAME', help='what the masks show (default: vessel)')
        if kind in ('arcade', 'folder'):
            add('--skip-missing', action='store_true', help='leave out listed images that are not on disk')


def run(options: argparse.Namespace) -> int:
    """Prepare, and print what came of it.

    Raises:
        DatasetError: If the source is not what it should be, or the destination holds something else.
        ConfigError: If an option is out of range.
        StorageError: If the destination cannot be written, or another process prepares it.
    """
    if options.purpose == 'pretrain':
        from vasomim.cli.prepare_pretrain import run_pretrain

        return run_pretrain(options)
    from vasomim.prepare.destination import reserved

    destination = options.destination.expanduser()
    with reserved(destination):
        prepare_downstream(options, destination)
    return 0


def prepare_downstream(options: argparse.Namespace, destination: Path) -> None:
    """Prepare a labelled set, and print what came of it."""
    from vasomim.prepare.archive import open_source
    from vasomim.prepare.prepared import EMPTY_SPLIT
    from vasomim.prepare.write import write_plan

    kind, source = options.kind, options.source
    if kind == 'synthetic':
        kind, source = source, simulate(options, destination)
    workplace = destination.with_name(f'.{destination.resolve().name}.unpacked')
    with progress('Unpacking') as report:
        folder = open_source(Path(source), workplace, report)
    plans = read_plans(kind, folder, options)
    for plan in plans:
        root = destination / plan.name if kind == 'arcade' else destination
        with progress(f'Preparing {plan.name}') as report:
            repairs = write_plan(plan, root, report)
        print(f'{printable(root)}: {", ".join(count_line(plan))}. Splits: {printable(plan.split_rule)}.')
        for split in ('train', 'val', 'test'):
            if not any(frame.split == split for frame in plan.frames):
                print(f'  warning: no frame for {split}. {EMPTY_SPLIT}')
        for line in repairs.lines():
            print(f'  {printable(line)}')
    if workplace.exists():  # Only where this or an earlier, stopped run unpacked an archive.
        shutil.rmtree(workplace)


def simulate(options: argparse.Namespace, destination: Path) -> Path:
    """Simulate a published set beside the destination and return its folder.

    Raises:
        DatasetError: If there is no such set.
    """
    from vasomim.errors import DatasetError, did_you_mean
    from vasomim.synthetic.writer import synthesize

    if options.source not in SIMULATED:
        hint = did_you_mean(options.source, SIMULATED)
        raise DatasetError(options.source, f'no set to simulate.{hint}', f'Choose one of {", ".join(SIMULATED)}.')
    root = destination.with_name(f'{destination.resolve().name}_published')
    with progress('Simulating') as report:
        synthesize(root, options.source, options.frames, options.seed, options.size, options.jobs, report=report)
    return root


def read_plans(kind: str, folder: Path, options: argparse.Namespace) -> list[Any]:
    """Read a published set into plans."""
    from vasomim.prepare import sets
    from vasomim.prepare.arcade import read_arcade
    from vasomim.prepare.published import find_root
    from vasomim.prepare.splitting import Choices

    if kind == 'arcade':
        return read_arcade(find_root(kind, folder), getattr(options, 'skip_missing', False))
    chosen = {name: getattr(options, name) for name in Choices.__dataclass_fields__ if hasattr(options, name)}
    choices = Choices(**chosen)
    with progress('Reading annotations') as report:
        if kind == 'folder':
            return sets.read_folder(folder, choices, report)
        readers = {'xcav': sets.read_xcav, 'caxf': sets.read_caxf, 'stenosis': sets.read_stenosis}
        return readers[kind](find_root(kind, folder), choices, report)


def count_line(plan: Any) -> Iterator[str]:
    """Yield the numbers of frames of each split."""
    for split in ('train', 'val', 'test'):
        yield f'{sum(frame.split == split for frame in plan.frames)} {split}'
