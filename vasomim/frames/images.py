"""Read frames and masks, and refuse what is damaged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.files import read_regular
from vasomim.frames.headers import Header, other_format, read_header, turned
from vasomim.frames.jpeg import damage
from vasomim.frames.limits import MOST_PIXELS

COPY_AGAIN = 'Copy or download the file again, or remove it.'

BROKEN = 'damaged, cut short, or not an image.'
MOST_BYTES = 8 * MOST_PIXELS + (1 << 20)  # Four channels of 16 bits, nothing compressed.

TO_GREY = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}


def read_grey(path: str | Path, mask: bool = False, thorough: bool = True) -> NDArray[np.uint8]:
    """Read a frame as 8-bit grey levels, turned as its EXIF says.

    Args:
        path: PNG, JPEG, BMP, TIFF, WebP or binary PGM file. Colour is converted by luminance, which leaves frames with three
            equal channels as they are; transparency is dropped.
        mask: Whether it is a mask, for what an error says.
        thorough: Whether damage inside a JPEG file is looked for too, which takes as long again as decoding it. A
            training, which reads a frame hundreds of times, goes without.

    Returns:
        uint8 (H, W).

    Raises:
        DatasetError: As :func:`decode`, and if it is not of 8 bits per channel. Which 8 bits of a 16-bit image matter
            depends on the recording, so they are not chosen here.
    """
    pixels = decode(path, thorough)
    if pixels.dtype != np.uint8 and mask:
        cure = 'Save it with 8 bits, its values as they are, such as 0 and 1 or 0 and 255.'
        raise DatasetError(path, f'{pixels.dtype} values; masks are 8-bit.', cure)
    if pixels.dtype != np.uint8:
        raise DatasetError(
            path,
            f'{pixels.dtype} grey levels; frames are 8-bit.',
            'Convert it to 8 bits first, mapping the recorded window of grey levels to 0-255.',
        )
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] not in TO_GREY:
        raise DatasetError(path, f'{pixels.shape[2]} channels; frames are grey.', 'Convert it to 8-bit grey first.')
    return cv2.cvtColor(pixels, TO_GREY[pixels.shape[2]])  # type: ignore[return-value]


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """Read a binary mask, stored as 0/255 or as 0/1.

    Returns:
        uint8 (H, W) in {0, 1}.

    Raises:
        DatasetError: As :func:`read_grey`, and if the mask holds other values.
    """
    mask = read_grey(path, mask=True)
    top = mask.max()
    if top not in (0, 1, 255) or (top and np.count_nonzero(mask) != np.count_nonzero(mask == top)):
        used = np.unique(mask)
        some = ', '.join(map(str, used[:6])) + (', ...' if used.size > 6 else '')
        raise DatasetError(
            path,
            f'not a mask: it holds the values {some} instead of 0 and 255 (or 0 and 1).',
            'An anatomy map is made again by `vasomim extract FRAMES MAPS`, which keeps sound ones. Store masks as '
            'PNG: JPEG blurs them.',
        )
    return np.minimum(mask, 1)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Return height and width from a file's header, without decoding it; None if it is not known as an image."""
    header = image_header(path)
    return None if header is None else header.size


def image_header(path: str | Path) -> Header | None:
    """Return the header of an image file; None if it cannot be read, or is not known as an image."""
    try:
        return read_header(read_regular(path, DatasetError, most=MOST_BYTES))
    except DatasetError:
        return None


def decode(path: str | Path, thorough: bool = True) -> NDArray:
    """Return the pixels of an image file, turned as its EXIF says: (H, W), or (H, W, 3 or 4) in BGR order.

    Args:
        path: PNG, JPEG, BMP, TIFF, WebP or binary PGM file, whatever its name ends with.
        thorough: As in :func:`read_grey`.

    Raises:
        DatasetError: If the file is no regular one, cannot be read, is damaged, announces more than
            :data:`~vasomim.frames.limits.MOST_PIXELS`, or holds many pictures, as pages or frames of an animation do:
            the first of them would pass for all.
    """
    data = read_regular(path, DatasetError, COPY_AGAIN, MOST_BYTES)
    if not data:
        raise DatasetError(path, 'the file is empty.', COPY_AGAIN)
    header = read_header(data)
    if header is None:
        if name := other_format(data):
            cure = 'Save it as PNG.' if name != 'DICOM' else 'Take the ending off its name, or let it be .dcm.'
            raise DatasetError(
                path, f'this is a {name} file; read are PNG, JPEG, BMP, TIFF, WebP and PGM of 8 bits.', cure
            )
        raise DatasetError(path, BROKEN, COPY_AGAIN)
    check_header(path, header)
    # OpenCV refuses what ends too early in every format but JPEG, where it fills the missing part with grey.
    if header.jpeg is not None and (fault := damage(data, header.jpeg, thorough)):
        raise DatasetError(path, fault, COPY_AGAIN)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DatasetError(path, f'cannot be decoded: {error.err}.', COPY_AGAIN) from error
    if pixels is None:
        raise DatasetError(path, BROKEN, COPY_AGAIN)
    if header.orientation != 1 and header.format != 'TIFF':  # OpenCV turns those alone.
        pixels = turned(pixels, header.orientation)
    if pixels.shape[:2] != header.size:
        raise DatasetError(path, 'damaged: it is of another size than it says.', COPY_AGAIN)
    if header.format == 'TIFF' and pixels.shape[2:] == (4,) and pixels[..., 3].min() < 255:
        what = 'it is transparent in parts, and its colors are stored or decoded as mixed with black.'
        raise DatasetError(path, what, 'Save it without transparency.')
    return pixels


def check_header(path: str | Path, header: Header) -> None:
    """Refuse what must not be decoded.

    Raises:
        DatasetError: If there are too many pixels or bits, or several pictures.
    """
    if max(header.width * header.height, header.tile) > MOST_PIXELS:
        what = f'it announces {header.width} x {header.height} pixels; at most {MOST_PIXELS:,} are read.'
        raise DatasetError(path, what, 'Save it smaller, or copy it again if it is damaged.')
    if header.jpeg is not None and header.jpeg.bits != 8:
        cure = 'Convert it to 8 bits first, mapping the recorded window of grey levels to 0-255.'
        raise DatasetError(path, f'{header.jpeg.bits} bits a channel; frames are 8-bit.', cure)
    if header.pictures > 1:
        what = 'pages' if header.format == 'TIFF' else 'pictures'
        cure = 'Save each of them as a file of its own, for instance by `magick IN.tif OUT_%04d.png`.'
        raise DatasetError(path, f'it holds {header.pictures} {what}; read is one image a file.', cure)
