"""Results on disk: one small JSON file per cell, its per-case scores beside it, all verified when they are read.

A cell is one method on one task with one seed and one share of the labels. Its name is a hash of everything that its
result depends on, so a finished cell is never computed again and a changed input is another cell.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vasomim.errors import VasoMIMError
from vasomim.files import write_whole

Place = tuple[str, str, float, int]  # A cell's task, method, share of the labels and seed.
SCHEMA = 1
SET_ASIDE = 'set_aside'
STUDIES = 'studies'
PRETRAINING = 'pretraining-'
FINISHED, FAILED = 'finished', 'failed'
NAME_LENGTH = 16


class StoreError(VasoMIMError):
    """A results file is damaged, of another schema or edited by hand, or cannot be written."""


@dataclass(frozen=True)
class Cell:
    """The result of one method on one task; the fields are those of its file.

    Attributes:
        cell: Name of the cell, 16 hex digits: the hash of ``inputs``.
        inputs: What the result depends on: task, task_version, method, seed, label_fraction, metrics, subgroups, and
            the hashes config, data, weights, with the version of the code.
        status: 'finished' or 'failed'.
        scores: Of the test split, by metric, in [0, 1]; None where undefined.
        subgroups: By name of the subgroup and of the group: metrics and the number of ``images``.
        cases: Number of test images.
        also: Tests on other data sets, by task: ``scores``, ``cases`` and the hash ``data``.
        curve: Validation by epoch.
        cost: seconds, predicted_seconds, device, devices, peak_memory_gb, pretraining_seconds (times its devices).
        weights: What was loaded into the encoder; None from scratch.
        score_threshold: Score from which a box counts for F1, chosen on the validation images; None for masks.
        environment: Versions, commit and machine.
        command: What computes this cell again.
        error: kind, message and log of a failed cell; None otherwise.
        started: UTC, ISO 8601.
        finished: UTC, ISO 8601.
        smoke: Whether the data are synthetic and the training far too short to mean anything.
        tables: sha256 of the per-case tables, by the other task's name; '' is the cell's own.
    """

    cell: str
    inputs: dict[str, Any]
    status: str
    scores: dict[str, float | None] = field(default_factory=dict)
    subgroups: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    cases: int = 0
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    score_threshold: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    command: str = ''
    error: dict[str, Any] | None = None
    started: str = ''
    finished: str = ''
    smoke: bool = False
    tables: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where it stands in its study."""
        return place_of(self.inputs)

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.inputs['task'])

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.inputs['method'])

    @property
    def seed(self) -> int:
        """Seed of the fine-tuning."""
        return int(self.inputs['seed'])

    @property
    def label_fraction(self) -> float:
        """Share of the training split's labels, in (0, 1]."""
        return float(self.inputs['label_fraction'])


@dataclass(frozen=True)
class Pretraining:
    """One pre-training, shared by all cells of a method; the fields are those of its file.

    Attributes:
        pretraining: Its name, 16 hex digits: the hash of ``inputs``.
        inputs: What the encoder depends on: method, seed, and the hashes config and data, with the version of the code.
        status: 'finished' or 'failed'.
        curve: Losses by epoch.
        cost: As of a cell.
        environment: Versions, commit and machine.
        weights: ``file_sha256`` of the encoder's checkpoint.
        command: What computes it again.
        error: kind, message and log of a failed one; None otherwise.
        started: UTC, ISO 8601.
        finished: UTC, ISO 8601.
        smoke: As of a cell.
    """

    pretraining: str
    inputs: dict[str, Any]
    status: str
    curve: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    command: str = ''
    error: dict[str, Any] | None = None
    started: str = ''
    finished: str = ''
    smoke: bool = False

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.inputs['method'])

    @property
    def seed(self) -> int:
        """Seed of the pre-training."""
        return int(self.inputs['seed'])


@dataclass(frozen=True)
class Scores:
    """Per-case scores of a cell.

    Attributes:
        cases: Names of the N test images.
        values: By metric, float (N,), NaN where undefined.
        groups: By subgroup, the group of each image, (N,); '' where there is none.
    """

    cases: tuple[str, ...]
    values: dict[str, np.ndarray]
    groups: dict[str, tuple[str, ...]]


