"""What JPEG files say of themselves, and damage that decoders let pass.

libjpeg fills what is missing or cannot be decoded with grey, says so on the standard error at most, and returns a
picture. JPEG has no checksum: a flipped bit often stays unseen.

Source: ITU-T T.81, annexes B and F; CIPA DC-007 (MPO).
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from vasomim.frames.tiff import EXIF_START, STARTS, first_directory, orientation_of

START = b'\xff\xd8'
END = b'\xff\xd9'
SOF, DHT, SOI, SOS, DRI, APP1, APP2, APP15, COM = 0xC0, 0xC4, 0xD8, 0xDA, 0xDD, 0xE1, 0xE2, 0xEF, 0xFE
NO_FRAME = (DHT, 0xC8, 0xCC)  # Of the markers from C0 to CF, all others begin the picture and say its size.
HUFFMAN = (0xC0, 0xC1)  # Sequential pictures, baseline or extended.
PROGRESSIVE = 0xC2

MPF = b'MPF\0'
PICTURES, ENTRIES, PREVIEW = 0xB001, 0xB002, 1

# As codes of a picture, so many zeros would be coefficients of -1 in more than a whole block, but for flat pictures.
ZEROS = bytes(32)
SECTOR = bytes(256)  # What a disk loses is 512 bytes or more.
AHEAD = 8  # Bytes that a decoder may want to see behind the last code, and that an encoder may leave there.
PADDING = b'\0\xff'  # What some encoders put behind the last code, in any number.

END_OF_BLOCK = 0
MOST_SIDE = 65535
MOST_PARTS = 512  # Between restart markers; more would take long.

RESTART = re.compile(rb'\xff[\xd0-\xd7]')
MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')  # In codes 0xFF is followed by 0, or by the number of a restart.
BETWEEN_SCANS = (0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))


@dataclass
class Jpeg:
    """What stands in front of the coded picture, as far as it can be read.

    Attributes:
        process: The marker of the frame header, such as 0xC0 for baseline; 0 where there is none.
        bits: Of a sample.
        width: Pixels; 0 where it is not known.
        height: Pixels; 0 where it is not known.
        orientation: Of EXIF, 1 to 8.
        index: Where the index of an MPO file begins, 0 without one.
        block: Width and height in pixels of what is coded at once.
        restart: How many of them stand between two restart markers; 0 for all.
        scan: Where the codes of the first scan begin; 0 where there is none.
        tables: The segments without those of applications.
        frame: Where height and width stand in ``tables``.
    """

    process: int = 0
    bits: int = 8
    width: int = 0
    height: int = 0
    orientation: int = 1
    index: int = 0
    block: tuple[int, int] = (8, 8)
    restart: int = 0
    scan: int = 0
    tables: bytes = START
    frame: int = 0

    def resized(self, width: int, height: int) -> bytes:
        """Return the tables of a picture of another size."""
        return self.tables[: self.frame] + struct.pack('>HH', height, width) + self.tables[self.frame + 4 :]


def segments(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and stop of the segments from a place on, up to the header of a scan, that included."""
    while start + 4 <= len(data):
        marker, length = struct.unpack_from('>HH', data, start)
        if marker == 0xFFFF:  # 0xFF may be repeated in front of a marker.
            start += 1
            continue
        if marker >> 8 != 0xFF or length < 2 or start + 2 + length > len(data):
            return
        yield marker & 0xFF, start + 4, start + 2 + length
        if marker & 0xFF == SOS:
            return
        start += 2 + length


def read_jpeg(data: bytes) -> Jpeg:
    """Read what stands in front of the coded picture."""
    found = Jpeg()
    tables = [START]
    exif = False
    for marker, start, stop in segments(data, len(START)):
        if SOF <= marker <= 0xCF and marker not in NO_FRAME and stop - start >= 6:
            found.process, found.bits = marker, data[start]
            found.height, found.width = struct.unpack_from('>HH', data, start + 1)
            found.frame = sum(map(len, tables)) + 5
            factors = data[start + 7 : stop : 3]
            if len(factors) > 1:
                wide, high = (max(each >> shift & 15 for each in factors) for shift in (4, 0))
                found.block = 8 * max(wide, 1), 8 * max(high, 1)
        elif marker == APP1 and not exif and data.startswith(EXIF_START, start):
            exif = True
            found.orientation = orientation_of(data[start:stop])
        elif marker == APP2 and data.startswith(MPF, start):
            found.index = start + len(MPF)
        elif marker == DRI and stop - start >= 2:
            (found.restart,) = struct.unpack_from('>H', data, start)
        elif marker == SOS:
            found.scan = stop
        if not (0xE0 <= marker <= APP15 or marker == COM):
            tables.append(data[start - 4 : stop])
    found.tables = b''.join(tables)
    return found


def first_symbols(segment: bytes) -> dict[int, int]:
    """Return the first symbol, whose code is all zeros, of each table for AC coefficients in a segment."""
    first = {}
    start = 0
    while start + 17 < len(segment):
        if segment[start] >> 4:
            first[segment[start] & 15] = segment[start + 17]
        start += 17 + sum(segment[start + 1 : start + 17])
    return first


