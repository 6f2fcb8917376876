"""What image files say of themselves in front of their pixels: size, orientation, number of pictures.

Source: PNG, third edition (with eXIf and acTL); the WebP container specification; the BITMAPINFOHEADER of Windows.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.frames.jpeg import START as JPEG_START
from vasomim.frames.jpeg import Jpeg, number_of_pictures, read_jpeg
from vasomim.frames.tiff import STARTS as TIFF_STARTS
from vasomim.frames.tiff import directories, first_directory, orientation_in, orientation_of

PNG_START = b'\x89PNG\r\n\x1a\n'
PGM = re.compile(rb'P5' + 2 * rb'(?:\s|#[^\n]*\n)+(\d{1,9})' + rb'(?:\s|#[^\n]*\n)+255\s')
WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT = 0x100, 0x101, 0x142, 0x143

OTHER_FORMATS = {
    'GIF': (0, (b'GIF87a', b'GIF89a')),
    'JPEG 2000': (0, (b'\0\0\0\x0cjP  ', b'\xff\x4f\xff\x51')),
    'HEIF': (4, (b'ftyphei', b'ftyphev', b'ftypmif1', b'ftypmsf1')),
    'AVIF': (4, (b'ftypavi',)),
    'JPEG XL': (0, (b'\0\0\0\x0cJXL ', b'\xff\x0a')),
    'PNM': (0, tuple(f'P{number}{blank}'.encode() for number in range(1, 8) for blank in ' \n\r\t')),
    'DICOM': (128, (b'DICM',)),
    'PDF': (0, (b'%PDF',)),
    'Photoshop': (0, (b'8BPS',)),
}
"""Where the names of formats that are not read stand, and what they are."""


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    Attributes:
        format: 'PNG', 'JPEG', 'BMP', 'TIFF', 'WebP' or 'PGM'.
        width: Stored pixels.
        height: Stored pixels.
        orientation: How the stored picture is turned to be shown, 1 to 8, as EXIF defines it.
        pictures: How many pictures of equal standing the file holds, such as pages, or frames of an animation.
        tile: Pixels of a tile, which may be larger than the picture.
        jpeg: More about a JPEG file.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    pictures: int = 1
    tile: int = 0
    jpeg: Jpeg | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as the picture is shown."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)


def read_header(data: bytes) -> Header | None:
    """Read the header of a file; None if it is of none of the formats, or ends before it says its size."""
    try:
        if data.startswith(PNG_START):
            return png_header(data)
        if data.startswith(JPEG_START):
            jpeg = read_jpeg(data)
            pictures = number_of_pictures(data, jpeg)
            return Header('JPEG', jpeg.width, jpeg.height, jpeg.orientation, pictures, jpeg=jpeg)
        if data.startswith(TIFF_STARTS):
            return tiff_header(data)
        if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
            return webp_header(data)
        if data.startswith(b'BM'):
            return bmp_header(data)
        if found := PGM.match(data):
            return pgm_header(data, found)
    except struct.error:
        pass
    return None


def pgm_header(data: bytes, found: re.Match[bytes]) -> Header:
    """Read a binary PGM file of 8 bits, from the match of its header; further pictures may follow the first."""
    width, height = int(found[1]), int(found[2])
    more = data[found.end() + width * height :].lstrip().startswith(b'P5')
    return Header('PGM', width, height, pictures=1 + more)


def other_format(data: bytes) -> str:
    """Return the name of the format of a file that is none of those read; '' if it is not known."""
    for name, (start, marks) in OTHER_FORMATS.items():
        if data.startswith(marks, start):
            return name
    return ''


def png_header(data: bytes) -> Header | None:
    """Read a PNG file; one that is animated counts all its frames.

    None where a chunk leaves the file: OpenCV takes as much memory as the chunk announces, up to 4 GB.
    """
    width, height = struct.unpack_from('>II', data, 16)
    orientation = frames = 1
    animated = controlled = drawn = False
    start = 8
    kind = b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', data, start)
        if start + 12 + length > len(data):
            return None
        if kind == b'IDAT':
            drawn = True
        elif kind == b'eXIf':
            orientation = orientation_of(data[start + 8 : start + 8 + length])
        elif kind == b'acTL' and not drawn:
            animated, (frames,) = True, struct.unpack_from('>I', data, start + 8)
        elif kind == b'fcTL' and not drawn:
            controlled = True
        start += 12 + length
    if animated and not controlled:  # The picture itself is no frame of the animation.
        frames += 1
    return Header('PNG', width, height, orientation, frames)


def webp_header(data: bytes) -> Header | None:
    """Read a WebP file; one that is animated counts all its frames."""
    kind = data[12:16]
    if kind == b'VP8 ':
        width, height = (side & 0x3FFF for side in struct.unpack_from('<HH', data, 26))
    elif kind == b'VP8L':
        (bits,) = struct.unpack_from('<I', data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b'VP8X':
        width, height = (1 + int.from_bytes(data[at : at + 3], 'little') for at in (24, 27))
    else:
        return None
    orientation, frames = 1, 0
    start = 12
    while start + 8 <= len(data):
        chunk, length = struct.unpack_from('<4sI', data, start)
        if chunk == b'EXIF':
            orientation = orientation_of(data[start + 8 : start + 8 + length])
        frames += chunk == b'ANMF'
        start += 8 + length + length % 2
    return Header('WebP', width, height, orientation, max(frames, 1))


def tiff_header(data: bytes) -> Header | None:
    """Read a TIFF file; the pages count."""
    pages = sum(1 for _ in directories(data))
    if not pages:
        return None
    first = first_directory(data)
    width, height, tile_width, tile_height = (first.get(tag, 0) for tag in (WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT))
    return Header('TIFF', width, height, orientation_in(first), pages, tile_width * tile_height)


def bmp_header(data: bytes) -> Header:
    """Read a BMP file; one that is stored from its top has a negative height."""
    (size,) = struct.unpack_from('<I', data, 14)
    width, height = struct.unpack_from('<HH' if size == 12 else '<ii', data, 18)
    return Header('BMP', width, abs(height))


def turned(pixels: NDArray, orientation: int) -> NDArray:
    """Turn a stored picture, (H, W) or (H, W, C), as it is to be shown.

    Args:
        pixels: As they are stored.
        orientation: 1 to 8, as EXIF defines it: which side of the shown picture its first row and column are.
    """
    if orientation in (5, 6, 7, 8):  # Rows are columns.
        pixels = np.asarray(cv2.transpose(pixels))
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)  # Left and right, both, or up and down.
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip))


def turned_point(x: float, y: float, header: Header) -> tuple[float, float]:
    """Return where a point of the stored picture lies in the one that is shown.

    Args:
        x: From the left edge, pixels.
        y: From the top edge, pixels.
        header: Of the picture.
    """
    width, height = header.width, header.height
    if header.orientation in (5, 6, 7, 8):
        x, y, width, height = y, x, height, width
    if header.orientation in (2, 3, 6, 7):
        x = width - x
    if header.orientation in (3, 4, 7, 8):
        y = height - y
    return x, y
