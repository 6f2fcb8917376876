"""``vasomim prepare pretrain``: published sources of frames in, the merged layout with anatomy maps out."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vasomim import __version__
from vasomim.anatomy import FILTERS
from vasomim.cli.extract import FAILURES_SHOWN, claim, show_progress
from vasomim.cores import cores
from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.files import in_one_step, read_json, write_whole
from vasomim.frames.inputs import left_out
from vasomim.frames.layout import ANATOMY_SUFFIX, existing_folder, list_folder, unread_line
from vasomim.prepare.anatomy_maps import Settings, Task, extract_all

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

ANY_IMAGES = ('syntax', 'xcad', 'folder')  # Kinds of which all images are taken, wherever they lie.


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
        if kind in ('folder', 'dicom'):
            add('--name', required=True, help='of the source; letters, digits, dot, dash and underscore')
        if kind == 'cadica':
            add('--all-videos', action='store_true', help='take nonselectedVideos/ as well')
        if kind != 'arcade':
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
    from vasomim.prepare.destination import reserved
    from vasomim.prepare.sources import unpack_line

    root = options.destination.expanduser()
    name = check_name(getattr(options, 'name', options.kind))
    processes = check_options(options)
    source = Path(options.source).expanduser()
    if source.suffix.lower() == '.7z' and source.is_file():
        raise DatasetError(source, '7z archives are not read.', unpack_line(source))
    if root.resolve().is_relative_to(source.resolve()):  # The next run would take the frames written for the source's.
        raise ConfigError('DST', f'{root} lies in SRC.', 'Name a folder outside of it.')
    with reserved(root, f'.{name}.lock'):
        try:
            return prepare_source(options, source, root, name, processes)
        finally:
            tests_path(root, name).unlink(missing_ok=True)  # Copies of patients' images.


def prepare_source(options: argparse.Namespace, source: Path, root: Path, name: str, processes: int) -> int:
    """Prepare a source in a destination that is reserved; see :func:`run_pretrain`."""
    from vasomim.cli.prepare import progress
    from vasomim.prepare import pool
    from vasomim.prepare.archive import open_source
    from vasomim.prepare.lists import write_lists
    from vasomim.prepare.sources import Selection, list_units

    kind = options.kind
    wanted = wanted_of(options)
    workplace = root / f'.{name}.unpacked'
    if is_finished(source, root, name, wanted):
        remove(workplace)  # Where a run was killed behind its last file.
        print(f'{printable(root / name)}: prepared from {printable(source.name)} already.')
        return 0
    with progress('Unpacking') as report:
        folder = open_source(source, workplace, report)
    selection = Selection(
        tuple(getattr(options, 'leave_out', ())), getattr(options, 'group', None), getattr(options, 'all_videos', False)
    )
    not_images: list[str] = []
    with progress('Listing') as report:
        units = list_units(kind, folder, selection, report, not_images)
    unread = list_folder(folder).unread if kind in ANY_IMAGES else []
    rule = make_rule(options, root, name)
    with progress(f'{name}: files') as report:
        done = pool.write_frames(units, root, name, rule, processes, report)
    rows = pool.kept_rows(units, done, name)
    if not rows:
        raise DatasetError(folder, 'not one frame can be used.', first_reasons(done.damaged) or 'Check the options.')
    failed = make_maps([row['file'] for row in rows], root, name, options.filter, processes)
    pool.write_manifest(rows, root, name)
    summary = summarize(kind, name, units, done, rows, failed)
    summary |= {'not_images': [printable(place) for place in not_images]}
    summary |= {'options': wanted, 'archive': mark_of(source), 'version': __version__}
    if options.held_out is not None:
        summary['lists'] = write_lists(rows, root, name, options.held_out, options.seed)
    write_whole(report_path(root, name), json.dumps(summary, indent=1, ensure_ascii=False))
    remove(workplace)
    say(summary, root, name)
    if unread:
        print(f'  {unread_line(unread)}')
    return int(bool(done.damaged or failed))


def remove(workplace: Path) -> None:
    """Remove what was unpacked of an archive."""
    if workplace.exists():
        shutil.rmtree(workplace)


def tests_path(root: Path, name: str) -> Path:
    """Return where the small copies of the test frames lie while all processes read them."""
    return root / f'.{name}.tests.npy'


def check_name(name: str) -> str:
    """Return the name of a source.

    Raises:
        ConfigError: If it cannot be that of a folder, or is that of the maps or lists.
    """
    if re.fullmatch(r'[A-Za-z0-9][\w.-]*', name, re.ASCII) and not name.endswith(ANATOMY_SUFFIX) and name != 'splits':
        return name
    cure = f"Use letters, digits, '.', '-' and '_'; not an ending {ANATOMY_SUFFIX}, which is that of maps."
    raise ConfigError('--name', f"'{name}' cannot name a source.", cure)


def check_options(options: argparse.Namespace) -> int:
    """Return the number of processes.

    Raises:
        ConfigError: If an option is out of range.
    """
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError('--jobs', f'{options.jobs} processes cannot work.', 'Name at least 1, or leave it out.')
    if not 0 < options.threshold < 1:
        raise ConfigError('--threshold', f'{options.threshold} is no correlation of duplicates.', 'Try 0.97.')
    if options.seed < 0:
        raise ConfigError('--seed', f'{options.seed} is no seed.', 'Name 0 or a positive number.')
    if options.held_out is not None and not 0 < options.held_out < 1:
        raise ConfigError('--held-out', f'{options.held_out:g} leaves nothing to train on.', 'Try 0.05.')
    return options.jobs or cores()


def make_rule(options: argparse.Namespace, root: Path, name: str) -> Any:
    """Return what to leave out; small copies of the test frames go to a file that all processes read."""
    import numpy as np

    from vasomim.cli.check import sets_in
    from vasomim.prepare.thinning import Rule, read_tests

    tests = None
    if options.without:
        copies = read_tests([found for given in options.without for found in sets_in(existing_folder(given))])
        tests = tests_path(root, name)
        with in_one_step(tests, sync=False) as unfinished, unfinished.open('wb') as file:
            np.save(file, copies)
    threshold = options.threshold if options.drop_similar else None
    return Rule(threshold, options.kind == 'arcade', options.threshold, tests)


def wanted_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that decide what is prepared, as stored."""
    left = ('purpose', 'source', 'destination', 'jobs')
    chosen = {key: as_stored(value) for key, value in vars(options).items() if key not in left}
    return chosen | {'without': {printable(path): tests_of(path) for path in options.without}}


