"""Each JSON file that the benchmark reads back, damaged in each way: its own error, or what is documented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmark.damage import DAMAGES
from vasomim.benchmark.reporting.html import embedded
from vasomim.benchmark.reporting.pages import shown_in
from vasomim.benchmark.results.records import Cell, StoreError, digest, name_of, read_cell, read_pretraining
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.running.claims import Claim, Owner, held, read_owner
from vasomim.benchmark.running.status import read_status
from vasomim.benchmark.running.timing import Timing, read_timing
from vasomim.benchmark.scoring.measures import parse_boxes, parse_operating_point, read_truth
from vasomim.benchmark.study.jobs import read_job
from vasomim.benchmark.study.resolve import Fingerprints
from vasomim.errors import ConfigError, DatasetError

TRUTH = {'images': [{'id': 1, 'file_name': 'a.png'}], 'annotations': [], 'categories': [{'id': 1}]}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / 'file.json'
    path.write_bytes(damage)
    for read in (read_cell, read_pretraining, read_job):
        with pytest.raises(StoreError, match=r'file\.json'):
            read(path)
    with pytest.raises(ConfigError, match=r'file\.json'):
        read_status(path)
    with pytest.raises(StoreError, match='point'):
        parse_operating_point(damage, 'point')
    if damage != b'[]':
        with pytest.raises(StoreError, match='boxes'):
            parse_boxes(damage, 'boxes', TRUTH)
    for name, reader in (('test.json', lambda folder: read_truth(folder, 'test')), ('leaderboard.json', shown_in)):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises((DatasetError, ConfigError), match=name):
            reader(tmp_path)
    if damage != b'[]':
        (tmp_path / 'pictures.json').write_bytes(damage)
        with pytest.raises(ConfigError, match=r'pictures\.json'):
            embedded(tmp_path)
    (tmp_path / 'studies').mkdir()
    (tmp_path / 'studies' / 'tiny.json').write_bytes(damage)
    with pytest.raises(StoreError, match=r'tiny\.json'):
        Store(tmp_path).study('tiny')


@pytest.mark.parametrize(
    'damage', [*DAMAGES, b'{"host": 1}', b'{"seconds": "x"}', b'{"host": null, "seconds": -Infinity}']
)
def test_a_claim_that_says_nothing_is_held_by_nobody_and_can_be_taken(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / 'claim'
    path.write_bytes(damage)
    assert read_owner(path) == Owner() and not held(path)
    with Claim(path) as claim:
        assert claim is not None and claim.seconds < 60
    assert read_owner(path).host is None


@pytest.mark.parametrize('damage', [*DAMAGES, b'{"a": null}', b'{"a": [1, 2]}', b'{"a": [1, 2, "x"]}', b'{"a": 3}'])
def test_damaged_hashes_and_timings_are_made_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / 'kept.json').write_bytes(damage.replace(b'"a"', json.dumps(str(tmp_path / 'a')).encode()))
    (tmp_path / 'a').write_bytes(b'')
    fingerprints = Fingerprints(tmp_path / 'kept.json')
    assert fingerprints.file(tmp_path / 'a').startswith('e3b0c44298fc')  # Of no bytes at all.
    assert read_timing(tmp_path / 'kept.json') is None


def test_a_kept_timing_is_read(tmp_path: Path) -> None:
    timing = Timing(1.0, 0.5, 3, 1, 2.0, 0.1, 4, 1.5, 0.2)
    (tmp_path / 'kept.json').write_text(json.dumps(vars(timing)))
    assert read_timing(tmp_path / 'kept.json') == timing
    for key, value in (('fixed', 'x'), ('iterations', 1.5), ('epochs', -1), ('mine', 1)):
        (tmp_path / 'kept.json').write_text(json.dumps({**vars(timing), key: value}))
        assert read_timing(tmp_path / 'kept.json') is None


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('cell', '../../x'),
        ('inputs', []),
        ('inputs', {'task': 't', 'method': 'm', 'seed': '0', 'label_fraction': 1.0}),
        ('inputs', {'task': 't', 'method': 'm', 'seed': True, 'label_fraction': 1.0}),
        ('inputs', {'task': 't', 'method': 'm', 'seed': -1, 'label_fraction': 1.0}),
        ('inputs', {'task': 't', 'method': 'm', 'seed': 1 << 32, 'label_fraction': 1.0}),
        ('inputs', {'task': 't', 'method': 'm', 'seed': 0, 'label_fraction': 2}),
        ('inputs', {'task': '../t', 'method': 'm', 'seed': 0, 'label_fraction': 1.0}),
        ('inputs', {'task': 't', 'seed': 0, 'label_fraction': 1.0}),
        ('status', 'Finished'),
        ('scores', {'DSC': '0.9'}),
        ('scores', {'DSC': True}),
        ('subgroups', {'width': {'thin': 3}}),
        ('cases', '2'),
        ('cases', -1),
        ('also', {'x': {'scores': {}}}),
        ('also', {'../x': {'scores': {}, 'cases': 1}}),
        ('curve', [{'loss': 1.0}]),
        ('curve', [{'epoch': 1, 'DSC': 'best'}]),
        ('inputs', {'task': 't', 'method': 'm', 'seed': 0, 'label_fraction': 1.0, 'data': ['d']}),
        ('inputs', {'task': 't', 'method': 'm', 'seed': 0, 'label_fraction': 1.0, 'weights': {}}),
        ('curve', {'epoch': 1}),
        ('cost', {'seconds': None}),
        ('cost', {'devices': 0}),
        ('tables', {'../../x': '0' * 64}),
        ('tables', {'': 'no hash'}),
        ('error', 'it failed'),
        ('smoke', 1),
        ('score_threshold', 'low'),
        ('mine', 1),
    ],
)
def test_a_record_with_something_else_in_it_is_damaged_though_its_checksum_fits(
    tmp_path: Path, key: str, value
) -> None:
    inputs = {'task': 't', 'method': 'm', 'seed': 0, 'label_fraction': 1.0}
    store = Store(tmp_path)
    store.write_cell(Cell(name_of(inputs), inputs, 'finished'))
    path = tmp_path / f'{name_of(inputs)}.json'
    record = {**json.loads(path.read_text()), key: value}
    del record['checksum']
    if key == 'inputs':
        record['cell'] = name_of(value)
        path.unlink()
        path = tmp_path / f'{record["cell"]}.json'
    path.write_text(json.dumps({**record, 'checksum': digest(record)}))
    with pytest.raises(StoreError, match=key):
        store.cells(None)
    assert len(store.set_aside_damaged()) == 1 and store.cells(None) == []
