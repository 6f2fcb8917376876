"""What is packed, and that nothing is lost where it cannot be written."""

from __future__ import annotations

import json
import resource
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.benchmark.submission.made import Made
from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.submission.archive import MANIFEST
from vasomim.benchmark.submission.pack import pack
from vasomim.cli import main
from vasomim.errors import StorageError


def test_the_same_results_give_the_same_file_with_all_that_is_checked(made: Made, tmp_path: Path) -> None:
    pack(tmp_path / 'again.zip', made.folder / 'results', made.folder / 'work', made.protocol, made.entries)
    assert (tmp_path / 'again.zip').read_bytes() == made.zip.read_bytes()
    with zipfile.ZipFile(made.zip) as file:
        names = set(file.namelist())
        manifest = json.loads(file.read(MANIFEST))
    assert names == {MANIFEST, *manifest['files']} and len(manifest['cells']) == 4
    # A record and a table each, two more tables, a pre-training; 6 masks twice, 3 files of boxes twice.
    assert len(names) == 1 + 4 * 2 + 2 + 1 + 2 * 6 + 2 * 3


@pytest.mark.parametrize('name', ['test/predictions/e.png', 'also_others/predictions/f.png'])
def test_a_prediction_that_is_missing_is_an_error_that_names_it(made: Made, tmp_path: Path, name: str) -> None:
    work = shutil.copytree(made.folder / 'work', tmp_path / 'work')
    for path in work.glob(f'cells/*/{name}'):
        path.unlink()
    with pytest.raises(StoreError, match=Path(name).name):
        pack(tmp_path / 'a.zip', made.folder / 'results', work, made.protocol, made.entries)
    assert not (tmp_path / 'a.zip').exists()


def test_a_full_disk_leaves_what_stood_there(made: Made, tmp_path: Path) -> None:
    (tmp_path / 'a.zip').write_bytes(b'before')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # As a full disk: nothing beyond these bytes is written.
    try:
        with pytest.raises(StorageError, match=r'a\.zip'):
            pack(tmp_path / 'a.zip', made.folder / 'results', made.folder / 'work', made.protocol, made.entries)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [('a.zip', b'before')]


@pytest.mark.parametrize('place', ['file/a.zip', 'folder', '/proc/vasomim/a.zip', 'x' * 300 + '.zip'])
def test_a_place_that_cannot_be_written_is_named_at_the_start(tmp_path: Path, capsys, monkeypatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    # Before the study is read, which does not exist.
    assert main('benchmark', ['submit', place, '--protocol', 'none']) == 2
    assert capsys.readouterr().err.startswith(f'StorageError: {place[:40]}')


@pytest.mark.parametrize('places', [('--results', 'file/r'), ('--work-dir', 'file/w'), ('--work-dir', '/proc/vasomim')])
def test_a_run_says_at_the_start_where_it_cannot_write(tmp_path: Path, capsys, monkeypatch, places) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    assert main('benchmark', ['run', '--protocol', 'main', *places]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f'StorageError: {places[1]}') and printed.out == ''  # Nothing was loaded or planned.


def test_a_report_says_at_the_start_where_it_cannot_write(tmp_path: Path, capsys) -> None:
    (tmp_path / 'file').write_text('')
    assert main('benchmark', ['report', '--protocol', 'smoke', '--output', str(tmp_path / 'file' / 'pages')]) == 2
    assert capsys.readouterr().err.startswith(f'StorageError: {tmp_path}/file/pages')
