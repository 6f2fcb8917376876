"""Who works on a cell: a lock that goes with its process, and a sign of life for other machines."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BEAT = 5.0  # Seconds between two signs of life.
LENGTH = 160  # Bytes of a claim's file.
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
        """Take the claim; None if another process holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), 'r+')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        owner = read_owner(self.path)
        if owner.get('host') not in (None, socket.gethostname()) and silent_for(self.path) < SILENCE:
            file.close()
            return None
        self.file, self.before, self.started = file, float(owner.get('seconds', 0.0)), time.monotonic()
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


def read_owner(path: Path) -> dict[str, Any]:
    """Return what a claim's file says; empty where it says nothing."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def silent_for(path: Path) -> float:
    """Return the seconds since the last sign of life, by the clock of the file system, which all machines share.

    A sign from the future was given before that clock was set back, and is as old as that.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix='.now.') as file:
            return abs(os.stat(file.name).st_mtime - path.stat().st_mtime)
    except OSError:
        return float('inf')


def held(path: Path) -> bool:
    """Return whether a process works on a cell at the moment."""
    if not path.is_file():
        return False
    with open(path, 'a+', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    owner = read_owner(path)
    return owner.get('host') not in (None, socket.gethostname()) and silent_for(path) < SILENCE
