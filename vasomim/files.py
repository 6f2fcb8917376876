"""Write files so that they are there in full or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, and move it there when it is complete; its folder exists already.

    Raises:
        OSError: If it cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    part.write_bytes(content)
    os.replace(part, path)
