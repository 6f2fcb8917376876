"""Small folders of frames and maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Writer = Callable[..., None]


@pytest.fixture
def write_frames() -> Writer:
    """Write frames whose grey level is their number, so that a sample tells which frame it came from."""

    def write(root: Path, *names: str, shape: tuple[int, int] = (48, 64), first: int = 1) -> None:
        for level, name in enumerate(names, start=first):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name), np.full(shape, level, np.uint8))

    return write


@pytest.fixture
def write_maps() -> Writer:
    """Write maps whose left half is vessel."""

    def write(root: Path, *names: str, shape: tuple[int, int] = (48, 64), top: int = 255) -> None:
        mask = np.zeros(shape, np.uint8)
        mask[:, : shape[1] // 2] = top
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name), mask)

    return write


@pytest.fixture
def damage() -> Callable[[Path], None]:
    """Cut a file in half."""

    def cut(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return cut
