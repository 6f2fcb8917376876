"""Find frames that are the same, or nearly so: by their pixels, and by small copies of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.frames.images import read_grey

SIDE = 64
"""Pixels of the small copies."""

THRESHOLD = 0.97
"""Correlation of two small copies above which frames count as nearly the same."""

BLOCK = 1024  # Frames compared at a time: products of 1024 x 1024 stay in the cache.


def describe_frame(path: Path) -> tuple[str, NDArray[np.float32]]:
    """Return what :func:`describe_pixels` does, of a file."""
    return describe_pixels(read_grey(path))


def describe_pixels(pixels: NDArray[np.uint8]) -> tuple[str, NDArray[np.float32]]:
    """Return the hash of a frame's pixels, and its small copy with mean 0 and length 1, (SIDE * SIDE,).

    The copy of a uniform frame is zero: it resembles nothing.
    """
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return digest, small / length if length > 0 else small


def describe_frames(
    paths: Sequence[Path], report: Callable[[int, int], None] | None = None
) -> tuple[list[str], NDArray[np.float32]]:
    """Return hashes and small copies (N, SIDE * SIDE) of frames.

    Args:
        paths: The frames.
        report: Called with (frames done, frames in all).
    """
    digests = []
    copies = np.empty((len(paths), SIDE * SIDE), np.float32)
    for number, path in enumerate(paths):
        digest, copies[number] = describe_frame(path)
        digests.append(digest)
        if report:
            report(number + 1, len(paths))
    return digests, copies


def similar_pairs(
    first: NDArray[np.float32], second: NDArray[np.float32], threshold: float = THRESHOLD
) -> Iterator[tuple[int, int, float]]:
    """Yield (row of ``first``, row of ``second``, correlation) of the pairs above a threshold.

    Args:
        first: Small copies of length 1, (N, D).
        second: Small copies of length 1, (M, D).
        threshold: In [-1, 1].
    """
    for top in range(0, len(first), BLOCK):
        for left in range(0, len(second), BLOCK):
            products = first[top : top + BLOCK] @ second[left : left + BLOCK].T
            for row, column in np.argwhere(products > threshold):
                yield top + int(row), left + int(column), float(products[row, column])
