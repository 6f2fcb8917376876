"""Whatever a file is, it is a submission or a clear error."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmark.damage import DAMAGES
from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.submission.archive import MANIFEST, SCHEMA, Archive

CONTENT = {'schema': SCHEMA, 'vasomim': '0', 'study': 'made', 'cells': [], 'pretrainings': [], 'files': {}}


def archive(path: Path, members: dict[str, bytes] | None = None, manifest: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr(MANIFEST, json.dumps(CONTENT).encode() if manifest is None else manifest)
        for name, content in (members or {}).items():
            file.writestr(name, content)
    return path


def test_a_sound_one_is_read(tmp_path: Path) -> None:
    with Archive(archive(tmp_path / 'a.zip', {'results/x.json': b'{}'})) as found:
        assert found.manifest == CONTENT and found.read('results/x.json') == b'{}'
        with pytest.raises(StoreError, match='missing'):
            found.read('results/y.json')
        with pytest.raises(StoreError, match='at most 1'):
            found.read('results/x.json', most=1)


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_list_of_its_content_is_an_error_that_names_it(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(StoreError, match=MANIFEST):
        Archive(archive(tmp_path / 'a.zip', manifest=damage))


@pytest.mark.parametrize(
    'changes',
    [
        {'schema': 99},
        {'schema': 1},
        {'schema': '2'},
        {'schema': True},
        {'study': '../x'},
        {'cells': ['../../etc']},
        {'cells': 'none'},
        {'files': {'a': 'b'}},
        {'files': []},
        {'mine': 1},
    ],
)
def test_a_list_with_other_things_in_it_is_an_error(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(StoreError, match=MANIFEST):
        Archive(archive(tmp_path / 'a.zip', manifest=json.dumps({**CONTENT, **changes}).encode()))


@pytest.mark.parametrize('name', ['../x', '/etc/passwd', 'a//b', 'a/./b', 'a\\b', 'a/', 'a/../b'])
def test_a_name_that_leads_elsewhere_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError):
        Archive(archive(tmp_path / 'a.zip', {name: b''}))


def cut(content: bytes) -> bytes:
    return content[:-30]


def begun(content: bytes) -> bytes:
    return content[:40]


def encrypted(content: bytes) -> bytes:
    place = content.rindex(b'PK\x01\x02')
    return content[: place + 8] + struct.pack('<H', 1) + content[place + 10 :]


def of_another_method(content: bytes) -> bytes:
    place = content.rindex(b'PK\x01\x02')
    return content[: place + 10] + struct.pack('<H', 97) + content[place + 12 :]


def no_zip(content: bytes) -> bytes:
    return b'%PDF-1.4'


@pytest.mark.parametrize('damage', [cut, begun, encrypted, of_another_method, no_zip, lambda _: b''])
def test_a_damaged_file_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = archive(tmp_path / 'a.zip', {'results/x.json': b'x' * 1000})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r'a\.zip'):
        Archive(path)


def test_a_damaged_member_is_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path / 'a.zip', {'results/x.json': bytes(range(256)) * 8})
    content = bytearray(path.read_bytes())
    place = content.index(b'results/x.json') + 40
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    with Archive(path) as found, pytest.raises(StoreError, match='damaged'):
        found.read('results/x.json')


def test_a_member_is_not_unpacked_beyond_its_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr(MANIFEST, json.dumps(CONTENT))
        with file.open('results/x.json', 'w') as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    assert (tmp_path / 'a.zip').stat().st_size < 1 << 20
    with Archive(tmp_path / 'a.zip') as found, pytest.raises(StoreError, match='at most'):
        found.read('results/x.json')


def test_a_pipe_or_a_folder_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path, tmp_path / 'nowhere.zip'):
        with pytest.raises(StoreError):
            Archive(path)
