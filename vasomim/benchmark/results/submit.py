"""Submissions: results with the predictions that they were computed from, so that anyone can compute them again."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasomim import __version__
from vasomim.benchmark.results.measures import Outcome, score
from vasomim.benchmark.results.store import FINISHED, SCHEMA, Cell, Scores, Store, StoreError, table_of
from vasomim.benchmark.study.entries import Entries, Protocol, Task, load_entries
from vasomim.benchmark.study.resolve import data_folder
from vasomim.errors import ConfigError, DatasetError
from vasomim.files import in_one_step

MANIFEST = 'submission.json'
WHEN = (1980, 1, 1, 0, 0, 0)  # The same results give the same file.


def pack(target: Path, results: Path, work_dir: Path, protocol: Protocol, entries: Entries) -> int:
    """Pack finished cells of a study into a zip file.

    Args:
        target: The file.
        results: Folder of the store.
        work_dir: Where the cells were run: their predictions are there.
        protocol: The study, or a selection of it.
        entries: Its tasks.

    Returns:
        The number of cells.

    Raises:
        ConfigError: If no finished cell is chosen, or one has no predictions that could be scored again.
        StoreError: If results are damaged, or predictions are missing.
    """
    store = Store(results)
    names, places = store.study(protocol.name), set(protocol.planned())
    cells = [
        cell
        for cell in store.cells()
        if names.get(cell.place) == cell.cell and cell.place[:3] in places and cell.seed in protocol.seeds
    ]
    for name in dict.fromkeys(cell.task for cell in cells):
        if ':' in entries.task(name).task:
            raise ConfigError(
                f"task '{name}'",
                'it is computed by a function, and leaves no predictions that could be scored again.',
                'Choose other tasks by --only task=NAME.',
            )
    if not cells:
        raise ConfigError(results, 'no finished cell is chosen.', 'Run some, or choose others by --only.')
    hashes: dict[str, str] = {}
    with in_one_step(target) as unfinished, zipfile.ZipFile(unfinished, 'w') as file:
        for cell in cells:
            for name, path in files_of(cell, store, work_dir):
                content = path.read_bytes()
                # PNG is compressed already.
                how = zipfile.ZIP_STORED if name.endswith('.png') else zipfile.ZIP_DEFLATED
                file.writestr(zipfile.ZipInfo(name, WHEN), content, how)
                hashes[name] = digest_of(content)
        manifest = {'schema': SCHEMA, 'vasomim': __version__, 'cells': [cell.cell for cell in cells], 'files': hashes}
        file.writestr(zipfile.ZipInfo(MANIFEST, WHEN), json.dumps(manifest, indent=1) + '\n', zipfile.ZIP_DEFLATED)
    return len(cells)


def files_of(cell: Cell, store: Store, work_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a cell with their names in the zip file.

    Raises:
        StoreError: If the predictions are missing.
    """
    yield f'results/{cell.cell}.json', store.folder / f'{cell.cell}.json'
    for also in cell.tables:
        yield f'results/{store.table_path(cell.cell, also or None).name}', store.table_path(cell.cell, also or None)
        test = f'also_{also}' if also else 'test'
        folder = work_dir / 'cells' / cell.cell / test / 'predictions'
        found = sorted(folder.glob('*')) if folder.is_dir() else []
        if not found:
            raise StoreError(
                folder, f'the predictions of cell {cell.cell} are missing.', 'Pass the --work-dir of its run.'
            )
        for path in found:
            yield f'predictions/{cell.cell}/{test}/{path.name}', path


def check(path: Path, data: str | None, sources: Sequence[str], tolerance: float) -> tuple[list[str], int]:
    """Compute every score of a submission again, from its predictions and the truth on disk.

    Args:
        path: The zip file.
        data: Takes the place of ``data/`` in the entries.
        sources: Further entries.
        tolerance: Largest difference of a score.

    Returns:
        A line for each thing that differs, and the number of scores that were compared.

    Raises:
        StoreError: If the file is no submission.
    """
    entries = load_entries(sources)
    lines: list[str] = []
    compared = 0
    try:
        with zipfile.ZipFile(path) as file:
            manifest = json.loads(file.read(MANIFEST))
            names = set(file.namelist()) - {MANIFEST}
            lines += [
                f'{name}: it is not in the list of the submission' for name in sorted(names - set(manifest['files']))
            ]
            for name, wanted in manifest['files'].items():
                if name not in names:
                    lines.append(f'{name}: it is missing')
                elif digest_of(file.read(name)) != wanted:
                    lines.append(f'{name}: it is not the file that was packed')
            lines += damaged(file, names)
            cells = manifest['cells']
            records = sorted(Path(name).stem for name in names if Path(name).match('results/*.json'))
            if records != sorted(cells):
                lines.append(f'{path.name}: it lists {len(cells)} cells, and holds {len(records)} records')
            for cell in cells:
                found, number = check_cell(file, cell, entries, data, tolerance)
                lines += found
                compared += number
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise StoreError(
            path, f'it is no submission: {error}.', 'Pass a file of `vasomim benchmark submit`.'
        ) from error
    return lines, compared


