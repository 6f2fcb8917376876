"""Write files so that they are there in full or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file beside its place, and move it there when it is complete; its folder exists already.

    Raises:
        OSError: If it cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    part.write_bytes(content)
    os.replace(part, path)


@contextmanager
def in_one_step(path: Path) -> Iterator[Path]:
    """Give a name to write to, and rename it to ``path`` when all is on disk: what stood there stays until then.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        unfinished.touch()
        permissions = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(permissions)  # safetensors makes files that nobody else can read.
        with open(unfinished, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
