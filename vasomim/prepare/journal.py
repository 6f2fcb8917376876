"""What a preparation of frames remembers: a line for each job that is done, so that a job is done in full or again.

A job is a file of the source, or the files of a series where their frames are compared with each other. A file is the
one that was read if its size and date are, or else its SHA-256: an archive that is unpacked again gives its files new
dates, and a damaged file that was replaced may have the size that it had.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.files import parse_json, read_regular, write_whole
from vasomim.prepare.sources import Unit

FILE_NAME = re.compile(r'[A-Za-z0-9_][\w.-]*\.png', re.ASCII)  # What a line may have removed from the frames' folder.


@dataclass(frozen=True)
class State:
    """A file of a source as it was read: what it was read as, its size and date, and the SHA-256 of its bytes."""

    id: str
    size: int
    time: int
    sha256: str


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
    """What came of a job: frames, (path in the source, message) of what was damaged, and the files that were read."""

    rows: list[Row] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the job from others: what its files are read as."""
        return tuple(state.id for state in self.states)

    @property
    def files(self) -> set[str]:
        """Names of the frames that were written."""
        return {row.file for row in self.rows if not row.reason}


def unit_id(unit: Unit) -> str:
    """Return a hash of what a file is read as; its path, which may name a patient, does not show."""
    return hashlib.sha256(repr((unit.kind, unit.stem, unit.place, unit.series)).encode()).hexdigest()[:32]


def state_of(unit: Unit) -> State:
    """Return the state of a file.

    Raises:
        DatasetError: If it is no regular file, or cannot be read.
    """
    stamp = stamp_of(unit.path)
    if stamp is None:
        raise DatasetError(unit.path, 'it is no regular file.', 'Remove it, or put the content itself there.')
    try:
        return State(unit_id(unit), *stamp, hash_of(unit.path))
    except OSError as error:
        raise DatasetError(unit.path, f'cannot be read: {error.strerror}.', 'Check its permissions.') from error


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, however large it is."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Return size and date of a regular file; None if there is none, which shows when it is read."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def line_of(job: Done) -> str:
    """Return the line of the journal for a job."""
    content = [[astuple(state) for state in job.states], [astuple(row) for row in job.rows], job.damaged]
    return json.dumps(content, ensure_ascii=False) + '\n'


def write_journal(journal: Path, rule: str, jobs: Iterable[Done]) -> None:
    """Write a journal anew.

    Raises:
        StorageError: If it cannot be written.
    """
    write_whole(journal, ''.join([first_line(rule), *map(line_of, jobs)]))


def first_line(rule: str) -> str:
    """Return the first line of a journal, by which other options show."""
    return json.dumps(rule) + '\n'


def read_journal(journal: Path, folder: Path, rule: str) -> tuple[dict[tuple[str, ...], Done], bool]:
    """Return the jobs that were done, by their keys, and whether the journal holds nothing else.

    Raises:
        DatasetError: If it is damaged, or was written with other options.
    """
    cure = f'Choose another DST, or delete {folder}, its maps and {journal.name} first.'
    data = read_regular(journal, DatasetError, cure)
    whole = data[: data.rfind(b'\n') + 1]  # The last line may have been cut by a kill.
    first, *lines = whole.split(b'\n')[:-1] or [b'']
    if first + b'\n' != first_line(rule).encode():
        what = 'it holds frames prepared from other data, with other options or by another version.'
        raise DatasetError(folder, what, cure)
    jobs = {}
    for number, line in enumerate(lines, start=2):
        job = job_of(parse_json(line, f'{journal} line {number}', DatasetError, cure, list))
        if job is None:
            raise DatasetError(f'{journal} line {number}', 'it is damaged.', cure)
        jobs[job.key] = job
    return jobs, len(whole) == len(data) and len(jobs) == len(lines)


def job_of(content: Sequence) -> Done | None:
    """Return the job that a line of a journal describes; None if it describes none."""
    try:
        states, rows, damaged = content
        job = Done(
            [Row(*row) for row in rows], [(place, message) for place, message in damaged], [State(*s) for s in states]
        )
    except (TypeError, ValueError):
        return None
    texts = [text for pair in job.damaged for text in pair]
    texts += [text for row in job.rows for text in (row.file, row.sha256, row.reason)]
    texts += [text for state in job.states for text in (state.id, state.sha256)]
    numbers = [number for row in job.rows for number in (row.unit, row.frame)]
    numbers += [number for state in job.states for number in (state.size, state.time)]
    sound = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
    if not sound or not job.states or not all(0 <= row.unit < len(job.states) for row in job.rows):
        return None
    return job if all(FILE_NAME.fullmatch(row.file) for row in job.rows) else None
