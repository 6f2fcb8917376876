"""Find the frames in the compressed pixel data of a DICOM file, which come in fragments."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vasomim.frames.codestream import HEAD, begins_image
from vasomim.frames.dicom_header import Header, Pixels

ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
MOST_FRAGMENTS = 1 << 17  # A cine has a few thousand frames.


@dataclass(frozen=True)
class Fragment:
    """A piece of compressed pixel data: where it begins, its length, and its first bytes."""

    start: int
    length: int
    head: bytes


def find_frames(
    header: Header, pixels: Pixels, announced: int | None, segments: int | None
) -> tuple[list[list[Fragment]], bool]:
    """Return the fragments of each compressed frame, and whether nothing but their end follows them.

    A frame begins where the table of offsets says so, and wherever a fragment begins as a compressed image does: the
    table may be missing, and the announced number too low.

    Args:
        header: The file.
        pixels: Its pixel data.
        announced: Number of frames that it says it holds; None if it does not.
        segments: How many an RLE frame has; None if they are no RLE.

    Raises:
        DatasetError: If the pixel data are not compressed, or have too many fragments.
    """
    table, fragments, sound = read_fragments(header, pixels)
    frames: list[list[Fragment]] = []
    for fragment in fragments:
        said = fragment.start in table or len(fragments) == announced
        if not frames or said or begins_image(fragment.head, segments):
            frames.append([fragment])
        else:
            frames[-1].append(fragment)
    return frames, sound


def read_fragments(header: Header, pixels: Pixels) -> tuple[set[int], list[Fragment], bool]:
    """Return where frames begin by the tables of offsets, all fragments, and whether nothing but their end follows.

    Raises:
        DatasetError: As :func:`find_frames`.

    Source: DICOM PS3.5, A.4.
    """
    body, place, sound = header.body, pixels.start, True
    end = pixels.end if pixels.length is None else min(pixels.end, pixels.start + pixels.length)
    items: list[Fragment] = []
    while place + 8 <= end:
        body.seek(place)
        start = body.read(8 + HEAD)
        group, element, length = struct.unpack_from('<HHL', start)
        if (group, element) != ITEM:
            sound = (group, element) == DELIMITER
            break
        items.append(Fragment(place + 8, length, start[8 : 8 + length]))
        if len(items) > MOST_FRAGMENTS:
            raise header.damaged(f'its pixel data have more than {MOST_FRAGMENTS:,} fragments.')
        place += 8 + length
    if not items:
        raise header.damaged('its pixel data are not compressed, as its transfer syntax says they are.')
    first = items[0]
    body.seek(first.start)
    data = body.read(min(first.length, 4 * MOST_FRAGMENTS))
    offsets = set(struct.unpack(f'<{len(data) // 4}L', data[: len(data) // 4 * 4]))
    extended = header.get('ExtendedOffsetTable')
    if isinstance(extended, bytes):
        offsets.update(struct.unpack(f'<{len(extended) // 8}Q', extended[: len(extended) // 8 * 8]))
    return {first.start + first.length + 8 + offset for offset in offsets}, items[1:], sound
