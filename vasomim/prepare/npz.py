"""Read the cines of CoronaryDominance, arrays in npz files, frame by frame; what is announced is checked first."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.frames.images import COPY_AGAIN
from vasomim.frames.limits import MOST_PIXELS
from vasomim.prepare.archive import too_large
from vasomim.prepare.journal import stamp_of

ARRAY = 'pixel_array.npy'
"""The frames in a study: (frames, H, W), 0 to 255, as floats."""

DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, RuntimeError)
BAD_HEADER = (SyntaxError, TypeError, OverflowError, RecursionError, MemoryError, tokenize.TokenError)


def read_npz(path: Path) -> Iterator[NDArray[np.uint8] | DatasetError]:
    """Yield the frames of a study, one at a time: as floats a cine may take gigabytes.

    Raises:
        DatasetError: If what follows cannot be read, or is announced larger than it can be.
    """
    number = 0
    if stamp_of(path) is None:
        raise DatasetError(path, 'it is no regular file.', COPY_AGAIN)
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(ARRAY)
            if too_large(member.file_size, member.compress_size):
                what = f"its 'pixel_array' would become {member.file_size:,} bytes of {member.compress_size:,}."
                raise DatasetError(path, what, 'Angiograms do not: get it again from its publisher.')
            with archive.open(member) as file:
                shape, dtype = read_shape(path, file)
                size = math.prod(shape[1:]) * dtype.itemsize
                if shape[0] * size > member.file_size:
                    what = f"its 'pixel_array' of {shape} has {member.file_size:,} bytes."
                    raise DatasetError(path, what, COPY_AGAIN)
                for number in range(shape[0]):
                    data = file.read(size)
                    if len(data) < size:
                        raise DatasetError(path, f'cut short in frame {number + 1} of {shape[0]}.', COPY_AGAIN)
                    yield to_grey_levels(path, number, np.frombuffer(data, dtype).reshape(shape[1:]))
    except OSError as error:
        raise DatasetError(path, f'cannot be read: {error.strerror or error}.', COPY_AGAIN) from error
    except KeyError as error:
        raise DatasetError(path, "it holds no 'pixel_array'.", COPY_AGAIN) from error
    except DAMAGE as error:
        raise DatasetError(path, f'damaged at frame {number + 1}: {error}.', COPY_AGAIN) from error


def read_shape(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an array file: its shape, (frames, H, W), and its type.

    Raises:
        DatasetError: If it is something else than numbers of that shape, or a frame would be too large.
        ValueError: If the header is damaged.
    """
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = reader(file)
    except BAD_HEADER as error:
        raise ValueError(f'its header cannot be read ({type(error).__name__})') from error
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape) < 1 or fortran or dtype.kind not in 'fiu':
        what = f"its 'pixel_array' is {dtype} {shape}{' in Fortran order' if fortran else ''}."
        raise DatasetError(path, what, 'Published are numbers of the shape (frames, height, width).')
    if shape[1] * shape[2] > MOST_PIXELS:
        what = f'its frames have {shape[2]} x {shape[1]} pixels, and at most {MOST_PIXELS:,} are read.'
        raise DatasetError(path, what, COPY_AGAIN)
    return shape, dtype


def to_grey_levels(path: Path, number: int, pixels: NDArray) -> NDArray[np.uint8] | DatasetError:
    """Return the grey levels of a frame, rounded; an error if they are none from 0 to 255."""
    low, high = float(pixels.min()), float(pixels.max())  # NaN if there is one, which no comparison is true for.
    if low > -0.5 and high < 255.5:
        return np.rint(pixels).astype(np.uint8)
    return DatasetError(path, f'frame {number + 1} has the grey levels {low:g} to {high:g}, not 0-255.', COPY_AGAIN)
