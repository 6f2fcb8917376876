"""Pack results with the predictions that they were computed from, so that anyone can compute them again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from vasomim import __version__
from vasomim.benchmark.results.records import PRETRAINING, Cell, Pretraining, StoreError, sha256
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.scoring.measures import BOXES, OPERATING_POINT, PREDICTIONS, parse_operating_point
from vasomim.benchmark.study.entries import Entries, Protocol, Task
from vasomim.benchmark.study.jobs import weights_input
from vasomim.benchmark.submission.archive import MANIFEST, SCHEMA
from vasomim.errors import ConfigError
from vasomim.files import in_one_step, read_regular

WHEN = (1980, 1, 1, 0, 0, 0)  # The same results give the same file.
VALIDATION = 'validation'


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
        StorageError: If the file cannot be written.
    """
    store = Store(results)
    names, places = store.study(protocol.name), set(protocol.planned())
    cells = [
        cell
        for cell in store.cells()
        if names.get(cell.place) == cell.cell and cell.place[:3] in places and cell.seed in protocol.seeds
    ]
    for name in dict.fromkeys(cell.task for cell in cells):
        if entries.task(name).is_function:
            raise ConfigError(
                f"task '{name}'",
                'it is computed by a function, and leaves no predictions that could be scored again.',
                'Choose other tasks by --only task=NAME.',
            )
    if not cells:
        raise ConfigError(results, 'no finished cell is chosen.', 'Run some, or choose others by --only.')
    used = {cell.inputs.get('weights') for cell in cells}
    pretrainings = [item for item in store.pretrainings() if weights_input(item.inputs) in used]
    hashes: dict[str, str] = {}
    with in_one_step(target) as unfinished, zipfile.ZipFile(unfinished, 'w') as file:
        for name, path in (
            *files_of_pretrainings(pretrainings, store),
            *(pair for cell in cells for pair in files_of(cell, store, work_dir, entries)),
        ):
            content = read_regular(path, StoreError, 'Pass the --results and the --work-dir of its run.')
            # PNG is compressed already.
            how = zipfile.ZIP_STORED if name.endswith('.png') else zipfile.ZIP_DEFLATED
            file.writestr(zipfile.ZipInfo(name, WHEN), content, how)
            hashes[name] = sha256(content)
        manifest = {
            'schema': SCHEMA,
            'vasomim': __version__,
            'study': protocol.name,
            'cells': [cell.cell for cell in cells],
            'pretrainings': [item.pretraining for item in pretrainings],
            'files': hashes,
        }
        file.writestr(zipfile.ZipInfo(MANIFEST, WHEN), json.dumps(manifest, indent=1) + '\n', zipfile.ZIP_DEFLATED)
    return len(cells)


def files_of_pretrainings(pretrainings: list[Pretraining], store: Store) -> Iterator[tuple[str, Path]]:
    """Yield the records of pre-trainings with their names in the zip file."""
    for item in pretrainings:
        name = f'{PRETRAINING}{item.pretraining}.json'
        yield f'results/{name}', store.folder / name


def files_of(cell: Cell, store: Store, work_dir: Path, entries: Entries) -> Iterator[tuple[str, Path]]:
    """Yield the files of a cell with their names in the zip file.

    Raises:
        StoreError: If its operating point is missing or damaged.
    """
    yield record_member(cell.cell), store.folder / f'{cell.cell}.json'
    folder = work_dir / 'cells' / cell.cell
    for also in cell.tables:
        yield table_member(cell.cell, also), store.table_path(cell.cell, also or None)
        task, cases = entries.task(also or cell.task), store.scores(cell, also or None).cases
        test = folder_of(also)
        for name in predictions_of(task, cases):
            yield f'predictions/{cell.cell}/{test}/{name}', folder / test / PREDICTIONS / name
    if entries.task(cell.task).task == 'detection':
        point = folder / folder_of('') / PREDICTIONS / OPERATING_POINT
        if parse_operating_point(read_regular(point, StoreError), str(point))['images']:
            yield validation_member(cell.cell), folder / VALIDATION / PREDICTIONS / BOXES


def record_member(cell: str) -> str:
    """Return the name of a cell's record in a submission."""
    return f'results/{cell}.json'


def table_member(cell: str, also: str) -> str:
    """Return the name of a table of a cell; ``also`` names another task, '' its own."""
    return f'results/{cell}.{also}.csv' if also else f'results/{cell}.csv'


def validation_member(cell: str) -> str:
    """Return the name of the boxes on validation images from which the operating point of a cell was chosen."""
    return f'predictions/{cell}/{VALIDATION}/{BOXES}'


def folder_of(also: str) -> str:
    """Return the folder of a test, below that of its cell; ``also`` as of :func:`table_member`."""
    return f'also_{also}' if also else 'test'


def predictions_of(task: Task, cases: tuple[str, ...]) -> list[str]:
    """Return the files of the predictions of a test."""
    return [f'{case}.png' for case in cases] if task.task == 'segmentation' else [BOXES, OPERATING_POINT]
