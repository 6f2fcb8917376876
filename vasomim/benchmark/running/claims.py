"""Who works on a cell: a lock that goes with its process, and a sign of life for other machines."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.schema import Number, adapter_of, checked
from vasomim.errors import StorageError
from vasomim.files import read_json

BEAT = 5.0  # Seconds between two signs of life.
LENGTH = 160  # Bytes of a claim's file.
MOST_BYTES = 1 << 16
SILENCE = 120.0  # Seconds without one after which the owner on another machine is taken for dead.


class Claim:
    """The right to work on a cell, held while in the ``with`` block.

    The lock is the system's (``flock``), which disappears with the process, however it ends. Where a shared file system
    keeps no locks between machines, the owner's sign of life in the same file counts: the file's time, moved by a
    thread. ``seconds`` counts the time that was spent on the cell, that of earlier, killed attempts included.

    Args:
        path: The claim's file, one per cell.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.stopped = threading.Event()
        self.started = self.before = 0.0
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Claim | None:
        """Take the claim; None if another process holds it.

        Raises:
            StorageError: If its file cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # By the umask: who may write into a folder of results that people share may claim its cells.
            file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), 'r+')
        except OSError as error:
            raise StorageError.of(self.path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        owner = read_owner(self.path)
        if is_elsewhere(owner, self.path):
            file.close()
            return None
        self.file, self.before, self.started = file, owner.seconds, time.monotonic()
        self.beat()
        self.thread = threading.Thread(target=self.keep, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the claim back."""
        if self.file is not None:
            self.stopped.set()
            assert self.thread is not None
            self.thread.join()
            self.beat(host=None)
            self.file.close()

    @property
    def seconds(self) -> float:
        """Seconds spent on the cell so far."""
        return self.before + time.monotonic() - self.started

    def beat(self, host: str | None = '') -> None:
        """Write the sign of life."""
        content = {
            'host': socket.gethostname() if host == '' else host,
            'pid': os.getpid(),
            'seconds': round(self.seconds, 3),
        }
        # In one piece over what was there, so that nobody reads an empty file, which belongs to no one.
        os.pwrite(self.file.fileno(), json.dumps(content).ljust(LENGTH).encode(), 0)

    def keep(self) -> None:
        """Write the sign of life until the claim is given back."""
        while not self.stopped.wait(BEAT):
            try:
                self.beat()
            except OSError:
                continue  # A full disk; the lock holds without it.


@dataclass(frozen=True)
class Owner:
    """What a claim's file says.

    Attributes:
        host: Name of the machine whose process holds it; None where it was given back, or nobody has held it.
        seconds: Spent on the cell.
        pid: Number of the process.
    """

    host: str | None = None
    seconds: Number = 0.0
    pid: int = 0


OWNER = adapter_of(Owner)


def read_owner(path: Path) -> Owner:
    """Return what a claim's file says; that nobody holds it where it is missing or damaged."""
    try:
        content = checked(OWNER, read_json(path, StoreError, most=MOST_BYTES), path, StoreError, '')
    except StoreError:
        return Owner()
    return Owner(**content)


def is_elsewhere(owner: Owner, path: Path) -> bool:
    """Return whether a process on another machine holds a claim and gives signs of life."""
    return owner.host not in (None, socket.gethostname()) and silent_for(path) < SILENCE


def silent_for(path: Path) -> float:
    """Return the seconds since the last sign of life, by the clock of the file system, which all machines share.

    A sign from the future was given before that clock was set back, and is as old as that.
    """
    try:
        last = path.stat().st_mtime
    except OSError:
        return float('inf')
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix='.now.') as file:
            return abs(os.stat(file.name).st_mtime - last)
    except OSError:  # Nothing can be written there: this machine's clock has to do.
        return abs(time.time() - last)


def held(path: Path) -> bool:
    """Return whether a process works on a cell at the moment."""
    if not path.is_file():
        return False
    try:
        # Locks over NFS ask for a file that may be written; to look, one that may be read does elsewhere.
        file = open(path, 'ab' if os.access(path, os.W_OK) else 'rb')  # noqa: SIM115 - closed below
    except OSError:
        return False  # It is gone, or nobody may know.
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return is_elsewhere(read_owner(path), path)
