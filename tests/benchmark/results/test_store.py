"""Results on disk: what is written is read, and nothing that was damaged passes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vasomim.benchmark.results.records import Cell, Pretraining, StoreError, digest, name_of
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.results.tables import Scores, format_table, table_of
from vasomim.benchmark.running.claims import Claim
from vasomim.errors import StorageError

SCORES = Scores(('a', 'b, "quoted"'), {'DSC': np.array([0.1, np.nan])}, {'side': ('left', '')})


def inputs(seed: int = 0) -> dict:
    return {'task': 't', 'method': 'm', 'seed': seed, 'label_fraction': 1.0}


def filled(folder: Path, seeds: int = 1) -> Store:
    store = Store(folder)
    for seed in range(seeds):
        cell = Cell(name_of(inputs(seed)), inputs(seed), 'finished', {'DSC': 0.1}, cases=2)
        store.write_cell(cell, {'': SCORES, 'other': SCORES})
    return store


def test_what_is_written_is_read(tmp_path) -> None:
    store = filled(tmp_path, 2)
    assert [cell.seed for cell in store.cells()] == [0, 1]
    cell = store.cells()[0]
    assert (cell.task, cell.method, cell.label_fraction, cell.scores) == ('t', 'm', 1.0, {'DSC': 0.1})
    for also in (None, 'other'):
        scores = store.scores(cell, also)
        assert scores.cases == SCORES.cases and scores.groups == SCORES.groups
        np.testing.assert_array_equal(scores.values['DSC'], SCORES.values['DSC'])
    with pytest.raises(StoreError, match='not tested on'):
        store.scores(cell, 'third')
    assert not list(tmp_path.glob('.*'))


def test_the_name_is_the_hash_of_the_inputs() -> None:
    import hashlib

    text = '{"label_fraction":1.0,"method":"m","seed":0,"task":"t"}'
    assert name_of(inputs()) == hashlib.sha256(text.encode()).hexdigest()[:16]


def edit(record: dict) -> dict:
    record['scores']['DSC'] = 0.9
    return record


def older(record: dict) -> dict:
    record['schema'] = 0
    del record['checksum']
    return {**record, 'checksum': digest(record)}


def renamed(record: dict) -> dict:
    record['inputs']['seed'] = 7
    del record['checksum']
    return {**record, 'checksum': digest(record)}


@pytest.mark.parametrize(('change', 'what'), [(edit, 'checksum'), (older, 'schema is 0'), (renamed, 'inputs belong')])
def test_damaged_records_are_named_and_set_aside(tmp_path, change, what) -> None:
    store = filled(tmp_path, 2)
    broken, sound = sorted(tmp_path.glob('*.json'))
    broken.write_text(json.dumps(change(json.loads(broken.read_text()))))
    with pytest.raises(StoreError, match=what) as caught:
        store.cells()
    assert str(broken) in str(caught.value)
    moved = store.set_aside_damaged()
    assert [path.name for path, _ in moved] == [broken.name]
    assert [cell.cell for cell in store.cells()] == [sound.stem]
    assert len(list((tmp_path / 'set_aside').iterdir())) == 3


def test_a_record_that_was_cut_off_or_whose_table_was_edited_is_set_aside(tmp_path) -> None:
    store = filled(tmp_path, 2)
    first, second = sorted(tmp_path.glob('*.json'))
    first.write_text(first.read_text()[:-40])
    table = tmp_path / f'{second.stem}.other.csv'
    table.write_text(table.read_text().replace('0.1', '0.2'))
    assert {Path(error.where).name for error in store.damaged()} == {first.name, table.name}
    assert len(store.set_aside_damaged()) == 2
    assert store.cells() == [] and not list(tmp_path.glob('*.*'))
    filled(tmp_path)  # Computed and damaged again: the older file is kept as well.
    first.write_text('{')
    store.set_aside_damaged()
    assert len(list((tmp_path / 'set_aside').glob(f'{first.stem}*.json'))) == 2


def test_a_score_that_is_not_the_mean_of_its_table_is_found_though_the_checksum_fits(tmp_path) -> None:
    table = Scores(('a', 'b'), {'DSC': np.array([0.25, 0.75]), 'HD95': np.array([1.0, np.nan])}, {})
    also = {'other': {'scores': {'DSC': 0.5}, 'cases': 2}}

    def faults(averaged: tuple[str, ...] = ('t',), **changes: object) -> list[str]:
        cell = Cell(name_of(inputs()), inputs(), 'finished', {'DSC': 0.5, 'HD95': None}, cases=2, also=also)
        Store(tmp_path).write_cell(replace(cell, **changes), {'': table, 'other': table})
        return [error.what for error in Store(tmp_path).damaged(averaged)]

    assert faults() == []
    assert '0.9' in faults(scores={'DSC': 0.9, 'HD95': None})[0]
    assert 'DSC' in faults(scores={'DSC': None, 'HD95': None})[0]
    assert 'HD95' in faults(scores={'DSC': 0.5, 'HD95': 1.0})[0]
    assert '3 cases' in faults(cases=3)[0]
    assert 'DSC' in faults(also={'other': {'scores': {'DSC': 0.6}, 'cases': 2}})[0]
    assert faults(averaged=(), scores={'DSC': 0.9, 'HD95': None}) == []  # What a function returns may be otherwise.


@pytest.mark.parametrize('name', ['=1+1', '+1', '-1', '@x', '\t=1', "'=1", "''=1", "it's", "'", '"=1", x', 'a\u2028b'])
def test_no_name_is_a_formula_and_each_is_read_back(name) -> None:
    scores = Scores((name,), {name: np.array([-0.5])}, {name: (name,)})
    lines = format_table(scores)
    cells = list(csv.reader(io.StringIO(lines)))
    assert [cell for row in cells for cell in row if cell.startswith(('=', '+', '-', '@', '\t', '\r'))] == ['-0.5']
    found = table_of(lines)
    assert (found.cases, list(found.values), found.groups) == (scores.cases, [name], scores.groups)


@pytest.mark.parametrize('mask', [0o022, 0o027, 0o077, 0o002])
def test_results_are_readable_by_whom_the_umask_says(tmp_path, mask) -> None:
    before = os.umask(mask)
    try:
        store = filled(tmp_path / 'results')
        store.write_study('tiny', {('t', 'm', 1.0, 0): store.cells()[0].cell})
        with Claim(tmp_path / 'results' / '.claims' / 'cell'):
            pass
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / 'results').rglob('*') if path.is_file()]
    assert len(files) == 6 and {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


def test_a_pretraining_is_kept_beside_the_cells(tmp_path) -> None:
    store = filled(tmp_path)
    own = {'method': 'm', 'seed': 0, 'config': 'c'}
    store.write_pretraining(Pretraining(name_of(own), own, 'finished', cost={'seconds': 3.0}))
    assert store.pretrainings()[0].cost == {'seconds': 3.0} and len(store.cells()) == 1


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch) -> None:
    store = filled(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fsync(_: int) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(StorageError, match='No space left'):
        filled(tmp_path, 2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert store.cells()[0].scores == {'DSC': 0.1}


def test_the_store_imports_neither_torch_nor_openmmlab() -> None:
    code = (
        'import sys, vasomim.benchmark.results.store, vasomim.benchmark.study.entries\n'
        'import vasomim.benchmark.running.run, vasomim.cli.benchmark\n'
        'print([name for name in sys.modules if name.split(".")[0] in ("torch", "mmengine", "mmcv", "mmseg", "mmdet")])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