def number_of_pictures(data: bytes, jpeg: Jpeg) -> int:
    """Return how many pictures of equal standing an MPO file holds; 1 for every other JPEG file.

    Phones keep previews and brightness maps behind the picture, which are declared as previews or smaller than it.
    """
    if not jpeg.index or data[jpeg.index : jpeg.index + 4] not in STARTS[:2]:
        return 1
    tags = first_directory(data[jpeg.index : jpeg.scan or None])
    entry = struct.Struct('<I4xI4x' if data[jpeg.index : jpeg.index + 1] == b'I' else '>I4xI4x')
    start = jpeg.index + tags.get(ENTRIES, 0)
    entries = data[start : start + tags.get(PICTURES, 0) * entry.size]
    previews = {
        jpeg.index + place
        for kind, place in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size])
        if kind >> 16 & 0xFF == PREVIEW
    }
    pictures = 1
    start = jpeg.scan  # The pictures follow each other; the places in the index are wrong after some tools.
    while (start := data.find(START + b'\xff', start + 1)) > 0:
        other = read_jpeg(data[start:])
        pictures += start not in previews and (other.width, other.height) == (jpeg.width, jpeg.height)
    return pictures


def damage(data: bytes, jpeg: Jpeg, thorough: bool) -> str:
    """Return what is wrong with a file that a decoder would fill up; '' if nothing is seen.

    Args:
        data: The file.
        jpeg: What :func:`read_jpeg` read of it.
        thorough: Whether the codes of sequential pictures are counted too, which takes about as long as decoding them.
            Without it, missing ends and zeroed parts are seen, which takes no time to speak of; codes are counted only
            where they hold zeros that a flat picture may have.
    """
    end = data.rfind(END, jpeg.scan)
    if not jpeg.scan or end < 0:
        return f'cut short after {len(data)} bytes.'
    zeroed = data.find(ZEROS, jpeg.scan, end) >= 0
    if zeroed and any(hit_by_zeros(data, jpeg)):
        return 'damaged: a part of it was overwritten with zeros.'
    if (zeroed or thorough) and jpeg.process in HUFFMAN and not is_exact(data, jpeg):
        return 'damaged: its codes end before the picture does, or behind it.'
    return ''


def hit_by_zeros(data: bytes, jpeg: Jpeg) -> Iterator[bool]:
    """Yield for each scan whether its codes hold a run of zeros that no picture has.

    In the scans of AC coefficients, a code of zeros alone that is not the end of a block stands for a coefficient of
    its own. Flat pictures may be zeros where that code is the end of a block, but progressive ones count such blocks,
    and single bits of coefficients are hardly all alike.
    """
    first: dict[int, int] = {}
    start = len(START)
    while start and jpeg.process in (*HUFFMAN, PROGRESSIVE):
        here, start = start, 0
        for marker, begin, end in segments(data, here):
            if marker == DHT:
                first.update(first_symbols(data[begin:end]))
            elif marker == SOS and end - begin >= 4 + 2 * data[begin]:
                components = data[begin]
                tables = {number & 15 for number in data[begin + 2 : begin + 2 + 2 * components : 2]}
                last, bits = data[end - 2], data[end - 1]
                start = end_of_scan(data, end)
                coefficients = bits >> 4 == 0 and any(first.get(number, END_OF_BLOCK) for number in tables)
                run = ZEROS if coefficients else SECTOR if jpeg.process == PROGRESSIVE else None
                yield last > 0 and run is not None and data.find(run, end, start) >= 0


def end_of_scan(data: bytes, start: int) -> int:
    """Return where the codes of a scan end: at the first marker that does not belong to them."""
    found = MARKER.search(data, start)
    return found.start() if found else len(data)


def is_exact(data: bytes, jpeg: Jpeg) -> bool:
    """Return whether the codes of a picture in one scan are as long as a decoder needs them to be.

    Behind damage a decoder finds its way back into step, but has then decoded too many or too few blocks. Each part
    between two restart markers is looked at as a picture of its own.
    """
    stop = end_of_scan(data, jpeg.scan)
    if data[stop : stop + 2] != END:
        return data[stop + 1] in BETWEEN_SCANS  # Of several scans none is looked at.
    codes = data[jpeg.scan : stop]
    if not jpeg.restart:
        return fits(jpeg.tables, codes)
    wide, high = jpeg.block
    blocks = -(-jpeg.width // wide) * -(-jpeg.height // high)
    marks = RESTART.findall(codes)
    parts = RESTART.split(codes)
    if len(parts) != -(-blocks // jpeg.restart) or any(mark[1] & 7 != k & 7 for k, mark in enumerate(marks)):
        return False
    if wide * jpeg.restart > MOST_SIDE or len(parts) > MOST_PARTS:
        return True
    sizes = [min(jpeg.restart, blocks - k * jpeg.restart) for k in range(len(parts))]
    return all(fits(jpeg.resized(wide * size, high), part) for part, size in zip(parts, sizes, strict=True))


def fits(tables: bytes, codes: bytes) -> bool:
    """Return whether codes are those of a whole picture and of no more."""
    return decodes(tables + codes + bytes(AHEAD)) and not decodes(tables + codes.rstrip(PADDING)[:-AHEAD])


def decodes(file: bytes) -> bool:
    """Return whether a JPEG file that lacks its end holds the codes of a whole picture.

    Where an end marker stands, libjpeg takes zeros for the codes that are missing.
    """
    try:
        with Image.open(io.BytesIO(file)) as image:
            image.draft('L', (max(1, image.width // 8), max(1, image.height // 8)))  # All codes, few pixels.
            image.load()
    except (OSError, ValueError):
        return False
    return True