class Store:
    """A folder of results.

    Reading verifies schema, checksum, name and per-case tables, and raises a :class:`StoreError` at the first file that
    does not pass; :meth:`set_aside_damaged` moves such files away, so that their cells are computed again.

    Args:
        folder: It is made when something is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def cells(self, status: str | None = FINISHED) -> list[Cell]:
        """Return all cells, in the order of task, method, label fraction and seed.

        Args:
            status: 'finished', 'failed', or None for both.

        Raises:
            StoreError: If a file is damaged.
        """
        found = [self._cell(path) for path in self._files() if not path.name.startswith(PRETRAINING)]
        kept = [cell for cell in found if status in (None, cell.status)]
        return sorted(kept, key=lambda cell: (cell.task, cell.method, cell.label_fraction, cell.seed, cell.cell))

    def pretrainings(self, status: str | None = FINISHED) -> list[Pretraining]:
        """Return all pre-trainings, in the order of method and seed; otherwise as :meth:`cells`."""
        found = [self._pretraining(path) for path in self._files() if path.name.startswith(PRETRAINING)]
        kept = [item for item in found if status in (None, item.status)]
        return sorted(kept, key=lambda item: (item.method, item.seed, item.pretraining))

    def cell(self, name: str) -> Cell | None:
        """Return one cell, None if there is no such file.

        Raises:
            StoreError: If the file is damaged.
        """
        path = self.folder / f'{name}.json'
        return self._cell(path) if path.is_file() else None

    def pretraining(self, name: str) -> Pretraining | None:
        """Return one pre-training; otherwise as :meth:`cell`."""
        path = self.folder / f'{PRETRAINING}{name}.json'
        return self._pretraining(path) if path.is_file() else None

    def scores(self, cell: Cell, also: str | None = None) -> Scores:
        """Return the per-case scores of a finished cell.

        Args:
            cell: As :meth:`cells` returned it.
            also: Another task on whose data the cell was tested as well; None for its own.

        Raises:
            StoreError: If the table is missing, damaged or not the one that the cell's file names.
        """
        path = self.table_path(cell.cell, also)
        wanted = cell.tables.get(also or '')
        if wanted is None:
            raise StoreError(path, f'cell {cell.cell} was not tested on {also}.', 'Add it to the task by `also_test`.')
        return read_table(path, wanted)

    def table_path(self, cell: str, also: str | None = None) -> Path:
        """Return the place of a table of per-case scores."""
        return self.folder / (f'{cell}.{also}.csv' if also else f'{cell}.csv')

    def write_cell(self, cell: Cell, tables: Mapping[str, Scores] | None = None) -> Cell:
        """Write a cell, its tables first, each in one step.

        Args:
            cell: Without ``tables``.
            tables: Per-case scores by the other task's name; '' is the cell's own.

        Returns:
            The cell as it was written.

        Raises:
            StorageError: If the disk is full or not writable; what was there before stays.
        """
        hashes = {}
        for name, scores in (tables or {}).items():
            content = format_table(scores)
            write_whole(self.table_path(cell.cell, name or None), content)
            hashes[name] = sha256(content)
        record = {**vars(cell), 'tables': hashes}
        write_whole(self.folder / f'{cell.cell}.json', format_record(record))
        return Cell(**record)

    def write_pretraining(self, pretraining: Pretraining) -> Pretraining:
        """Write a pre-training in one step.

        Raises:
            StorageError: As of :meth:`write_cell`.
        """
        path = self.folder / f'{PRETRAINING}{pretraining.pretraining}.json'
        write_whole(path, format_record(vars(pretraining)))
        return pretraining

    def studies(self) -> list[str]:
        """Return the names of the studies of which something was run."""
        return sorted(path.stem for path in (self.folder / STUDIES).glob('*.json'))

    def study(self, protocol: str) -> dict[Place, str]:
        """Return the names of a study's cells, as its last run planned them; empty where none has run.

        Raises:
            StoreError: If the file is damaged.
        """
        path = self._study(protocol)
        if not path.is_file():
            return {}
        content = read_record(path)
        return {place_of(row): str(row['cell']) for row in content['cells']}

    def write_study(self, protocol: str, cells: Mapping[Place, str]) -> None:
        """Note the names of a study's cells; places that are not among them keep theirs.

        A cell of the same place that was computed with other settings, data or weights has another name, so it is no
        part of the study any more.

        Args:
            protocol: Name of the study.
            cells: Names by place.

        Raises:
            StorageError: If it cannot be written.
        """
        lock = self.folder / '.claims' / f'{STUDIES}-{protocol}'
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, 'a', encoding='utf-8') as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # Runs that begin at once add to each other's.
            try:
                before = self.study(protocol)
            except StoreError:
                before = {}
            rows = [
                {'task': task, 'method': method, 'label_fraction': share, 'seed': seed, 'cell': name}
                for (task, method, share, seed), name in sorted((before | dict(cells)).items())
            ]
            write_whole(self._study(protocol), format_record({'protocol': protocol, 'cells': rows}))

    def _study(self, protocol: str) -> Path:
        return self.folder / STUDIES / f'{protocol}.json'

    def damaged(self) -> list[StoreError]:
        """Return what is wrong with each file that does not pass its checks."""
        found = []
        for path in self._files():
            read: Callable[[Path], Any] = self._pretraining if path.name.startswith(PRETRAINING) else self._cell
            try:
                read(path)
            except StoreError as error:
                found.append(error)
        return found

    def set_aside_damaged(self) -> list[tuple[Path, StoreError]]:
        """Move damaged files, with their tables, to the folder ``set_aside``.

        Returns:
            For each: where it is now, and what is wrong with it.
        """
        moved = []
        for error in self.damaged():
            path = Path(error.where)
            record = next(file for file in self._files() if path.name.startswith(file.stem))
            for file in (*self.folder.glob(f'{record.stem}.*csv'), record):
                moved_to = unused(self.folder / SET_ASIDE / file.name)
                moved_to.parent.mkdir(exist_ok=True)
                os.replace(file, moved_to)
            moved.append((moved_to, error))
        return moved

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob('*.json'))

    def _cell(self, path: Path) -> Cell:
        cell: Cell = build(path, Cell, 'cell', '')
        for also, wanted in cell.tables.items():
            verified(self.table_path(cell.cell, also or None), wanted)
        return cell

    def _pretraining(self, path: Path) -> Pretraining:
        item: Pretraining = build(path, Pretraining, 'pretraining', PRETRAINING)
        return item


CURE = '`vasomim benchmark run` sets it aside and computes the cell again.'


def build(path: Path, kind: Callable[..., Any], key: str, prefix: str) -> Any:
    """Read and verify a record of a cell or a pre-training.

    Raises:
        StoreError: If it is cut off, of another schema, edited by hand or under another's name.
    """
    record = read_record(path)
    try:
        item = kind(**record)
    except TypeError as error:
        raise StoreError(path, f'its keys are not those of schema {SCHEMA} ({error}).', CURE) from error
    name = digest(record['inputs'])[:NAME_LENGTH]
    if record[key] != name or path.stem != prefix + name:
        raise StoreError(path, f'its inputs belong to {prefix}{name}.json.', CURE)
    return item


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`format_record` wrote.

    Raises:
        StoreError: If it is cut off, of another schema or edited by hand.
    """
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise StoreError(path, f'it cannot be read, and may be cut off ({error}).', CURE) from error
    if not isinstance(record, dict) or 'schema' not in record:
        raise StoreError(path, 'it is no record of the benchmark.', CURE)
    if record['schema'] != SCHEMA:
        raise StoreError(path, f'its schema is {record["schema"]}, and {SCHEMA} is read here.', CURE)
    checksum = record.pop('checksum', None)
    if checksum != digest(record):
        raise StoreError(path, 'its checksum does not fit: it was edited by hand or damaged.', CURE)
    del record['schema']
    return record


