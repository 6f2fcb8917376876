"""Bring published sources of frames, or your own, into the merged layout to pre-train on, with anatomy maps."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vasomim import __version__
from vasomim.errors import ConfigError, DatasetError, did_you_mean, printable
from vasomim.files import in_one_step, read_json, write_whole
from vasomim.frames.layout import ANATOMY_SUFFIX, existing_folder, list_folder
from vasomim.prepare import pool
from vasomim.prepare.anatomy_maps import Settings, Task, extract_all, record
from vasomim.prepare.archive import open_source
from vasomim.prepare.destination import reserved
from vasomim.prepare.lists import write_lists
from vasomim.prepare.prepared import read_split, sets_in
from vasomim.prepare.sources import KINDS, PUBLISHED, Selection, Unit, list_units, unpack_line
from vasomim.prepare.thinning import LIKE_TEST, SIMILAR, Rule, read_tests
from vasomim.processes import number_of
from vasomim.progress import progress_bar

ANY_IMAGES = ('syntax', 'xcad', 'folder')  # Kinds of which all images are taken, wherever they lie.
OF_KINDS = {  # Which kinds take an option that not all take.
    'name': ('folder', 'dicom'),
    'all_videos': ('cadica',),
    'leave_out': tuple(kind for kind in KINDS if kind != 'arcade'),
    'group': tuple(kind for kind in KINDS if kind != 'arcade'),
}


@dataclass(frozen=True)
class PreparedSource:
    """What came of a source.

    Attributes:
        root: The merged layout: ``NAME/*.png``, ``NAME_frangi/*.png`` and ``NAME.csv``.
        name: Of the source.
        source: Folder or zip file that it was read from.
        summary: What ``NAME.json`` says: counts, options, damaged files, frames without a map.
        unread: Pictures of kinds that are not read.
        before: Whether an earlier run had prepared the same archive in full, so that nothing was done.
        recorded: Whether the folder of the maps says with which settings all of them were made.
    """

    root: Path
    name: str
    source: Path
    summary: dict[str, Any]
    unread: list[str]
    before: bool = False
    recorded: bool = True

    @property
    def report(self) -> Path:
        """The file that holds the summary."""
        return report_path(self.root, self.name)

    @property
    def complete(self) -> bool:
        """Whether no file was damaged and each frame has its map."""
        return not self.summary['damaged'] and not self.summary['maps_failed']


def prepare_pretrain(
    kind: str,
    source: str | Path,
    destination: str | Path,
    *,
    name: str | None = None,
    all_videos: bool = False,
    leave_out: Sequence[str] = (),
    group: str | None = None,
    drop_similar: bool = False,
    threshold: float = 0.97,
    without: Sequence[str | Path] = (),
    held_out: float | None = None,
    seed: int = 0,
    filter: str = 'sato',
    jobs: int | None = None,
    progress: bool = False,
) -> PreparedSource:
    """Prepare one source; damaged files are listed in the result, and all other frames arrive.

    A run that was stopped continues by the same call.

    Args:
        kind: What the source is: one of :data:`vasomim.prepare.sources.KINDS`.
        source: Folder or zip file.
        destination: Folder of the merged layout, which may hold other sources.
        name: Of the source, for the kinds 'folder' and 'dicom': letters, digits, '.', '-' and '_'.
        all_videos: Of 'cadica': whether to take the videos that were not selected as well.
        leave_out: Patterns of paths in the source; not of 'arcade'.
        group: Regular expression that finds the patient in a path in the source; None means as the source says. Not of
            'arcade'.
        drop_similar: Whether to leave out frames nearly the same as the last one kept of their series, of 'arcade' as
            any one kept.
        threshold: Correlation of such frames at 64 x 64, in (0, 1).
        without: Prepared downstream sets: what resembles a frame of their test splits is left out.
        held_out: Share of the frames for ``splits/held_out.txt``, by patient, in (0, 1); None writes no lists.
        seed: Of ``held_out``, >= 0.
        filter: Of the anatomy maps, see :func:`vasomim.apis.extract`.
        jobs: Processes, >= 1; None means one for each core.
        progress: Whether to show progress bars.

    Raises:
        DatasetError: If the source is not what it should be, the destination holds something else, or a process dies.
        ConfigError: If an option is out of range, or the kind does not take it.
        StorageError: If the destination cannot be written, or another process prepares the same source there.
    """
    chosen = {'name': name, 'all_videos': all_videos, 'leave_out': list(leave_out), 'group': group}
    own = options_of(kind, chosen)
    root, source = Path(destination).expanduser(), Path(source).expanduser()
    title = check_name(own.get('name', kind))
    processes = number_of(jobs)
    check_numbers(threshold, seed, held_out)
    settings = settings_of(filter)
    if source.suffix.lower() == '.7z' and source.is_file():
        raise DatasetError(source, '7z archives are not read.', unpack_line(source))
    if root.resolve().is_relative_to(source.resolve()):  # The next run would take the frames written for the source's.
        raise ConfigError('DST', f'{root} lies in SRC.', 'Name a folder outside of it.')
    with reserved(root, f'.{title}.lock'):
        wanted: dict[str, Any] = {
            'kind': kind,
            **{key: as_stored(value) for key, value in own.items()},
            'drop_similar': drop_similar,
            'threshold': threshold,
            'without': {printable(path): tests_of(Path(path)) for path in without},
            'held_out': held_out,
            'seed': seed,
            'filter': filter,
        }
        workplace = workplace_of(root, title)
        try:
            if (before := finished_before(source, root, title, wanted)) is not None:
                remove(workplace)  # Where a run was killed behind its last file.
                return PreparedSource(root, title, source, before, [], before=True)
            copies = copy_tests(root, title, without)
            rule = Rule(threshold if drop_similar else None, kind == 'arcade', threshold, copies)
            selection = Selection(tuple(leave_out), group, all_videos)
            return prepare_source(source, root, title, wanted, selection, rule, settings, processes, progress)
        finally:
            tests_path(root, title).unlink(missing_ok=True)  # Copies of patients' images.


def prepare_source(
    source: Path,
    root: Path,
    name: str,
    wanted: dict[str, Any],
    selection: Selection,
    rule: Rule,
    settings: Settings,
    processes: int,
    progress: bool,
) -> PreparedSource:
    """Prepare a source in a destination that is reserved; see :func:`prepare_pretrain`."""
    kind, workplace = wanted['kind'], workplace_of(root, name)
    with progress_bar('Unpacking', progress) as report:
        folder = open_source(source, workplace, report)
    not_images: list[str] = []
    with progress_bar('Listing', progress) as report:
        units = list_units(kind, folder, selection, report, not_images)
    unread = list_folder(folder).unread if kind in ANY_IMAGES else []
    with progress_bar(f'{name}: files', progress) as report:
        done = pool.write_frames(units, root, name, rule, processes, report)
    rows = pool.kept_rows(units, done, name)
    if not rows:
        reasons = ' '.join(f'{place}: {message}' for place, message in done.damaged[:3])
        raise DatasetError(folder, 'not one frame can be used.', reasons or 'Check the options.')
    failed, recorded = make_maps([row['file'] for row in rows], root, name, settings, processes, progress)
    pool.write_manifest(rows, root, name)
    summary = summarize(kind, name, units, done, rows, failed)
    summary |= {'not_images': [printable(place) for place in not_images]}
    summary |= {'options': wanted, 'archive': mark_of(source), 'version': __version__}
    if wanted['held_out'] is not None:
        summary['lists'] = write_lists(rows, root, name, wanted['held_out'], wanted['seed'])
    write_whole(report_path(root, name), json.dumps(summary, indent=1, ensure_ascii=False))
    remove(workplace)
    return PreparedSource(root, name, source, summary, unread, recorded=recorded)


def options_of(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return those options of :data:`OF_KINDS` that a kind takes.

    Raises:
        ConfigError: If there is no such kind, one is given that it does not take, or its source has no name.
    """
    if kind not in KINDS:
        raise ConfigError('kind', f"'{kind}' is none.{did_you_mean(kind, KINDS)}", f'It is one of {", ".join(KINDS)}.')
    for key, value in given.items():
        if value and kind not in OF_KINDS[key]:
            takers = ', '.join(OF_KINDS[key])
            raise ConfigError(key, f"sources of kind '{kind}' do not take it.", f'It is one of {takers}.')
    own = {key: value for key, value in given.items() if kind in OF_KINDS[key]}
    if own.get('name', kind) is None:
        raise ConfigError('name', f"a source of kind '{kind}' needs one.", 'Choose a short one, such as mine.')
    return own


def check_name(name: str) -> str:
    """Return the name of a source.

    Raises:
        ConfigError: If it cannot be that of a folder, or is that of the maps or lists.
    """
    if re.fullmatch(r'[A-Za-z0-9][\w.-]*', name, re.ASCII) and not name.endswith(ANATOMY_SUFFIX) and name != 'splits':
        return name
    cure = f"Use letters, digits, '.', '-' and '_'; not an ending {ANATOMY_SUFFIX}, which is that of maps."
    raise ConfigError('--name', f"'{name}' cannot name a source.", cure)


def check_numbers(threshold: float, seed: int, held_out: float | None) -> None:
    """Check the numbers of options.

    Raises:
        ConfigError: If one is out of range.
    """
    if not 0 < threshold < 1:
        raise ConfigError('--threshold', f'{threshold} is no correlation of duplicates.', 'Try 0.97.')
    if seed < 0:
        raise ConfigError('--seed', f'{seed} is no seed.', 'Name 0 or a positive number.')
    if held_out is not None and not 0 < held_out < 1:
        raise ConfigError('--held-out', f'{held_out:g} leaves nothing to train on.', 'Try 0.05.')


def settings_of(filter: str) -> Settings:
    """Return the settings of the maps.

    Raises:
        ConfigError: If there is no such filter.
    """
    try:
        return Settings.of(filter)
    except ValueError as error:
        raise ConfigError('--filter', str(error), 'Choose another one.') from error


def as_stored(value: Any) -> Any:
    """Return the value of an option as JSON holds it: patterns may have the bytes of any name."""
    if isinstance(value, list):
        return [as_stored(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def tests_of(folder: Path) -> str:
    """Return a hash of the names of the test frames of prepared sets, by which another split shows.

    Raises:
        DatasetError: If a set cannot be read.
    """
    base = existing_folder(folder)
    names = [[str(root.relative_to(base)), read_split(root, 'test')] for root in sets_in(base)]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def copy_tests(root: Path, name: str, without: Sequence[str | Path]) -> Path | None:
    """Write small copies of the test frames of prepared sets to a file that all processes read; None without sets."""
    if not without:
        return None
    copies = read_tests([found for given in without for found in sets_in(existing_folder(given))])
    path = tests_path(root, name)
    with in_one_step(path, sync=False) as unfinished, unfinished.open('wb') as file:
        np.save(file, copies)
    return path


def tests_path(root: Path, name: str) -> Path:
    """Return where the small copies of the test frames lie while all processes read them."""
    return root / f'.{name}.tests.npy'


def report_path(root: Path, name: str) -> Path:
    """Return where the summary of a source lies."""
    return root / f'{name}.json'


def mark_of(source: Path) -> str:
    """Return what tells whether an archive is the one that was prepared; '' for a folder."""
    if not source.is_file():
        return ''
    return f'{printable(source.name)} {source.stat().st_size} {source.stat().st_mtime_ns}'


def finished_before(source: Path, root: Path, name: str, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return the summary of an archive that was prepared with these options and no damage; None where it was not.

    All frames and maps must be there. A folder is always looked through again.
    """
    mark, manifest = mark_of(source), pool.manifest_path(root, name)
    if not mark or not report_path(root, name).is_file() or not manifest.is_file():
        return None
    try:
        summary: dict[str, Any] = read_json(report_path(root, name), DatasetError)
        rows = pool.read_manifest(manifest)
    except DatasetError:
        return None  # What is damaged is written again.
    if any(summary.get(key) != value for key, value in (('archive', mark), ('options', wanted))):
        return None
    if summary.get('damaged') != [] or summary.get('maps_failed') != {}:
        return None
    here = all((root / f'{name}{suffix}' / row['file']).is_file() for suffix in ('', ANATOMY_SUFFIX) for row in rows)
    return summary if here else None


def workplace_of(root: Path, name: str) -> Path:
    """Return where an archive is unpacked."""
    return root / f'.{name}.unpacked'


def remove(workplace: Path) -> None:
    """Remove what was unpacked of an archive."""
    if workplace.exists():
        shutil.rmtree(workplace)


def make_maps(
    files: Sequence[str], root: Path, name: str, settings: Settings, processes: int, progress: bool
) -> tuple[dict[str, str], bool]:
    """Make the anatomy maps that are missing.

    Returns:
        Why a frame has none, by its name; and whether their folder says how all of them were made.

    Raises:
        ConfigError: If the maps there were made with other settings.
        StorageError: If a map cannot be written.
    """
    folder = root / f'{name}{ANATOMY_SUFFIX}'
    here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    recorded = record(folder, settings, has_maps=any(file in here for file in files))
    tasks = [Task(file, root / name / file, folder / file) for file in files if file not in here]
    failed = {}
    with progress_bar(f'{name}: maps', progress, 'frames') as report:
        for number, outcome in enumerate(extract_all(tasks, settings, processes), start=1):
            report(number, len(tasks))
            if outcome.error:
                failed[outcome.name] = outcome.error
    for path in folder.glob('*.part'):  # Of a run that was killed.
        path.unlink()
    return failed, recorded


def summarize(
    kind: str, name: str, units: Sequence[Unit], done: pool.Done, rows: Sequence[Any], failed: dict[str, str]
) -> dict[str, Any]:
    """Return the counts of a source, and what was left out of it."""
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
