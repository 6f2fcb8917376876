"""The folder of results: one small JSON file per cell, its per-case scores beside it."""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.results.records import (
    CURE,
    FINISHED,
    PRETRAINING,
    Cell,
    Place,
    Pretraining,
    StoreError,
    format_record,
    parse_record,
    place_of,
    read_bytes,
    read_cell,
    read_pretraining,
    sha256,
)
from vasomim.benchmark.results.tables import Scores, format_table, read_table
from vasomim.benchmark.schema import STRICT, CellName, Name, Seed, Share, checked
from vasomim.errors import StorageError
from vasomim.files import write_whole

SET_ASIDE = 'set_aside'
STUDIES = 'studies'
CLOSE = 1e-6  # How far a mean of numbers that were written may lie from the mean that was.


@STRICT
class Row(TypedDict):
    """A cell of a study."""

    task: Name
    method: Name
    label_fraction: Share
    seed: Seed
    cell: CellName


@STRICT
class Study(TypedDict):
    """The file of a study."""

    protocol: Name
    cells: list[Row]


STUDY = TypeAdapter(Study)


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
        found = [read_pretraining(path) for path in self._files() if path.name.startswith(PRETRAINING)]
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
        return read_pretraining(path) if path.is_file() else None

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
        cure = '`vasomim benchmark run` writes it anew.'
        content = checked(STUDY, parse_record(read_bytes(path), path), path, StoreError, cure)
        if content['protocol'] != protocol:
            raise StoreError(path, f"it is of study '{content['protocol']}'.", cure)
        return {place_of(row): row['cell'] for row in content['cells']}

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
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            opened = open(lock, 'a', encoding='utf-8')  # noqa: SIM115 - closed below
        except OSError as error:
            raise StorageError.of(lock, error) from error
        with opened as file:
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

    def damaged(self, averaged: Collection[str] = ()) -> list[StoreError]:
        """Return what is wrong with each file that does not pass its checks.

        Args:
            averaged: Tasks whose scores are the means of their tables, as those of the kinds that come with the
                benchmark are; of a function nothing is known.
        """
        return [error for _, error in self._faults(averaged)]

    def _faults(self, averaged: Collection[str]) -> list[tuple[Path, StoreError]]:
        found = []
        for path in self._files():
            try:
                if path.name.startswith(PRETRAINING):
                    read_pretraining(path)
                else:
                    cell = self._cell(path)
                    if cell.task in averaged:
                        self.check_scores(cell)
            except StoreError as error:
                found.append((path, error))
        return found

    def check_scores(self, cell: Cell) -> None:
        """Compare the scores of a finished cell with the means of its table.

        Raises:
            StoreError: If one is another: the record was edited.
        """
        if cell.status == FINISHED:
            check_means(self.folder / f'{cell.cell}.json', cell.scores, cell.cases, self.scores(cell))

    def set_aside_damaged(self, averaged: Collection[str] = ()) -> list[tuple[Path, StoreError]]:
        """Move damaged files, with their tables, to the folder ``set_aside``.

        Args:
            averaged: As of :meth:`damaged`.

        Returns:
            For each: where it is now, and what is wrong with it.

        Raises:
            StorageError: If one cannot be moved.
        """
        moved = []
        for record, error in self._faults(averaged):
            for file in (*self.folder.glob(f'{record.stem}.*csv'), record):
                moved_to = unused(self.folder / SET_ASIDE / file.name)
                try:
                    moved_to.parent.mkdir(exist_ok=True)
                    os.replace(file, moved_to)
                except OSError as fault:
                    raise StorageError.of(moved_to, fault) from fault
            moved.append((moved_to, error))
        return moved

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob('*.json'))

    def _cell(self, path: Path) -> Cell:
        cell = read_cell(path)
        for also, wanted in cell.tables.items():
            scores = read_table(self.table_path(cell.cell, also or None), wanted)
            if also in cell.also:  # Always of a kind that comes with the benchmark.
                check_means(path, cell.also[also]['scores'], cell.also[also]['cases'], scores)
        return cell


def check_means(path: Path, scores: Mapping[str, float | None], cases: int, table: Scores) -> None:
    """Compare scores with the means of a table, as far as it has them.

    Raises:
        StoreError: If one is another, or the number of cases is.
    """
    if cases != len(table.cases):
        raise StoreError(path, f'it says that it has {cases} cases, and its table has {len(table.cases)}.', CURE)
    for metric, values in table.values.items():
        said, mean = scores.get(metric), float(values.mean()) if len(values) else math.nan
        # HD95 may be undefined for a class of an image that has others, and is undefined as a whole then.
        fits = math.isnan(mean) or metric == 'HD95' if said is None else abs(said - mean) <= CLOSE
        if not fits:
            what = f'its {metric} is {said}, and the mean of its per-case scores {mean:.6f}: it was edited.'
            raise StoreError(path, what, CURE)


def unused(path: Path) -> Path:
    """Return a path, numbered if it is taken."""
    names: Iterable[Path] = (path.with_name(f'{path.stem}.{number}{path.suffix}') for number in range(1, 10**6))
    return path if not path.exists() else next(name for name in names if not name.exists())
