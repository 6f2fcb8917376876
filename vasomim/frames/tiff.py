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


def directories(data: bytes) -> Iterator[dict[int, int]]:
    """Yield the directories of a TIFF structure one after the other, one for each page of a TIFF file.

    Args:
        data: The file, or the structure alone, as in EXIF. What ends too early ends the directories.

    Yields:
        The number of each tag: its first value where it is an integer that stands in the directory itself, else
        where its values begin.
    """
    order = '<' if data[:1] == b'I' else '>'
    big = data[:4] in STARTS[2:]
    number, entry = ('Q', struct.Struct(f'{order}HHQ8s')) if big else ('H', struct.Struct(f'{order}HHI4s'))
    place = f'{order}{"Q" if big else "I"}'
    seen = set()
    try:
        (start,) = struct.unpack_from(place, data, 8 if big else 4)
        while start and start not in seen:
            seen.add(start)
            (entries,) = struct.unpack_from(f'{order}{number}', data, start)
            start += struct.calcsize(number)
            stop = start + entries * entry.size
            tags = {}
            for tag, kind, count, value in entry.iter_unpack(data[start : min(stop, len(data))]):
                inline = INTEGERS.get(kind, '')
                if not inline or count * struct.calcsize(inline) > len(value):
                    inline = place[1]
                tags[tag] = struct.unpack_from(f'{order}{inline}', value)[0]
            yield tags
            (start,) = struct.unpack_from(place, data, stop)
    except struct.error:
        return


def orientation_in(directory: dict[int, int]) -> int:
    """Return how the picture of a directory is to be turned, 1 to 8; 1, not at all, where it does not say."""
    value = directory.get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def orientation_of(exif: bytes) -> int:
    """Return how a picture with this EXIF is to be turned; see :func:`orientation_in`."""
    if exif.startswith(EXIF_START):
        exif = exif[len(EXIF_START) :]
    return orientation_in(next(directories(exif), {})) if exif.startswith(STARTS[:2]) else 1
