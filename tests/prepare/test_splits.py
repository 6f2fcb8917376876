"""Splits of our own: whole groups, near the shares, by seed; and the lists that store them."""

from __future__ import annotations

import hashlib

import pytest

from vasomim.errors import DatasetError
from vasomim.prepare.grouping import patients, series, split_by_group
from vasomim.prepare.plan import Repairs
from vasomim.prepare.prepared import read_split, split_text
from vasomim.prepare.splitting import Choices, listed_splits


def test_no_group_lies_in_two_splits_and_shares_are_met():
    groups = {f'{patient}_{frame}': str(patient) for patient in range(40) for frame in range(patient % 7 + 1)}
    found = split_by_group(groups, {'test': 0.2, 'val': 0.1}, seed=3)
    for patient in set(groups.values()):
        assert len({found[name] for name, group in groups.items() if group == patient}) == 1
    counts = {split: list(found.values()).count(split) / len(groups) for split in ('train', 'val', 'test')}
    assert counts == {
        'train': pytest.approx(0.7, abs=0.03),
        'val': pytest.approx(0.1, abs=0.03),
        'test': pytest.approx(0.2, abs=0.03),
    }
    assert found == split_by_group(dict(reversed(groups.items())), {'test': 0.2, 'val': 0.1}, seed=3)
    assert found != split_by_group(groups, {'test': 0.2, 'val': 0.1}, seed=4)


def test_few_groups_leave_something_to_train_on():
    assert set(split_by_group({'a': 'p', 'b': 'p'}, {'test': 0.5}, 0).values()) == {'train'}
    assert sorted(split_by_group({'a': 'p', 'b': 'q'}, {'test': 0.1, 'val': 0.1}, 0).values()) == ['test', 'train']
    three = split_by_group({'a': 'p', 'b': 'q', 'c': 'r'}, {'test': 0.1, 'val': 0.1}, 0)
    assert sorted(three.values()) == ['test', 'train', 'val']


def test_patients_and_series_by_name():
    assert patients(['14_002_5_0016', '14_003_1_0002', 'scan0001']) == {
        '14_002_5_0016': '14',
        '14_003_1_0002': '14',
        'scan0001': 'scan',
    }
    assert series(['p1_v1_0001', 'p1_v1_0002', 'p1_v2_0001', '0007']) == {
        'p1_v1_0001': 'p1_v1_',
        'p1_v1_0002': 'p1_v1_',
        'p1_v2_0001': 'p1_v2_',
        '0007': '0007',
    }


def test_a_list_carries_the_hash_of_its_names(tmp_path):
    text = split_text(['b', 'a'])
    assert text == f'# sha256:{hashlib.sha256(b"a" + bytes([10]) + b"b" + bytes([10])).hexdigest()}\na\nb\n'
    path = tmp_path / 'splits' / 'train.txt'
    path.parent.mkdir()
    path.write_text(text)
    assert read_split(tmp_path, 'train') == ['a', 'b']
    path.write_text(text + 'c\n')
    with pytest.raises(DatasetError, match='edited or cut short'):
        read_split(tmp_path, 'train')


def test_names_with_dots_are_found_in_a_list_with_and_without_their_ending(tmp_path):
    (tmp_path / 'train.txt').write_text('v1\nimages/v2.png\n')
    (tmp_path / 'test.txt').write_text('v3.5\n1.2.840.7\n')
    names, repairs = ['v1', 'v2', 'v3', 'v3.5', '1.2.840.7'], Repairs()
    found, _ = listed_splits(tmp_path, names, repairs, Choices(val=0))
    assert found == {'v1': 'train', 'v2': 'train', 'v3.5': 'test', '1.2.840.7': 'test'}
    assert repairs.places == {'frames in no list left out': ['v3']}
