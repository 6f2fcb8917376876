"""Destinations that are full, read-only or busy: an error at the start that names its cure, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.trees import frame, write_pairs, write_png
from vasomim.cli import main
from vasomim.errors import StorageError
from vasomim.prepare.destination import reserved

NOBODY = 65534  # A user without rights.


@pytest.fixture
def source(tmp_path) -> Path:
    return write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])


def commands(source: Path, out: Path) -> list[list[str]]:
    return [
        ['downstream', 'folder', str(source), str(out)],
        ['pretrain', 'folder', str(source / 'images'), str(out), '--name', 'x', '--jobs', '1'],
    ]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own of 4 MB; its test is skipped where none can be mounted."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f'mount: {mounted.stderr.decode().strip()}')
    yield disk
    subprocess.run(['umount', str(disk)], check=True)


def test_two_at_once_are_one_too_many(source, tmp_path, capsys):
    for words, lock in zip(commands(source, tmp_path / 'out'), ('.lock', '.x.lock'), strict=True):
        with reserved(tmp_path / 'out', lock):
            assert main('prepare', words) == 2
            assert 'another process prepares data here' in capsys.readouterr().err
        assert not (tmp_path / 'out').exists()
        assert main('prepare', words) == 0
        assert not list((tmp_path / 'out').glob('*lock*'))
        subprocess.run(['rm', '-r', str(tmp_path / 'out')], check=True)


def test_many_at_once_leave_one_sound_set(source, tmp_path):
    words = [sys.executable, '-m', 'vasomim', 'prepare', *commands(source, tmp_path / 'out')[0]]
    runs = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ends = [(run.communicate()[1], run.returncode) for run in runs]
    assert all(status == 0 or (status == 2 and 'another process' in error) for error, status in ends), ends
    assert any(status == 0 for _, status in ends)
    assert main('check', [str(tmp_path / 'out')]) == 0


def test_sources_of_one_destination_may_be_prepared_at_once(source, tmp_path):
    with reserved(tmp_path / 'out', '.y.lock'):
        assert main('prepare', commands(source, tmp_path / 'out')[1]) == 0


def test_the_lock_goes_with_its_process(source, tmp_path):
    code = 'import sys; from pathlib import Path; from vasomim.prepare.destination import reserved\n'
    code += 'with reserved(Path(sys.argv[1])): print("held", flush=True); sys.stdin.read()'
    process = subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path / 'out')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == 'held\n'
    words = commands(source, tmp_path / 'out')[0]
    assert main('prepare', words) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / 'out' / '.lock').is_file()
    assert main('prepare', words) == 0
    assert not (tmp_path / 'out' / '.lock').exists()


def test_places_that_cannot_be_written_are_errors_at_the_start(source, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    for place, word in (
        ('file/out', 'a file'),
        ('file', 'a file'),
        (f'{"x" * 300}/out', 'shorter'),
        ('/proc/vasomim', ''),
    ):
        for words in commands(source, tmp_path / place):
            assert main('prepare', words) == 2
            error = capsys.readouterr().err
            assert 'StorageError' in error and word in error and 'Free some space' not in error


def test_a_read_only_disk_is_an_error_at_the_start(source, small_disk, capsys):
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    for words in commands(source, small_disk / 'out'):
        assert main('prepare', words) == 2
        assert 'read-only' in capsys.readouterr().err


def test_a_full_disk_is_an_error_at_the_start(source, small_disk, capsys):
    (small_disk / 'ballast').write_bytes(bytes(3_500_000))
    for words in commands(source, small_disk / 'out'):
        assert main('prepare', words) == 2
        assert 'Free some space' in capsys.readouterr().err
        assert {path.name for path in small_disk.iterdir()} == {'ballast'}


def test_an_archive_that_does_not_fit_is_an_error_before_it_is_unpacked(tmp_path, small_disk, capsys):
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w', zipfile.ZIP_DEFLATED) as packed:
        packed.writestr('a.png', bytes(5_000_000))
    for words in commands(tmp_path / 'set.zip', small_disk / 'out'):
        words = [word.replace('set.zip/images', 'set.zip') for word in words]
        assert main('prepare', words) == 2
        assert 'Free some space' in capsys.readouterr().err
        assert not list(small_disk.rglob('*.png*'))


def test_a_disk_that_fills_up_is_an_error_and_the_run_continues(tmp_path, small_disk, capsys):
    for k in range(40):
        write_png(tmp_path / 'pairs' / 'images' / f'p{k}_1.png', frame(k, 256))  # 66 kB each.
        write_png(tmp_path / 'pairs' / 'masks' / f'p{k}_1.png', np.eye(256, dtype=np.uint8))
    for words in commands(tmp_path / 'pairs', small_disk / 'out'):
        (small_disk / 'ballast').write_bytes(bytes(2_800_000))
        assert main('prepare', words) == 2
        assert 'Free some space' in capsys.readouterr().err
        (small_disk / 'ballast').unlink()
        assert main('prepare', words) == 0
        assert main('check', [str(small_disk / 'out'), '--jobs', '1']) == 0
        assert not list(small_disk.rglob('*.part'))
        subprocess.run(['rm', '-r', str(small_disk / 'out')], check=True)


def test_a_forbidden_destination_is_an_error_at_the_start():
    """Root may write anywhere, and so gives its rights up."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        if user == 0:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(StorageError, match='permissions'), reserved(Path(folder) / 'out'):
                pass
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o755)


def test_a_lock_without_a_wait_is_taken_once_only(tmp_path):
    """Many processes that take and remove one lock never hold it at the same time."""
    code = """
import sys, time
from pathlib import Path
from vasomim.errors import StorageError
from vasomim.files import locked
folder, end = Path(sys.argv[1]), time.monotonic() + 3
while time.monotonic() < end:
    try:
        with locked(folder / 'lock', 'held', 'wait', keep=False):
            (folder / 'inside').mkdir()  # Fails where another one is inside.
            (folder / 'inside').rmdir()
    except StorageError:
        pass
"""
    runs = [subprocess.Popen([sys.executable, '-c', code, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(4)]
    for run in runs:
        assert run.communicate()[1] == b''
        assert run.returncode == 0
