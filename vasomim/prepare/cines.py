"""Read the frames of one file of a source, one after the other; what is damaged is told, the rest is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.frames.dicom import read_frames
from vasomim.frames.images import read_grey
from vasomim.prepare.npz import read_npz
from vasomim.prepare.sources import Unit


def read_unit(unit: Unit) -> Iterator[NDArray[np.uint8] | DatasetError]:
    """Yield the frames of a file, uint8 (H, W), and in place of a frame that is damaged its error.

    Raises:
        DatasetError: If what follows cannot be read.
    """
    if unit.kind == 'npz':
        yield from read_npz(unit.path)
    elif unit.kind == 'dicom':
        yield from read_frames(unit.path)
    else:
        pixels = read_grey(unit.path)
        if is_mask(pixels):
            raise DatasetError(
                unit.path,
                'two grey values at most: a mask or a blank, no frame.',
                'Keep such folders out: --leave-out.',
            )
        yield pixels


def is_mask(pixels: NDArray[np.uint8]) -> bool:
    """Return whether an image holds two grey values at most, as annotations do and no angiogram does."""
    return int(np.count_nonzero(np.bincount(pixels.ravel(), minlength=256))) <= 2
