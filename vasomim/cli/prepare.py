"""``vasomim prepare``: published archives in, one layout out; see prepare_pretrain for frames without labels."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasomim.errors import printable

if TYPE_CHECKING:
    from vasomim.prepare.published import PublishedDataset

SUMMARY = 'Bring data, as published or your own, into the layout of the readers: to pre-train on, or labelled.'

SECONDS_BETWEEN_LINES = 30.0
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
    from vasomim.cli.prepare_pretrain import add_pretrain_arguments

    add_pretrain_arguments(tasks.add_parser('pretrain', help='frames without labels, with anatomy maps'))
    downstream = tasks.add_parser('downstream', help='labelled data for segmentation or detection')
    kinds = downstream.add_subparsers(dest='kind', required=True, metavar='KIND')
    from vasomim.prepare.catalog import all_datasets
    from vasomim.prepare.folder import FOLDER

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
    from vasomim.prepare.catalog import find_dataset
    from vasomim.prepare.folder import FOLDER
    from vasomim.prepare.prepared import EMPTY_SPLIT
    from vasomim.prepare.published import CHOICES
    from vasomim.prepare.recognition import find_root
    from vasomim.prepare.splitting import Choices
    from vasomim.prepare.write import write_plan

    if options.kind == 'synthetic':
        dataset = find_simulated(options.source)
        source = simulate(dataset, options, destination)
    else:
        dataset = FOLDER if options.kind == FOLDER.name else find_dataset(options.kind)
        source = options.source
    workplace = destination.with_name(f'.{destination.resolve().name}.unpacked')
    with progress('Unpacking') as report:
        folder = open_source(source, workplace, report)
    root_of = folder if dataset is FOLDER else find_root(dataset, folder)
    choices = Choices(**{name: getattr(options, name) for name in CHOICES if hasattr(options, name)})
    with progress('Reading annotations') as report:
        plans = dataset.plans(root_of, choices, report)
    for plan in plans:
        root = destination / plan.name if len(dataset.sets) > 1 else destination
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


def find_simulated(name: str) -> PublishedDataset:
    """Return a published dataset that can be simulated.

    Raises:
        DatasetError: If there is none of that name.
    """
    from vasomim.errors import DatasetError, did_you_mean
    from vasomim.prepare.catalog import all_datasets

    simulated = {dataset.name: dataset for dataset in all_datasets() if dataset.simulate}
    if name not in simulated:
        hint = did_you_mean(name, simulated)
        raise DatasetError(name, f'no set to simulate.{hint}', f'Choose one of {", ".join(simulated)}.')
    return simulated[name]


def simulate(dataset: PublishedDataset, options: argparse.Namespace, destination: Path) -> Path:
    """Simulate a published set beside the destination and return its folder."""
    from vasomim.prepare.catalog import layouts
    from vasomim.synthetic.writer import synthesize

    root = destination.with_name(f'{destination.resolve().name}_published')
    with progress('Simulating') as report:
        synthesize(
            root,
            dataset.name,
            options.frames,
            options.seed,
            options.size,
            options.jobs,
            report=report,
            layouts=layouts(),
        )
    return root


def count_line(plan: Any) -> Iterator[str]:
    """Yield the numbers of frames of each split."""
    for split in ('train', 'val', 'test'):
        yield f'{sum(frame.split == split for frame in plan.frames)} {split}'


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and elsewhere a line now and then; yield the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    # Brackets in a folder's name are no colours.
    columns = (TextColumn('{task.description}', markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        title = printable(title)
        task = bar.add_task(title, total=None, visible=False)  # Seen from the first report on.
        start = said = time.monotonic()
        first: int | None = None

        def report(done: int, total: int) -> None:
            nonlocal said, first
            bar.update(task, completed=done, total=total, visible=True)
            now = time.monotonic()
            first = done if first is None else first  # What an earlier run did took no time of this one.
            if not console.is_terminal and now - said > SECONDS_BETWEEN_LINES:
                said = now
                left = f', {(total - done) * (now - start) / (done - first):.0f} s left' if done > first else ''
                print(f'{title}: {done} of {total}{left}', flush=True)

        yield report
