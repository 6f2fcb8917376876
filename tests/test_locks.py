"""Locks of folders, held by real processes, and the files beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vasomim.errors import StorageError
from vasomim.files import LOCK, locked, require_plain_name, require_writable

HOLD = """
import os, sys, time
from vasomim.files import locked
with locked(sys.argv[1], 'busy.', 'Wait.'):
    child = os.fork()  # As a loader's worker, which outlives a training that is killed by some seconds.
    if not child:
        time.sleep(60)
    print(child, flush=True)
    time.sleep(60)
"""


def test_a_lock_goes_with_its_process_and_not_with_that_ones_children(tmp_path: Path):
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path / LOCK)], stdout=subprocess.PIPE, env=environment
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(StorageError) as caught, locked(tmp_path / LOCK, 'busy.', 'Wait.'):
            pass
        assert (caught.value.where, caught.value.what, caught.value.cure) == (tmp_path, 'busy.', 'Wait.')
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # It is there still.
        with locked(tmp_path / LOCK, 'busy.', 'Wait.'):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()


def test_a_lock_that_is_not_kept_leaves_no_file(tmp_path: Path):
    with locked(tmp_path / LOCK, 'busy.', 'Wait.', keep=False):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(StorageError), locked(tmp_path / LOCK, 'busy.', 'Wait.', keep=False):
            pass
    assert not (tmp_path / LOCK).exists()


def test_a_lock_is_free_again_behind_its_block_and_an_error_in_it(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / 'new' / LOCK, 'busy.', 'Wait.'):
            raise KeyError
    descriptors = len(os.listdir('/proc/self/fd'))
    with locked(tmp_path / 'new' / LOCK, 'busy.', 'Wait.'):
        assert len(os.listdir('/proc/self/fd')) == descriptors + 1
    assert len(os.listdir('/proc/self/fd')) == descriptors


def test_a_child_that_leaves_the_block_leaves_the_lock_alone(tmp_path: Path):
    with locked(tmp_path / LOCK, 'busy.', 'Wait.'):
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        time.sleep(0.05)
        with pytest.raises(StorageError), locked(tmp_path / LOCK, 'busy.', 'Wait.'):
            pass


@pytest.mark.parametrize('place', ['file', 'file/below', 'n' * 300, '/proc/nothing'])
def test_places_that_cannot_be_written_are_known_before(tmp_path: Path, place):
    (tmp_path / 'file').touch()
    with pytest.raises(StorageError), locked(tmp_path / place / LOCK, 'busy.', 'Wait.'):
        pass
    with pytest.raises(StorageError):
        require_writable(tmp_path / place / 'name.png')
    with pytest.raises(StorageError):
        require_writable(tmp_path)  # A folder.
    require_writable(tmp_path / 'new' / 'name.png')
    assert not list((tmp_path / 'new').iterdir())


def test_a_name_that_is_not_utf8(tmp_path: Path):
    require_plain_name(tmp_path / 'ü')
    with pytest.raises(StorageError):
        require_plain_name(os.fsdecode(os.fsencode(tmp_path) + b'/\xfc'))