def as_stored(value: Any) -> Any:
    """Return the value of an option as JSON holds it: patterns may have the bytes of any name."""
    if isinstance(value, list):
        return [as_stored(each) for each in value]
    return printable(value) if isinstance(value, str | Path) else value


def tests_of(folder: Path) -> str:
    """Return a hash of the names of the test frames of prepared sets, by which another split shows.

    Raises:
        DatasetError: If a set cannot be read.
    """
    from vasomim.cli.check import sets_in
    from vasomim.prepare.prepared import read_split

    base = existing_folder(folder)
    names = [[str(root.relative_to(base)), read_split(root, 'test')] for root in sets_in(base)]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def mark_of(source: Path) -> str:
    """Return what tells whether an archive is the one that was prepared; '' for a folder."""
    if not source.is_file():
        return ''
    return f'{printable(source.name)} {source.stat().st_size} {source.stat().st_mtime_ns}'


def is_finished(source: Path, root: Path, name: str, wanted: dict[str, Any]) -> bool:
    """Return whether this archive was prepared with these options and no damage, and all frames and maps are there."""
    from vasomim.prepare.pool import manifest_path, read_manifest

    mark = mark_of(source)
    if not mark or not report_path(root, name).is_file() or not manifest_path(root, name).is_file():
        return False
    try:
        summary = read_json(report_path(root, name), DatasetError)
        rows = read_manifest(manifest_path(root, name))
    except DatasetError:
        return False  # What is damaged is written again.
    if any(summary.get(key) != value for key, value in (('archive', mark), ('options', wanted))):
        return False
    if summary.get('damaged') != [] or summary.get('maps_failed') != {}:
        return False
    return all((root / f'{name}{suffix}' / row['file']).is_file() for suffix in ('', ANATOMY_SUFFIX) for row in rows)


def report_path(root: Path, name: str) -> Path:
    """Return where the summary of a source lies."""
    return root / f'{name}.json'


def make_maps(files: Sequence[str], root: Path, name: str, kind: str, processes: int) -> dict[str, str]:
    """Make the anatomy maps that are missing; return the frames that failed, and why.

    Raises:
        ConfigError: If the maps there were made with other settings.
        StorageError: If a map cannot be written.
    """
    settings = Settings.of(kind)
    folder = root / f'{name}{ANATOMY_SUFFIX}'
    here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    claim(folder, settings, has_maps=any(file in here for file in files), overwrite=False)
    tasks = [Task(file, root / name / file, folder / file) for file in files if file not in here]
    outcomes = show_progress(f'{name}: maps', extract_all(tasks, settings, processes), len(tasks))
    failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    for path in folder.glob('*.part'):  # Of a run that was killed.
        path.unlink()
    return failed


def summarize(kind: str, name: str, units: Sequence[Any], done: Any, rows: Sequence[Any], failed: Any) -> dict:
    """Return what came of a source."""
    from vasomim.prepare.sources import PUBLISHED
    from vasomim.prepare.thinning import LIKE_TEST, SIMILAR

    reasons = Counter(row.reason for row in done.rows)
    used = {units[row.unit].patient for row in done.rows} - {''}
    return {
        'name': name,
        'kind': kind,
        'files': len(units),
        'frames': len(done.rows),
        'patients': len(used),
        'published': PUBLISHED.get(kind, {}),
        'kept': len(rows),
        'left_out_as_similar': reasons[SIMILAR],
        'left_out_like_a_test_frame': sorted(row.file for row in done.rows if row.reason == LIKE_TEST),
        'damaged': [list(each) for each in done.damaged],
        'maps_failed': failed,
    }


def say(summary: dict[str, Any], root: Path, name: str) -> None:
    """Print what came of a source."""
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
                print(f'    and {len(places) - FAILURES_SHOWN} more, listed in {printable(report_path(root, name))}.')
    if 'lists' in summary:
        where = printable(root / 'splits' / name)
        counts = [f'{each["frames"]} in {where}_{subset}.txt' for subset, each in summary['lists'].items()]
        print(f'  Lists for the readers: {", ".join(counts)}.')
    print(f'  To train on it: vasomim train vasomim::pretrain/vasomim.py --data {printable(root)}')


def first_reasons(damaged: Sequence[tuple[str, str]]) -> str:
    """Return the first damaged places with their messages."""
    return ' '.join(f'{place}: {message}' for place, message in damaged[:3])
