"""Write the frames of a source into the merged layout, on all cores and continuing where a run stopped.

``DST/NAME/*.png`` holds the frames, ``DST/NAME.csv`` the manifest. ``DST/.NAME.journal`` is what a run remembers: a
line for each job that is done, so that a job is done in full or again. A job whose files have changed is done anew.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError
from vasomim.files import write_whole
from vasomim.frames.layout import ANATOMY_SUFFIX, series_key
from vasomim.prepare.anatomy_maps import prepare_process
from vasomim.prepare.cines import read_unit
from vasomim.prepare.sources import Unit
from vasomim.prepare.thinning import Rule, Thinner
from vasomim.prepare.write import encode

VERSION = 2  # Raised when the same source gives other files.
CHUNK = 64  # Images of a job, where they need not be compared: few enough for a progress bar that moves.
AGAIN = 'Free some space or choose another DST; the same command then continues.'

COLUMNS = ('source', 'patient', 'series', 'frame', 'file', 'sha256', 'origin')
"""Of a manifest. ``patient`` is the study in CoronaryDominance; ``origin`` is the path in the source, and empty for
DICOM, whose paths may name patients."""


@dataclass(frozen=True)
class Row:
    """A frame that could be read: the unit of its job, its number there, and either its hash or why it was left out."""

    unit: int
    frame: int
    file: str
    sha256: str
    reason: str


@dataclass(frozen=True)
class Done:
    """What came of a job: frames, and (path in the source, message) of what was damaged."""

    rows: list[Row] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)


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
        DatasetError: If DST holds something else under this name, cannot be written, or a process dies.
    """
    folder, journal = root / name, root / f'.{name}.journal'
    plan = list(divide(units, rule))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        marks = [job_mark(units[part.start : part.stop]) for part in plan]
        known = open_journal(journal, folder, rule_mark(rule), set(marks))
        here = set(os.listdir(folder))
        # What gave nothing but damage is tried again: a decoder may have been installed since.
        known = {
            mark: job
            for mark, job in known.items()
            if (job.rows or not job.damaged) and all(row.reason or row.file in here for row in job.rows)
        }
        left = [k for k, mark in enumerate(marks) if mark not in known]
        finished = len(units) - sum(len(plan[k]) for k in left)
        with journal.open('a', encoding='utf-8') as lines:
            for k, result in run_jobs(units, plan, left, folder, rule, processes):
                known[marks[k]] = result
                lines.write(line_of(marks[k], result))
                lines.flush()
                finished += len(plan[k])
                if report:
                    report(finished, len(units))
        for path in folder.glob('*.part'):  # Of a run that was killed.
            path.unlink()
    except OSError as error:
        raise DatasetError(error.filename or folder, f'cannot be written: {error.strerror}.', AGAIN) from error
    everything = Done()
    for part, mark in zip(plan, marks, strict=True):
        everything.rows.extend(replace(row, unit=row.unit + part.start) for row in known[mark].rows)
        everything.damaged.extend(known[mark].damaged)
    return everything


def divide(units: Sequence[Unit], rule: Rule) -> Iterator[range]:
    """Yield the units of each job: those that are compared with each other stay in one."""
    if rule.threshold is not None and rule.across:
        yield range(len(units))
        return
    start = 0
    for (kind, _), group in groupby(units, lambda unit: (unit.kind, unit.series if rule.threshold is not None else '')):
        end = start + sum(1 for _ in group)
        step = 1 if kind != 'image' else CHUNK if rule.threshold is None else end - start
        yield from (range(first, min(first + step, end)) for first in range(start, end, step))
        start = end


def rule_mark(rule: Rule) -> str:
    """Return a hash of what is left out."""
    tests = (hashlib.sha256(rule.tests.read_bytes()).hexdigest(), rule.test_threshold) if rule.tests else None
    return hashlib.sha256(repr((VERSION, rule.threshold, rule.across, tests)).encode()).hexdigest()


def job_mark(units: Sequence[Unit]) -> str:
    """Return a hash of what decides the frames of a job: its files, by their paths and sizes, and their names.

    Dates are left out: an archive that is unpacked again gives its files new ones.
    """
    digest = hashlib.sha256()
    for unit in units:
        size = unit.path.stat().st_size if unit.path.is_file() else -1
        digest.update(repr((unit.kind, unit.stem, unit.place, unit.series, size)).encode())
    return digest.hexdigest()