def place_of(inputs: Mapping[str, Any]) -> Place:
    """Return where a cell stands in its study."""
    return str(inputs['task']), str(inputs['method']), float(inputs['label_fraction']), int(inputs['seed'])


def name_of(inputs: Mapping[str, Any]) -> str:
    """Return the name of a cell or a pre-training: the first 16 hex digits of the hash of its inputs."""
    return digest(inputs)[:NAME_LENGTH]


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces.

    Raises:
        ValueError: If it holds NaN or infinity, which JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hex digits."""
    return sha256(canonical(value))


def sha256(text: str) -> str:
    """Return the sha256 of a text in UTF-8, in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def without_nan(value: Any) -> Any:
    """Return a nested value with None in place of NaN and infinity, and Python's numbers in place of NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_record(record: Mapping[str, Any]) -> str:
    """Return the file of a record: schema and checksum are added."""
    content = {'schema': SCHEMA, **without_nan(record)}
    return json.dumps({**content, 'checksum': digest(content)}, indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def format_table(scores: Scores) -> str:
    """Return a table of per-case scores as CSV: case, metrics, groups (as ``group:NAME``); empty where undefined."""
    columns = ['case', *scores.values, *(f'group:{name}' for name in scores.groups)]
    lines = [','.join(quoted(column) for column in columns)]
    for row, case in enumerate(scores.cases):
        numbers = ['' if math.isnan(column[row]) else repr(float(column[row])) for column in scores.values.values()]
        lines.append(','.join([quoted(case), *numbers, *(quoted(column[row]) for column in scores.groups.values())]))
    return '\n'.join(lines) + '\n'


def quoted(text: str) -> str:
    """Return a text as a field of CSV."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def read_table(path: Path, wanted: str) -> Scores:
    """Read a table of per-case scores.

    Raises:
        StoreError: If it is missing or another one than that of hash ``wanted``.
    """
    return table_of(verified(path, wanted))


def table_of(text: str) -> Scores:
    """Return per-case scores from the text that :func:`format_table` made of them."""
    rows = list(csv.reader(text.splitlines()))
    header, columns = rows[0], list(zip(*rows[1:], strict=True)) or [()] * len(rows[0])
    values = {}
    groups = {}
    for name, column in zip(header[1:], columns[1:], strict=True):
        if name.startswith('group:'):
            groups[name.removeprefix('group:')] = column
        else:
            values[name] = np.array([float(text) if text else math.nan for text in column])
    return Scores(columns[0], values, groups)


def verified(path: Path, wanted: str) -> str:
    """Return the text of a table.

    Raises:
        StoreError: If it is missing or another one than that of hash ``wanted``.
    """
    try:
        content = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(path, f'the per-case scores cannot be read ({error}).', CURE) from error
    if sha256(content) != wanted:
        raise StoreError(path, 'the per-case scores are not those that were written.', CURE)
    return content


def unused(path: Path) -> Path:
    """Return a path, numbered if it is taken."""
    names: Iterable[Path] = (path.with_name(f'{path.stem}.{number}{path.suffix}') for number in range(1, 10**6))
    return path if not path.exists() else next(name for name in names if not name.exists())
