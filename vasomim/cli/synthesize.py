"""``vasomim synthesize``: write synthetic angiograms in a published layout."""

from __future__ import annotations

import argparse

from vasomim.cli.arguments import seed
from vasomim.errors import printable

SUMMARY = 'Write synthetic angiograms with their truth in the layout of a published dataset.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    from vasomim.prepare.catalog import layouts

    parser.add_argument('dst', help='folder of the dataset; a run that stopped continues there')
    parser.add_argument(
        '--layout', default='xa170k', metavar='NAME', help=f'{", ".join(layouts())} (default: %(default)s)'
    )
    parser.add_argument('--frames', type=int, default=200, help='images in all (default: %(default)s)')
    parser.add_argument('--seed', type=seed, default=0, help='another seed, another dataset (default: %(default)s)')
    parser.add_argument('--size', type=int, default=512, help='height and width, pixels (default: %(default)s)')
    parser.add_argument('--jobs', type=int, help='processes (default: one for each core)')
    parser.add_argument('--truth', action='store_true', help='also write masks of all vessels, 0/255, under DST_truth')


def run(options: argparse.Namespace) -> int:
    """Write the dataset, with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vasomim.prepare.catalog import layouts
    from vasomim.synthetic.writer import synthesize

    progress = Progress(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = progress.add_task('Simulating', total=options.frames)

    def report(done: int, total: int) -> None:
        progress.start()  # Not before: an error in the options is no progress.
        progress.update(task, completed=done, total=total)

    try:
        summary = synthesize(
            options.dst,
            options.layout,
            options.frames,
            options.seed,
            options.size,
            options.jobs,
            options.truth,
            report,
            layouts(),
        )
    finally:
        progress.stop()
    kept = f', {summary.kept} were there already' if summary.kept else ''
    print(f'{printable(options.dst)}: {summary.written} frames written{kept}.')
    return 0
