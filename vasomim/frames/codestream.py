"""What a compressed image says of itself in its first bytes, without being decoded: JPEG, JPEG-LS, JPEG 2000, RLE.

Source: ITU-T T.81, annex B (JPEG); T.87, annex C (JPEG-LS); T.800, annex A (JPEG 2000); DICOM PS3.5, annex G (RLE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

JPEG = b'\xff\xd8\xff'
JPEG_2000 = b'\xff\x4f\xff\x51'
JP2 = b'\0\0\0\x0cjP  '  # The file format around a JPEG 2000 codestream.

NO_SIZE = (0xC4, 0xC8, 0xCC)  # Among the markers that begin a frame: tables.
SIZES = frozenset(marker for marker in range(0xC0, 0xD0) if marker not in NO_SIZE) | {0xF7}
SCAN = 0xDA

RLE_HEADER = 64  # Bytes: how many segments, and where each begins.
HEAD = 8  # Bytes that tell whether an image begins.


@dataclass(frozen=True)
class Size:
    """Height and width in pixels, channels, and bits of a value."""

    height: int
    width: int
    channels: int
    bits: int


def begins_image(head: bytes, segments: int | None) -> bool:
    """Return whether a compressed image begins here.

    Args:
        head: The first :data:`HEAD` bytes or more.
        segments: How many an RLE image has; None if it is none.
    """
    if segments is not None:
        return head[:HEAD] == struct.pack('<LL', segments, RLE_HEADER)
    return head.startswith((JPEG, JPEG_2000, JP2))


def read_size(data: bytes) -> Size | None:
    """Return the size of a JPEG, JPEG-LS or JPEG 2000 image; None if it cannot be found."""
    try:
        if data.startswith(JPEG):
            return jpeg_size(data)
        if data.startswith(JP2):
            data = data[data.index(JPEG_2000) :]
        if data.startswith(JPEG_2000):
            right, lower, left, upper = struct.unpack_from('>4L', data, 8)
            channels, bits = struct.unpack_from('>HB', data, 40)
            return Size(lower - upper, right - left, channels, (bits & 0x7F) + 1)
    except (struct.error, ValueError):  # It ends before its size.
        pass
    return None


def jpeg_size(data: bytes) -> Size | None:
    """Return the size of a JPEG or JPEG-LS image; None if none stands in front of its pixels.

    Raises:
        struct.error: If it ends before.
    """
    place = 2
    while True:
        mark, marker = struct.unpack_from('>BB', data, place)
        if mark != 0xFF or marker == SCAN:
            return None
        if marker == 0xFF:  # May be repeated in front of a marker.
            place += 1
            continue
        if marker in SIZES:
            bits, height, width, channels = struct.unpack_from('>BHHB', data, place + 4)
            return Size(height, width, channels, bits) if height else None  # 0: said behind the first scan.
        place += 2 + struct.unpack_from('>H', data, place + 2)[0]
