"""The directories of TIFF files, which EXIF and the index of MPO files are made of too.

Source: TIFF 6.0, section 2; the BigTIFF design of libtiff; EXIF 2.32, section 4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')

ORIENTATION = 0x112
EXIF_START = b'Exif\0\0'

BYTE, SHORT, LONG, LONG8 = 1, 3, 4, 16
INTEGERS = {BYTE: 'B', SHORT: 'H', LONG: 'I', LONG8: 'Q'}


def directories(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the entries of each directory of a TIFF structure begin, and how many there are.

    Args:
        data: The file, or the structure alone, as in EXIF. What ends too early, or leads nowhere, ends the directories.
    """
    order, big = order_of(data), is_big(data)
    number, place, size = (f'{order}Q', f'{order}Q', 20) if big else (f'{order}H', f'{order}I', 12)
    seen = set()
    try:
        (start,) = struct.unpack_from(place, data, 8 if big else 4)
        while start and start not in seen and start < len(data):
            seen.add(start)
            (entries,) = struct.unpack_from(number, data, start)
            start += struct.calcsize(number)
            yield start, entries
            stop = start + entries * size
            start = struct.unpack_from(place, data, stop)[0] if stop < len(data) else 0
    except struct.error:
        return


def first_directory(data: bytes) -> dict[int, int]:
    """Return the numbers of the tags of the first directory of a TIFF structure; empty if there is none.

    Returns:
        The first value of each tag where it is an integer that stands in the directory itself, else where its values
        begin.
    """
    start, entries = next(directories(data), (0, 0))
    order, big = order_of(data), is_big(data)
    entry = struct.Struct(f'{order}HHQ8s' if big else f'{order}HHI4s')
    tags = {}
    for place in range(start, min(start + entries * entry.size, len(data) - entry.size + 1), entry.size):
        tag, kind, count, value = entry.unpack_from(data, place)
        integer = INTEGERS.get(kind, '')
        if not integer or count * struct.calcsize(integer) > len(value):
            integer = 'Q' if big else 'I'
        tags[tag] = struct.unpack_from(f'{order}{integer}', value)[0]
    return tags


def order_of(data: bytes) -> str:
    """Return the byte order of a TIFF structure, as :mod:`struct` names it."""
    return '<' if data[:1] == b'I' else '>'


def is_big(data: bytes) -> bool:
    """Return whether a TIFF structure is a BigTIFF, whose numbers have 64 bits."""
    return data.startswith(STARTS[2:])


def orientation_in(directory: dict[int, int]) -> int:
    """Return how the picture of a directory is to be turned, 1 to 8; 1, not at all, where it does not say."""
    value = directory.get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def orientation_of(exif: bytes) -> int:
    """Return how a picture with this EXIF is to be turned; see :func:`orientation_in`."""
    if exif.startswith(EXIF_START):
        exif = exif[len(EXIF_START) :]
    return orientation_in(first_directory(exif)) if exif.startswith(STARTS[:2]) else 1