def damaged(file: zipfile.ZipFile, names: Iterable[str]) -> list[str]:
    """Return a line for each record of a submission that does not pass the checks of the store."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if Path(name).parent == Path('results'):
                (Path(folder) / Path(name).name).write_bytes(file.read(name))
        return [f'results/{Path(error.where).name}: {error.what}' for error in Store(folder).damaged()]


def check_cell(
    file: zipfile.ZipFile, name: str, entries: Entries, data: str | None, tolerance: float
) -> tuple[list[str], int]:
    """Compare the scores of one cell with what its predictions give."""
    record = json.loads(file.read(f'results/{name}.json'))
    lines: list[str] = []
    compared = 0
    if record['status'] != FINISHED:
        lines.append(f'{name}: it is not finished')
    for also in sorted({'', *record['also']} - set(record['tables'])):
        lines.append(f'{name}: the scores per image{f" on {also}" if also else ""} are missing')
    for also in record['tables']:
        task = entries.task(also or record['inputs']['task'])
        where = f'{name} ({record["inputs"]["task"]}, {record["inputs"]["method"]}{f", on {also}" if also else ""})'
        folder = f'predictions/{name}/{f"also_{also}" if also else "test"}'
        try:
            outcome = again(file, folder, task, data)
        except (StoreError, DatasetError) as error:
            lines.append(f'{where}: {error.where}: {error.what}')
            continue
        claimed = record['also'][also] if also else record
        table = table_of(file.read(f'results/{name}{f".{also}" if also else ""}.csv').decode())
        found = dict(flat(outcome.scores if also else {**outcome.scores, **outcome.subgroups}))
        said = dict(flat(claimed['scores'] if also else {**claimed['scores'], **claimed['subgroups']}))
        compared += len(found)
        lines += [f'{where}: {figure} is in the submission alone' for figure in sorted(said.keys() - found.keys())]
        for figure, value in found.items():
            if not same(said.get(figure, math.inf), value, tolerance):
                lines.append(f'{where}: {figure} is {value:.6f}, the submission says {said.get(figure)}')
        if not claimed['cases'] == len(table.cases) == len(outcome.table.cases):
            lines.append(f'{where}: it has {len(outcome.table.cases)} images, the submission says {claimed["cases"]}')
        for metric, values in outcome.table.values.items():
            compared += len(values)
            lines += differing(where, metric, outcome.table.cases, values, table, tolerance)
    return lines, compared


def flat(values: Mapping[str, Any], above: str = '') -> Iterator[tuple[str, float]]:
    """Yield the figures of a tree by their path; NaN for None."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f'{above}{key}/')
        else:
            yield f'{above}{key}', math.nan if value is None else float(value)


def again(file: zipfile.ZipFile, folder: str, task: Task, data: str | None) -> Outcome:
    """Score the predictions of a submission.

    Raises:
        StoreError: If one is missing.
    """
    assert task.data is not None

    def read(name: str) -> bytes:
        try:
            return file.read(f'{folder}/{name}')
        except KeyError as error:
            raise StoreError(f'{folder}/{name}', 'this prediction is missing.', 'Pack the submission again.') from error

    return score(task, data_folder(task.data, data).expanduser(), read)


def differing(
    where: str, metric: str, cases: Sequence[str], values: np.ndarray, table: Scores, tolerance: float
) -> list[str]:
    """Return a line for each image whose score differs."""
    said = dict(zip(table.cases, table.values.get(metric, ()), strict=False))
    return [
        f'{where}: {metric} of {case} is {value:.6f}, the submission says {said.get(case)}'
        for case, value in zip(cases, values, strict=True)
        if case not in said or not same(said[case], value, tolerance)
    ]


def same(one: float, other: float, tolerance: float) -> bool:
    """Return whether two scores agree; undefined agrees with undefined."""
    return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= tolerance


def digest_of(content: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()
