"""Datasets that installed packages bring: found, and refused where they cannot be used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.prepare.trees import write_pairs
from vasomim.cli import main
from vasomim.errors import ConfigError, DatasetError
from vasomim.prepare.catalog import all_datasets, find_dataset, find_set, load_catalog
from vasomim.prepare.recognition import recognize
from vasomim.prepare.splitting import Choices

MODULE = """
from vasomim.prepare.plan import Plan
from vasomim.prepare.published import PreparedSet, PublishedDataset

def recognize(root):
    return 'the lab' if (root / 'lab.txt').is_file() else ''

def read(root, choices, report=None):
    return [Plan('lab', ('catheter',), (), True, False, 'none')]

SET = dict(name='lab', about='The lab.', classes=('vessel',), mask_reader='Lab')
DATA = dict(name='lab', title='the lab', layout='lab.txt', cure='Name it.', recognize=recognize, read=read)
"""
WHOLE = 'DATASET = PublishedDataset(**DATA, sets=(PreparedSet(**SET),))'

Install = Callable[[str], str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts packages with an entry point `lab` on the path, whose modules end in the given lines; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    number = 0

    def write(last: str) -> str:
        nonlocal number
        number += 1
        module = f'lab_{tmp_path.name}_{number}'.replace('-', '_')
        (tmp_path / f'{module}.py').write_text(MODULE + last)
        info = tmp_path / f'{module}-1.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {module}\nVersion: 1\n')
        (info / 'entry_points.txt').write_text(f'[vasomim.datasets]\nlab = {module}:DATASET\n')
        importlib.invalidate_caches()
        load_catalog.cache_clear()
        return module

    yield write
    load_catalog.cache_clear()


def test_an_installed_package_adds_a_dataset(install: Install, tmp_path: Path) -> None:
    before = [dataset.name for dataset in all_datasets()]
    install(WHOLE)
    assert [dataset.name for dataset in all_datasets()] == [*before, 'lab']
    found = find_set('lab')
    assert found is not None and found[0] is find_dataset('lab') and found[1].mask_reader == 'Lab'
    (tmp_path / 'lab.txt').touch()
    kind = recognize(tmp_path)
    assert kind is not None and (kind.command, kind.title) == ('lab', 'the lab')
    with pytest.raises(ConfigError, match='catheter'):  # Its plan has other classes than its set.
        find_dataset('lab').plans(tmp_path, Choices())
    with pytest.raises(DatasetError, match="'lab'"):
        find_dataset('labb')


@pytest.mark.parametrize(
    ('last', 'says'),
    [
        ('import a_module_that_is_not_there', 'a_module_that_is_not_there'),
        ('1 / 0', 'ZeroDivisionError'),
        ('DATASET = DATA', 'no PublishedDataset'),
        ('', 'DATASET'),
        ('DATASET = PublishedDataset(**DATA, sets=())', 'no sets'),
        ('DATASET = PublishedDataset(**DATA)', 'sets'),
        (WHOLE.replace('**DATA', "**{**DATA, 'read': None}"), 'read'),
        (WHOLE.replace('**DATA', "**DATA, options=('sed',)"), "Did you mean 'seed'"),
        (WHOLE.replace('**SET', "**{**SET, 'mask_reader': ''}"), 'mask_reader'),
        (WHOLE.replace('**SET', "**{**SET, 'classes': ()}"), 'classes'),
        (WHOLE.replace('**SET', "**SET, frames={'trian': 3}"), 'trian'),
        (WHOLE.replace('**SET', "**{**SET, 'name': 'the lab'}"), 'name'),
    ],
)
def test_a_broken_dataset_is_named_and_the_others_go_on(install: Install, tmp_path: Path, last: str, says: str) -> None:
    module = install(last)
    write_pairs(tmp_path / 'own', [f'p{k}_1' for k in range(4)])
    with pytest.warns(RuntimeWarning, match=f'lab = {module}:DATASET.*{says}'):
        assert main('prepare', ['downstream', 'folder', str(tmp_path / 'own'), str(tmp_path / 'set')]) == 0
    with pytest.raises(ConfigError, match=f'lab = {module}:DATASET.*{says}'):
        find_dataset('lab')
    assert find_dataset('xcav').name == 'xcav'


@pytest.mark.parametrize(
    ('last', 'says'),
    [
        (WHOLE.replace('**DATA', "**{**DATA, 'name': 'xcav'}"), r"dataset 'xcav' .* vasomim\.prepare\.sets\.xcav"),
        (WHOLE.replace('**DATA', "**{**DATA, 'name': 'folder'}"), "dataset 'folder'"),
        (WHOLE.replace('**SET', "**{**SET, 'name': 'arcade_s'}"), r"set 'arcade_s' .* vasomim\.prepare\.sets\.arcade"),
        (WHOLE.replace('**SET', "**{**SET, 'mask_reader': 'XCAV'}"), r"reader 'XCAV' .* vasomim\.prepare\.sets\.xcav"),
    ],
)
def test_a_name_that_is_taken_is_refused(install: Install, tmp_path: Path, capsys, last: str, says: str) -> None:
    module = install(last)
    with pytest.raises(ConfigError, match=f'lab = {module}:DATASET.*{says}'):
        all_datasets()
    assert main('prepare', ['downstream', 'folder', str(tmp_path), str(tmp_path / 'set')]) == 2
    assert module in capsys.readouterr().err


def test_two_packages_with_datasets_of_one_name_are_refused(install: Install) -> None:
    modules = [install(WHOLE), install(WHOLE)]
    with pytest.raises(ConfigError) as caught:
        all_datasets()
    assert all(module in str(caught.value) for module in modules)
