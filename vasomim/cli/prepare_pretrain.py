"""``vasomim prepare pretrain``: published sources of frames in, the merged layout with anatomy maps out."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.anatomy import FILTERS
from vasomim.apis.preparing import OF_KINDS, PreparedSource
from vasomim.cli.extract import FAILURES_SHOWN, show_unrecorded
from vasomim.errors import printable
from vasomim.frames.inputs import left_out
from vasomim.frames.layout import ANATOMY_SUFFIX, unread_line

KINDS = {
    'cadica': 'selectedVideos/pX/vY/input/*.png',
    'syntax': 'folders of images',
    'xcad': 'folders of images',
    'coronarydominance': '{Left,Right}_Dominance/<study>/{RCA,LCA}/*.npz; unpack its 7z archives first, '
    'for instance with `7z x ARCHIVE.7z -oSRC`',
    'arcade': 'the published tree or the prepared sets; train and val of both tasks',
    'folder': 'any images, in sub-folders or not',
    'dicom': 'any DICOM files, of one frame or many, in sub-folders or not',
}


def add_pretrain_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
    for kind, text in KINDS.items():
        own = kinds.add_parser(
            kind,
            help=text,
            description=f'SRC: {text}. Damaged files are listed, and the exit status is 1 if there are any; all other '
            'frames arrive. A run that was stopped continues by the same command.',
        )
        add = own.add_argument
        add('source', metavar='SRC', type=Path, help='folder or zip file')
        add('destination', metavar='DST', type=Path, help=f'gets NAME/*.png, NAME{ANATOMY_SUFFIX}/*.png and NAME.csv')
        if kind in OF_KINDS['name']:
            add('--name', required=True, help='of the source; letters, digits, dot, dash and underscore')
        if kind in OF_KINDS['all_videos']:
            add('--all-videos', action='store_true', help='take nonselectedVideos/ as well')
        if kind in OF_KINDS['leave_out']:
            add('--leave-out', metavar='PATTERN', action='append', default=[], help="paths in SRC, such as '*/masks/*'")
            add('--group', metavar='REGEX', help='finds the patient in a path in SRC (default: as the source says)')
        add('--drop-similar', action='store_true', help='leave out frames nearly the same as the last one kept of '
            'their series' + ('; here: as any one kept' if kind == 'arcade' else ''))  # fmt: skip
        add('--threshold', type=float, default=0.97, help='correlation of such frames, 64 x 64 (default: %(default)s)')
        add(
            '--without',
            metavar='SET',
            type=Path,
            nargs='+',
            default=[],
            help='prepared downstream sets: leave out what resembles a frame of their test splits',
        )
        add('--held-out', metavar='SHARE', type=float, help='write splits/{train,held_out}.txt, by patient')
        add('--seed', type=int, default=0, help='of --held-out (default: %(default)s)')
        add('--filter', choices=sorted(FILTERS), default='sato', help='of the anatomy maps (default: %(default)s)')
        add('--jobs', type=int, help='processes (default: one per core)')


def run_pretrain(options: argparse.Namespace) -> int:
    """Prepare, print what came of it, and return 1 if any frame failed.

    Raises:
        DatasetError: If the source is not what it should be, or the destination holds something else.
        ConfigError: If an option is out of range.
        StorageError: If the destination cannot be written, or another process prepares the same source there.
    """
    own = {name: getattr(options, name) for name, kinds in OF_KINDS.items() if options.kind in kinds}
    prepared = apis.prepare_pretrain(
        options.kind,
        options.source,
        options.destination,
        drop_similar=options.drop_similar,
        threshold=options.threshold,
        without=options.without,
        held_out=options.held_out,
        seed=options.seed,
        filter=options.filter,
        jobs=options.jobs,
        progress=True,
        **own,
    )
    if prepared.before:
        print(f'{printable(prepared.root / prepared.name)}: prepared from {printable(prepared.source.name)} already.')
        return 0
    if not prepared.recorded:
        show_unrecorded(prepared.root / f'{prepared.name}{ANATOMY_SUFFIX}', options.filter)
    show(prepared)
    return int(not prepared.complete)


def show(prepared: PreparedSource) -> None:
    """Print what came of a source."""
    summary, root, name = prepared.summary, prepared.root, prepared.name
    units = {'frames': 'frames', 'patients': 'studies' if summary['kind'] == 'coronarydominance' else 'patients'}
    counts = []
    for key, unit in units.items():
        found, published = summary[key], summary['published'].get(key)
        if published is not None:
            counts.append(
                f'{found} {unit}' + (', as published' if found == published else f' (published: {published})')
            )
        elif found:
            counts.append(f'{found} {unit}')
    print(f'{printable(root / name)}: {"; ".join(counts)}; {summary["kept"]} kept.')
    for number, why in (
        (summary['left_out_as_similar'], 'nearly the same as one that is kept'),
        (len(summary['left_out_like_a_test_frame']), 'resemble a test frame'),
    ):
        if number:
            print(f'  {number} left out: they {why}.' if 'resemble' in why else f'  {number} left out: {why}.')
    others = summary['not_images']
    if others:
        print(f'  {printable(left_out(others))}')
    for what, places in (
        ('damaged, and left out', [tuple(each) for each in summary['damaged']]),
        ('frames without a map', list(summary['maps_failed'].items())),
    ):
        if places:
            print(f'  {len(places)} {what}:')
            for place, message in places[:FAILURES_SHOWN]:
                print(f'    {printable(place)}: {printable(message)}')
            if len(places) > FAILURES_SHOWN:
                print(f'    and {len(places) - FAILURES_SHOWN} more, listed in {printable(prepared.report)}.')
    if 'lists' in summary:
        where = printable(root / 'splits' / name)
        counts = [f'{each["frames"]} in {where}_{subset}.txt' for subset, each in summary['lists'].items()]
        print(f'  Lists for the readers: {", ".join(counts)}.')
    print(f'  To train on it: vasomim train vasomim::pretrain/vasomim.py --data {printable(root)}')
    if prepared.unread:
        print(f'  {unread_line(prepared.unread)}')