def line_of(mark: str, job: Done) -> str:
    """Return the line of the journal for a job."""
    return json.dumps([mark, [astuple(row) for row in job.rows], job.damaged], ensure_ascii=False) + '\n'


def open_journal(journal: Path, folder: Path, rule: str, marks: set[str]) -> dict[str, Done]:
    """Return the jobs that are done, by their marks, and make the journal and the folder where there are none.

    Args:
        journal: The file, whose first line is ``rule``.
        folder: The frames.
        rule: Mark of what is left out.
        marks: Those of the jobs that there are now. Frames and maps of other jobs, whose files have changed or are
            gone, are removed.

    Raises:
        DatasetError: If the folder holds something else, or nothing of it is of these jobs.
    """
    first_line = json.dumps(rule) + '\n'
    if not journal.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(folder, 'exists and is no prepared source.', 'Choose another DST, or another --name.')
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(journal, first_line.encode())
        return {}
    data = journal.read_bytes()
    whole = data[: data.rfind(b'\n') + 1].decode('utf-8')  # The last line may have been cut by a kill.
    known = {}
    for line in whole.split('\n')[1:-1]:
        mark, rows, damaged = json.loads(line)
        known[mark] = Done([Row(*row) for row in rows], [(place, message) for place, message in damaged])
    gone = known.keys() - marks
    if not whole.startswith(first_line) or (known and len(gone) == len(known)):
        what = 'it holds frames prepared from other data or with other options.'
        cure = f'Choose another DST, or delete this folder, its maps and {journal.name} first.'
        raise DatasetError(folder, what, cure)
    maps = folder.with_name(folder.name + ANATOMY_SUFFIX)
    for mark in gone:
        for row in known.pop(mark).rows:
            for place in (folder, maps):
                (place / row.file).unlink(missing_ok=True)
    if gone or len(whole.encode()) < len(data):
        write_whole(journal, (first_line + ''.join(line_of(mark, job) for mark, job in known.items())).encode())
    folder.mkdir(parents=True, exist_ok=True)
    return known


def run_jobs(
    units: Sequence[Unit], plan: Sequence[range], left: Sequence[int], folder: Path, rule: Rule, processes: int
) -> Iterator[tuple[int, Done]]:
    """Yield the jobs that are left as they are done.

    Raises:
        OSError: If a frame cannot be written.
        DatasetError: If a process dies.
    """
    if not left:
        return
    context = multiprocessing.get_context('spawn')  # As in anatomy_maps.
    pool = ProcessPoolExecutor(min(processes, len(left)), context, initializer=prepare_process)
    try:
        futures = {pool.submit(write_job, units[plan[k].start : plan[k].stop], folder, rule): k for k in left}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            folder,
            'a process that wrote these frames died, for lack of memory or on a damaged file.',
            'Run the same command again to continue, with fewer processes if memory was short.',
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def write_job(units: Sequence[Unit], folder: Path, rule: Rule) -> Done:
    """Write the frames of the units of a job.

    Raises:
        OSError: If a frame cannot be written.
    """
    done = Done()
    thinner = Thinner(rule, most=len(units))
    for number, unit in enumerate(units):
        frames = read_unit(unit)
        frame = 0
        while True:
            try:
                pixels = next(frames)
            except StopIteration:
                break
            except DatasetError as error:
                done.damaged.append((unit.place, f'{error.what} {error.cure}'))
                break
            if isinstance(pixels, DatasetError):
                done.damaged.append((unit.place, f'{pixels.what} {pixels.cure}'))
            else:
                file = f'{unit.stem}.png' if unit.kind == 'image' else f'{unit.stem}_{frame:05d}.png'
                reason = thinner.reason(pixels, unit.series)
                digest = ''
                if not reason:
                    data = encode(pixels)
                    digest = hashlib.sha256(data).hexdigest()
                    write_whole(folder / file, data, sync=False)
                done.rows.append(Row(number, frame, file, digest, reason))
            frame += 1
    return done


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
        OSError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_whole(manifest_path(root, name), text.getvalue().encode())


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a manifest.

    Raises:
        DatasetError: If it cannot be read, or has other columns.
    """
    cure = 'Prepare the source again: the same command finishes what is missing.'
    try:
        with path.open(encoding='utf-8', newline='') as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(path, f'this manifest cannot be read: {error}.', cure) from error
    if not rows or any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        raise DatasetError(path, f'its columns are not {", ".join(COLUMNS)}, or it is empty or cut short.', cure)
    return rows
