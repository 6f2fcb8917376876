"""Zip files: what is refused before anything is written, and which archive an unfinished unpacking is of."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.trees import frame, write_arcade, write_png
from vasomim.cli import main
from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey
from vasomim.prepare.archive import open_source


def write_zip(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, 'w', method) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return path


def encrypted(path: Path) -> None:
    """Set the bit that says so in both headers of the only member."""
    write_zip(path, {'a.png': b'content'})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(data)


def of_method_99(path: Path) -> None:
    write_zip(path, {'a.png': b'content'})
    data = bytearray(path.read_bytes())
    data[8] = data[data.index(b'PK\x01\x02') + 10] = 99
    path.write_bytes(data)


def link(path: Path) -> None:
    member = zipfile.ZipInfo('a.png')
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, 'w') as packed:
        packed.writestr(member, '/etc/passwd')


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, 'w') as packed, pytest.warns(UserWarning, match='Duplicate'):
        packed.writestr('a.png', b'one')
        packed.writestr('a.png', b'two')


def announces_four_gigabytes(path: Path) -> None:
    write_zip(path, {'a.png': b'content'})
    data = bytearray(path.read_bytes())
    directory = data.index(b'PK\x01\x02')
    data[directory + 24 : directory + 28] = (0xFFFFFF00).to_bytes(4, 'little')
    path.write_bytes(data)


@pytest.mark.parametrize(
    ('make', 'word'),
    [
        (lambda path: path.write_bytes(b'PK\x03\x04 and nothing more'), 'damaged'),
        (lambda path: path.write_bytes(b''), 'damaged'),
        (lambda path: write_zip(path, {'../escaped.png': b'x'}), 'outside'),
        (lambda path: write_zip(path, {'/escaped.png': b'x'}), 'outside'),
        (lambda path: write_zip(path, {'a\\..\\..\\escaped.png': b'x'}), 'outside'),
        (lambda path: write_zip(path, {'C:/escaped.png': b'x'}), 'outside'),
        (lambda path: write_zip(path, {'a': b'x', 'a/b.png': b'x'}), 'a file and a folder'),
        (lambda path: write_zip(path, {'a.png': bytes(100 << 20)}, zipfile.ZIP_DEFLATED), 'would become'),
        (announces_four_gigabytes, 'would become'),
        (encrypted, 'encrypted'),
        (of_method_99, 'method 99'),
        (link, 'a link'),
        (twice, 'twice'),
    ],
)
def test_archives_that_are_refused(tmp_path, capsys, make: Callable[[Path], object], word):
    archive = tmp_path / 'set.zip'
    make(archive)
    for words in (['downstream', 'folder', str(archive)], ['pretrain', 'folder', '--name', 'x', str(archive)]):
        assert main('prepare', [*words, str(tmp_path / 'out' / 'set')]) == 2
        error = capsys.readouterr().err
        assert word in error and 'set.zip' in error and 'Traceback' not in error
    assert not list(tmp_path.rglob('escaped*'))
    assert not list(tmp_path.rglob('a.png'))


def test_other_archives_name_the_way(tmp_path):
    (tmp_path / 'set.7z').write_bytes(b'7z')
    with pytest.raises(DatasetError, match=r'\.7z archives'):
        open_source(tmp_path / 'set.7z', tmp_path / 'work')


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_found_by_its_checksum(tmp_path, method):
    archive = write_zip(tmp_path / 'set.zip', {'a.png': frame(1).tobytes()}, method)
    data = bytearray(archive.read_bytes())
    data[200] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r'set\.zip: a damaged zip file'):
        open_source(archive, tmp_path / 'work')
    assert not list((tmp_path / 'work').rglob('*.png'))


def test_members_of_windows_tools_and_equal_doubles_are_unpacked(tmp_path):
    archive = tmp_path / 'set.zip'
    with zipfile.ZipFile(archive, 'w') as packed:
        packed.writestr('images\\a.png', b'one')
        packed.writestr('images/a.png', b'one')
        packed.writestr('__MACOSX/images/._a.png', b'resource')
    folder = open_source(archive, tmp_path / 'work')
    found = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    assert found == {'images/a.png'}
    assert (folder / 'images' / 'a.png').read_bytes() == b'one'


def test_an_unpacking_is_continued_by_its_own_archive_only(tmp_path):
    archive = write_zip(tmp_path / 'set.zip', {'a.png': b'first', 'b.png': b'second'})
    folder = open_source(archive, tmp_path / 'work')
    (folder / 'b.png').unlink()  # As if it had been stopped in between.
    kept = (folder / 'a.png').stat().st_mtime_ns
    assert open_source(archive, tmp_path / 'work') == folder
    assert (folder / 'a.png').stat().st_mtime_ns == kept and (folder / 'b.png').read_bytes() == b'second'
    (folder / 'b.png').unlink()
    archive.unlink()
    write_zip(archive, {'a.png': b'other', 'c.png': b'third!'})  # Of the same name, and its first member as large.
    open_source(archive, tmp_path / 'work')
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {'a.png': b'other', 'c.png': b'third!'}


def test_two_archives_of_the_same_names_and_sizes_are_not_mixed(tmp_path, capsys):
    def archive(*seeds: int) -> Path:
        content = {}
        for k, seed in enumerate(seeds):
            write_png(tmp_path / 'one.bmp', frame(seed))  # BMP: as large whatever it shows.
            content[f'p{k}_1.bmp'] = (tmp_path / 'one.bmp').read_bytes()
        return write_zip(tmp_path / 'own.zip', content)

    words = ['pretrain', 'folder', '--name', 'own', '--jobs', '1']
    assert main('prepare', [*words, str(archive(1, 2, 3)), str(tmp_path / 'out')]) == 0
    assert main('prepare', [*words, str(archive(1, 8, 9)), str(tmp_path / 'out')]) == 0
    for k, seed in enumerate((1, 8, 9)):
        assert np.array_equal(read_grey(tmp_path / 'out' / 'own' / f'p{k}_1.png'), frame(seed))
    assert main('check', [str(tmp_path / 'out'), '--deep', '--jobs', '1']) == 0
    assert main('prepare', [*words, str(archive(4, 5, 6)), str(tmp_path / 'out')]) == 2
    assert 'prepared from other data' in capsys.readouterr().err
    assert np.array_equal(read_grey(tmp_path / 'out' / 'own' / 'p0_1.png'), frame(1))


def test_what_a_killed_run_left_unpacked_goes_with_the_next_call(tmp_path):
    write_png(tmp_path / 'a_1.png', frame(1))
    archive = write_zip(tmp_path / 'own.zip', {'a_1.png': (tmp_path / 'a_1.png').read_bytes()})
    words = ['prepare', ['pretrain', 'folder', '--name', 'own', '--jobs', '1', str(archive), str(tmp_path / 'out')]]
    assert main(*words) == 0
    left = tmp_path / 'out' / '.own.unpacked' / 'content' / 'a_1.png'
    write_png(left, frame(1))
    assert main(*words) == 0
    assert not left.parents[1].exists()


def test_parts_that_a_killed_run_left_in_a_labelled_set_go_with_the_next_call(tmp_path):
    arcade = write_arcade(tmp_path / 'arcade')
    words = ['prepare', ['downstream', 'arcade', str(arcade), str(tmp_path / 'out')]]
    assert main(*words) == 0
    part = tmp_path / 'out' / 'arcade_v' / 'images' / '.syntax_train_1.png.77.0.part'
    part.write_bytes(b'half an image')
    assert main(*words) == 0
    assert not part.exists()
