"""Read frames and masks, and refuse what is damaged."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vasomim.errors import DatasetError

COPY_AGAIN = 'Copy or download the file again, or remove it.'

JPEG_START = b'\xff\xd8'
TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
JPEG_END = b'\xff\xd9'
SCAN = 0xFFDA

TO_GREY = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}


def read_grey(path: str | Path, mask: bool = False) -> NDArray[np.uint8]:
    """Read a frame as 8-bit grey levels.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP file. Colour is converted by luminance, which leaves frames with three
            equal channels as they are; transparency is dropped.
        mask: Whether it is a mask, for what an error says.

    Returns:
        uint8 (H, W).

    Raises:
        DatasetError: If the file is missing, empty, cut short, damaged, no image, or not of 8 bits per channel. Which
            8 bits of a 16-bit image matter depends on the recording, so they are not chosen here.
    """
    pixels = decode(path)
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
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return height, width


def decode(path: str | Path) -> NDArray:
    """Return the pixels of an image file as they are stored: (H, W), or (H, W, 3 or 4) in BGR order.

    Raises:
        DatasetError: If the file cannot be read, is damaged, or is a TIFF file of many pages, as the first of them
            would pass for all.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(path, f'cannot be read: {error.strerror}.', 'Check the path and its permissions.') from error
    if not data:
        raise DatasetError(path, 'the file is empty.', COPY_AGAIN)
    # OpenCV refuses what ends too early in every format but JPEG, where it fills the missing part with grey.
    if data.startswith(JPEG_START) and not jpeg_is_complete(data):
        raise DatasetError(path, f'cut short after {len(data)} bytes.', COPY_AGAIN)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DatasetError(path, f'cannot be decoded: {error.err}.', COPY_AGAIN) from error
    if pixels is None:
        raise DatasetError(path, 'damaged, cut short, or not an image.', COPY_AGAIN)
    if data.startswith(TIFF_STARTS) and (pages := number_of_pages(data)) > 1:
        cure = 'Save each page as a file of its own, for instance by `magick IN.tif OUT_%04d.png`.'
        raise DatasetError(path, f'it holds {pages} pages; read is one image a file.', cure)
    return pixels


def number_of_pages(data: bytes) -> int:
    """Return how many pages a TIFF file has; 1 if they cannot be counted, as in one that lacks its last bytes."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(getattr(image, 'n_frames', 1))
    except (OSError, EOFError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return 1


def jpeg_is_complete(data: bytes) -> bool:
    """Return whether a JPEG file has its end marker, behind its header: a thumbnail in there has one of its own."""
    start = len(JPEG_START)
    marker = 0
    while marker != SCAN:
        if start + 4 > len(data):
            return False
        marker, length = struct.unpack_from('>HH', data, start)
        start += 1 if marker == 0xFFFF else 2 + length  # 0xFF may be repeated in front of a marker.
    # Within a scan 0xFF is followed by 0 or the number of a restart, so that this sequence ends the picture.
    return data.find(JPEG_END, start) >= 0
