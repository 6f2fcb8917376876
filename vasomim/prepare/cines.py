"""Read the frames of one file of a source, one after the other; what is damaged is told, the rest is kept."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.frames.dicom import read_frames
from vasomim.frames.images import COPY_AGAIN, read_grey
from vasomim.prepare.sources import Unit

ARRAY = 'pixel_array.npy'
"""The frames in a study of CoronaryDominance: (frames, H, W), 0 to 255, as floats."""


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


def read_npz(path: Path) -> Iterator[NDArray[np.uint8] | DatasetError]:
    """Yield the frames of a study, one at a time: as floats a cine may take gigabytes.

    Raises:
        DatasetError: As :func:`read_unit`.
    """
    number = 0
    try:
        with zipfile.ZipFile(path) as archive, archive.open(ARRAY) as file:
            shape, dtype = read_shape(path, file)
            size = int(np.prod(shape[1:])) * dtype.itemsize
            for number in range(shape[0]):
                data = file.read(size)
                if len(data) < size:
                    what = f'cut short in frame {number + 1} of {shape[0]}.'
                    raise DatasetError(path, what, COPY_AGAIN)
                yield to_grey_levels(path, number, np.frombuffer(data, dtype).reshape(shape[1:]))
    except OSError as error:
        raise DatasetError(path, f'cannot be read: {error.strerror or error}.', COPY_AGAIN) from error
    except KeyError as error:
        raise DatasetError(path, "it holds no 'pixel_array'.", COPY_AGAIN) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise DatasetError(path, f'damaged at frame {number + 1}: {error}.', COPY_AGAIN) from error


def read_shape(path: Path, file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an array file: its shape, (frames, H, W), and its type.

    Raises:
        DatasetError: If it is something else than numbers of that shape.
        ValueError: If the header is damaged.
    """
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or 0 in shape or fortran or dtype.kind not in 'fiu':
        what = f"its 'pixel_array' is {dtype} {shape}{' in Fortran order' if fortran else ''}."
        raise DatasetError(path, what, 'Published are numbers of the shape (frames, height, width).')
    return shape, dtype


def to_grey_levels(path: Path, number: int, pixels: NDArray) -> NDArray[np.uint8] | DatasetError:
    """Return the grey levels of a frame, rounded; an error if they are none from 0 to 255."""
    low, high = float(pixels.min()), float(pixels.max())  # NaN if there is one, which no comparison is true for.
    if low > -0.5 and high < 255.5:
        return np.rint(pixels).astype(np.uint8)
    return DatasetError(path, f'frame {number + 1} has the grey levels {low:g} to {high:g}, not 0-255.', COPY_AGAIN)
