"""Write the frames of a source into the merged layout, on all cores and continuing where a run stopped.

``DST/NAME/*.png`` holds the frames, ``DST/NAME.csv`` the manifest. ``DST/.NAME.journal`` is what a run remembers, see
:mod:`vasomim.prepare.journal`. A job whose files have changed is done anew, and so is one with damaged files: a decoder
may have been installed since.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError, StorageError, printable
from vasomim.files import read_text, write_whole
from vasomim.frames.layout import ANATOMY_SUFFIX, series_key
from vasomim.prepare.cines import read_unit
from vasomim.prepare.journal import (
    FILE_NAME,
    Done,
    Row,
    State,
    hash_of,
    line_of,
    read_journal,
    stamp_of,
    state_of,
    unit_id,
    write_journal,
)
from vasomim.prepare.sources import Unit
from vasomim.prepare.thinning import Rule, Thinner
from vasomim.prepare.write import encode
from vasomim.processes import for_each

VERSION = 3  # Raised when the same source gives other files, or the journal other lines.
CHUNK = 64  # Jobs of one image that a process takes at a time: few enough for a progress bar that moves.

COLUMNS = ('source', 'patient', 'series', 'frame', 'file', 'sha256', 'origin')
"""Of a manifest. ``patient`` is the study in CoronaryDominance; ``origin`` is the path in the source, and empty for
DICOM, whose paths may name patients."""

FORMULA = tuple("=+-@'\uff1d\uff0b\uff0d\uff20")
"""With what a cell begins that a spreadsheet would calculate, the last four in East Asian ones; the apostrophe says
that it is a text."""


def write_frames(
    units: Sequence[Unit],
    root: Path,
    name: str,
    rule: Rule,
    processes: int,
    report: Callable[[int, int], None] | None = None,
) -> Done:
    """Write the frames of a source that are not there yet.

    Args:
        units: The files of the source, in order.
        root: DST.
        name: Name of the source.
        rule: What to leave out.
        processes: How many work at a time.
        report: Called with (files done, files in all).

    Returns:
        What came of all jobs, of this run and of those before, in the order of the units.

    Raises:
        DatasetError: If DST holds something else under this name, or a process dies.
        StorageError: If DST cannot be written.
    """
    folder, journal = root / name, root / f'.{name}.journal'
    plan = list(divide(units, rule))
    ids = [unit_id(unit) for unit in units]
    keys = [tuple(ids[part.start : part.stop]) for part in plan]
    try:
        known = open_journal(journal, folder, rule_mark(rule), units, ids, set(keys), processes)
        here = set(os.listdir(folder))
        left = [k for k, key in enumerate(keys) if not is_done(known.get(key), here)]
        finished = len(units) - sum(len(plan[k]) for k in left)
        with journal.open('a', encoding='utf-8') as lines:
            for k, result in run_jobs(units, plan, left, folder, rule, processes):
                before = known.get(keys[k])
                remove_frames(folder, before.files - result.files if before else ())
                known[keys[k]] = result
                lines.write(line_of(result))
                lines.flush()
                finished += len(plan[k])
                if report:
                    report(finished, len(units))
        for path in folder.glob('*.part'):  # Of a run that was killed.
            path.unlink()
    except OSError as error:
        raise StorageError.of(error.filename or folder, error) from error
    everything = Done()
    for part, key in zip(plan, keys, strict=True):
        everything.rows.extend(replace(row, unit=row.unit + part.start) for row in known[key].rows)
        everything.damaged.extend(known[key].damaged)
    return everything


def is_done(job: Done | None, here: set[str]) -> bool:
    """Return whether a job was done without damage, and its frames are there."""
    return job is not None and not job.damaged and job.files <= here


def divide(units: Sequence[Unit], rule: Rule) -> Iterator[range]:
    """Yield the units of each job: those that are compared with each other stay in one, others are alone."""
    if rule.threshold is None:
        yield from (range(k, k + 1) for k in range(len(units)))
        return
    if rule.across:
        yield range(len(units))
        return
    start = 0
    for (kind, _), group in groupby(units, lambda unit: (unit.kind, unit.series)):
        end = start + sum(1 for _ in group)
        step = end - start if kind == 'image' else 1
        yield from (range(first, first + step) for first in range(start, end, step))
        start = end


def rule_mark(rule: Rule) -> str:
    """Return a hash of what is left out."""
    tests = (hashlib.sha256(rule.tests.read_bytes()).hexdigest(), rule.test_threshold) if rule.tests else None
    return hashlib.sha256(repr((VERSION, rule.threshold, rule.across, tests)).encode()).hexdigest()


def open_journal(
    journal: Path,
    folder: Path,
    rule: str,
    units: Sequence[Unit],
    ids: Sequence[str],
    keys: set[tuple[str, ...]],
    processes: int,
) -> dict[tuple[str, ...], Done]:
    """Return the jobs whose files are still those that were read, and make journal and folder where there are none.

    Args:
        journal: The file, whose first line is ``rule``.
        folder: The frames.
        rule: Mark of what is left out.
        units: The files that there are now.
        ids: Those of ``units``.
        keys: Those of the jobs that there are now. Frames and maps of other jobs, whose files have changed or are gone,
            are removed.
        processes: How many files are compared at a time.

    Raises:
        DatasetError: If the folder holds something else, or nothing of it is of these files.
    """
    if not journal.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(folder, 'exists and is no prepared source.', 'Choose another DST, or another --name.')
        folder.mkdir(parents=True, exist_ok=True)
        write_journal(journal, rule, ())
        return {}
    recorded, tidy = read_journal(journal, folder, rule)
    states = {state.id: state for job in recorded.values() for state in job.states}
    same = unchanged(units, ids, states, processes)
    if any(job.rows for job in recorded.values()) and not same:
        what = 'it holds frames prepared from other data.'
        cure = f'Choose another DST, or delete this folder, its maps and {journal.name} first.'
        raise DatasetError(folder, what, cure)
    known = {
        key: replace(job, states=[same[state.id] for state in job.states])
        for key, job in recorded.items()
        if key in keys and same.keys() >= set(key)
    }
    for key in recorded.keys() - known.keys():
        remove_frames(folder, recorded[key].files)
    if not tidy or known != recorded:
        write_journal(journal, rule, known.values())
    folder.mkdir(parents=True, exist_ok=True)
    return known


def unchanged(
    units: Sequence[Unit], ids: Sequence[str], states: Mapping[str, State], processes: int
) -> dict[str, State]:
    """Return the states of the files that have the content they had; those with a new date are read for it."""
    same: dict[str, State] = {}
    doubtful: list[tuple[Path, State]] = []
    for unit, name in zip(units, ids, strict=True):
        stamp, state = stamp_of(unit.path), states.get(name)
        if stamp is None or state is None or stamp[0] != state.size:
            continue
        if stamp[1] == state.time:
            same[name] = state
        else:
            doubtful.append((unit.path, replace(state, time=stamp[1])))
    with ThreadPoolExecutor(processes) as pool:
        digests = pool.map(hash_of, (path for path, _ in doubtful))
        found = (state for (_, state), digest in zip(doubtful, digests, strict=True) if digest == state.sha256)
        return same | {state.id: state for state in found}


def remove_frames(folder: Path, files: Iterable[str]) -> None:
    """Remove frames and their maps, the maps first: a map without its frame would be taken for that of the next."""
    maps = folder.with_name(folder.name + ANATOMY_SUFFIX)
    for file in files:
        (maps / file).unlink(missing_ok=True)
        (folder / file).unlink(missing_ok=True)


def run_jobs(
    units: Sequence[Unit], plan: Sequence[range], left: Sequence[int], folder: Path, rule: Rule, processes: int
) -> Iterator[tuple[int, Done]]:
    """Yield the jobs that are left as they are done.

    Raises:
        OSError: If a frame cannot be written.
        DatasetError: If a process dies.
    """
    batches = list(batch(units, plan, left))
    tasks = [[units[plan[k].start : plan[k].stop] for k in numbers] for numbers in batches]
    for place, done in for_each(partial(write_jobs, folder=folder, rule=rule), tasks, processes, folder):
        yield from zip(batches[place], done, strict=True)


def batch(units: Sequence[Unit], plan: Sequence[range], left: Sequence[int]) -> Iterator[list[int]]:
    """Yield jobs that a process takes at a time: single images together, others alone."""
    images: list[int] = []
    for k in left:
        if len(plan[k]) > 1 or units[plan[k].start].kind != 'image':
            yield [k]
            continue
        images.append(k)
        if len(images) == CHUNK:
            yield images
            images = []
    if images:
        yield images


def write_jobs(jobs: Sequence[Sequence[Unit]], folder: Path, rule: Rule) -> list[Done]:
    """Write the frames of jobs; see :func:`write_job`."""
    return [write_job(units, folder, rule) for units in jobs]


def write_job(units: Sequence[Unit], folder: Path, rule: Rule) -> Done:
    """Write the frames of the units of a job; those that are there with the same bytes are kept, and so are their maps.

    Raises:
        StorageError: If a frame cannot be written.
    """
    done = Done()
    thinner = Thinner(rule, most=len(units))
    for number, unit in enumerate(units):
        try:
            done.states.append(state_of(unit))
        except DatasetError as error:
            done.states.append(State(unit_id(unit), -1, 0, ''))
            done.damaged.append((unit.place, fault_of(error)))
            continue
        frames = read_unit(unit)
        frame = 0
        while True:
            try:
                pixels = next(frames)
            except StopIteration:
                break
            except DatasetError as error:
                done.damaged.append((unit.place, fault_of(error)))
                break
            if isinstance(pixels, DatasetError):
                done.damaged.append((unit.place, fault_of(pixels)))
            else:
                file = f'{unit.stem}.png' if unit.kind == 'image' else f'{unit.stem}_{frame:05d}.png'
                reason = thinner.reason(pixels, unit.series)
                digest = ''
                if not reason:
                    data = encode(pixels)
                    digest = hashlib.sha256(data).hexdigest()
                    put_frame(folder, file, data)
                done.rows.append(Row(number, frame, file, digest, reason))
            frame += 1
    return done


def fault_of(error: DatasetError) -> str:
    """Return what is wrong with a file, as it is stored and printed."""
    return printable(f'{error.what} {error.cure}')


def put_frame(folder: Path, file: str, data: bytes) -> None:
    """Write a frame, unless it is there already; a map of another frame of this name is removed first."""
    path = folder / file
    if path.is_file() and path.read_bytes() == data:
        return
    remove_frames(folder, [file])
    write_whole(path, data, sync=False)


def kept_rows(units: Sequence[Unit], done: Done, name: str) -> list[dict[str, str]]:
    """Return the rows of the manifest, in the order in which readers list the frames."""
    rows = []
    for row in done.rows:
        if row.reason:
            continue
        unit = units[row.unit]
        number = series_key(unit.stem)[1] if unit.kind == 'image' else row.frame
        rows.append(
            {
                'source': name,
                'patient': unit.patient,
                'series': unit.series,
                'frame': str(number) if number >= 0 else '',
                'file': row.file,
                'sha256': row.sha256,
                'origin': '' if unit.kind == 'dicom' else unit.place,
            }
        )
    return sorted(rows, key=lambda row: series_key(row['file']))


def manifest_path(root: Path, name: str) -> Path:
    """Return where the manifest of a source lies."""
    return root / f'{name}.csv'


def write_manifest(rows: Sequence[dict[str, str]], root: Path, name: str) -> None:
    """Write the manifest of a source, which says that its preparation is finished.

    Raises:
        StorageError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows({column: as_text(cell) for column, cell in row.items()} for row in rows)
    write_whole(manifest_path(root, name), text.getvalue())


def as_text(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: names of files may begin like one."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a manifest, their cells as they were before :func:`as_text`.

    Raises:
        DatasetError: If it cannot be read, or has other columns.
    """
    cure = 'Prepare the source again: the same command finishes what is missing.'
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, DatasetError, cure), newline='')))
    except csv.Error as error:
        raise DatasetError(path, f'this manifest cannot be read: {error}.', cure) from error
    if not rows or any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        raise DatasetError(path, f'its columns are not {", ".join(COLUMNS)}, or it is empty or cut short.', cure)
    odd = next((row['file'] for row in rows if not FILE_NAME.fullmatch(row['file'])), None)
    if odd is not None:
        raise DatasetError(path, f"'{odd}' is no name of a frame.", cure)
    return [{column: cell.removeprefix("'") for column, cell in row.items()} for row in rows]
