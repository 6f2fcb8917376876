"""The folder that a preparation writes to: asked at the start whether it can be, and kept from a second one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vasomim.errors import StorageError
from vasomim.files import locked

LOCK = '.lock'
LEAST_FREE = 1 << 20  # Bytes; one frame with its map takes about 0.2 MB.


@contextmanager
def reserved(root: Path, lock: str = LOCK) -> Iterator[None]:
    """Keep a destination for this process; one that was made for it and stays empty is removed again.

    Args:
        root: The destination.
        lock: Name of the file in it whose lock is held; it is removed at the end.

    Raises:
        StorageError: If nothing can be written there, or another process prepares the same.
    """
    made = not root.exists()
    try:
        what = 'another process prepares data here.'
        with locked(root / lock, what, 'Wait until it has ended, or choose another DST.', keep=False):
            check_free(root, LEAST_FREE)
            yield
    finally:
        if made:
            with suppress(OSError):  # It holds what was prepared.
                root.rmdir()


def check_free(folder: Path, needed: int) -> None:
    """Check that a disk has room.

    Args:
        folder: One on the disk; where it does not exist yet, the nearest one above that does counts.
        needed: Bytes.

    Raises:
        StorageError: If it has not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        fault = OSError(errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}, {free / 1e6:,.1f} of {needed / 1e6:,.1f} MB')
        raise StorageError.of(folder, fault)
