"""Open a DICOM file: its attributes, its transfer syntax, and where its pixel data lie.

What a file says may name a patient in any attribute, also in one that is damaged. So pydicom's warnings, log and
errors, which quote values, are never passed on, and no message of ours quotes a value.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vasomim.errors import DatasetError, StackError
from vasomim.files import open_regular

MAGIC = b'DICM'
PREAMBLE = 128  # Bytes in front of the magic word.
START = PREAMBLE + len(MAGIC)

VRS = frozenset(
    b'AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV'.split()
)
"""Types of attributes, as they stand behind the tag of an explicit one."""

IMPLICIT = '1.2.840.10008.1.2'
EXPLICIT = '1.2.840.10008.1.2.1'
DEFLATED = '1.2.840.10008.1.2.1.99'
BIG_ENDIAN = '1.2.840.10008.1.2.2'

PIXEL_DATA = {
    (0x7FE0, 0x0008): 'FloatPixelData',
    (0x7FE0, 0x0009): 'DoubleFloatPixelData',
    (0x7FE0, 0x0010): 'PixelData',
}
UNDEFINED = 0xFFFFFFFF  # As a length: to the delimiter.

MOST_INFLATED = 1 << 29  # Bytes of a deflated file, which is held in memory.

COPY_AGAIN = 'Copy or export the file again, or leave it out.'


@dataclass(frozen=True)
class Pixels:
    """Where pixel data lie.

    Attributes:
        keyword: 'PixelData', or the name of floating-point data.
        vr: Type, such as 'OW'.
        start: Of the first byte.
        length: Number of bytes that the file announces; None for compressed data, which end with a delimiter.
        end: Where the file ends.
    """

    keyword: str
    vr: str
    start: int
    length: int | None
    end: int


@dataclass(frozen=True)
class Header:
    """An open file.

    Attributes:
        path: The file.
        body: Its content, inflated if it was deflated.
        syntax: UID of its transfer syntax.
        sop_class: UID of what it is; '' if it does not say.
        little_endian: Order of bytes.
        pixels: None if it holds none.
        attributes: pydicom's Dataset of those that were asked for.
    """

    path: Path
    body: BinaryIO
    syntax: str
    sop_class: str
    little_endian: bool
    pixels: Pixels | None
    attributes: Any

    def get(self, tag: str) -> Any:
        """Return an attribute, or that of the first item of the functional groups that has it; None if none has.

        Raises:
            DatasetError: If it is damaged.

        Source: DICOM PS3.3, C.7.6.16 (enhanced multi-frame files).
        """
        try:
            with quiet():
                return find(self.attributes, tag)
        except Exception:  # A damaged file raises almost anything.
            raise self.damaged(f'its attribute {tag} cannot be read.') from None

    def text(self, tag: str) -> str:
        """Return an attribute as text, '' where there is none.

        Raises:
            DatasetError: If it is damaged.
        """
        value = self.get(tag)
        return '' if value is None else str(value).strip()

    def number(self, tag: str, default: float | None = None) -> float | None:
        """Return an attribute as a number, the first of several; the default where there is none.

        Raises:
            DatasetError: If it is damaged, no number, NaN or infinite.
        """
        value = self.get(tag)
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            value = value[0] if value else None
        if value is None or value == '':
            return default
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.damaged(f'its attribute {tag} is no number.') from None
        if not math.isfinite(found):
            raise self.damaged(f'its attribute {tag} is not finite.')
        return found

    def integer(self, tag: str, default: int | None = None) -> int | None:
        """Return an attribute as a whole number, as :meth:`number`.

        Raises:
            DatasetError: As :meth:`number`, and if it has a fraction.
        """
        found = self.number(tag, default)
        if found is None or found == int(found):
            return None if found is None else int(found)
        raise self.damaged(f'its attribute {tag} is no whole number.')

    def damaged(self, what: str) -> DatasetError:
        """Return the error for a file that cannot be used as it is."""
        return DatasetError(self.path, what, COPY_AGAIN)


@contextmanager
def opened(path: str | Path, tags: Sequence[str]) -> Iterator[Header]:
    """Open a DICOM file, with the magic word or without, for the time of a ``with`` statement.

    Args:
        path: A regular file.
        tags: The attributes that will be asked for; others are not read.

    Raises:
        DatasetError: If it is missing, no regular file, no DICOM or damaged.
        StackError: If pydicom is not installed.
    """
    if importlib.util.find_spec('pydicom') is None:
        raise StackError('pydicom', 'it is not installed, and DICOM files need it.', 'python -m pip install pydicom')
    path = Path(path)
    with open_regular(path, DatasetError) as file:
        yield read_header(path, file, tags)


def read_header(path: Path, file: BinaryIO, tags: Sequence[str]) -> Header:
    """Read the attributes of an open file that are named.

    Raises:
        DatasetError: If it is no DICOM or damaged.
    """
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    start = file.read(START)
    if not looks_like_dicom(start):
        what = 'this is no DICOM file.' if len(start) >= START else f'no DICOM file: it has {len(start)} bytes.'
        raise DatasetError(path, what if start else 'the file is empty.', COPY_AGAIN)
    try:
        with quiet():
            file.seek(START if start.endswith(MAGIC) else 0)
            meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
            syntax = str(meta.get('TransferSyntaxUID') or '') or guess_syntax(file)
            body = file if syntax != DEFLATED else inflate(path, file)
            attributes = read_dataset(
                body,
                is_implicit_VR=syntax == IMPLICIT,
                is_little_endian=syntax != BIG_ENDIAN,
                stop_when=lambda tag, vr, length: divmod(tag, 1 << 16) in PIXEL_DATA,
                specific_tags=[Tag(tag) for tag in (*tags, 'SOPClassUID')],
            )
            pixels = find_pixels(body, syntax != BIG_ENDIAN)
            sop_class = str(attributes.get('SOPClassUID') or meta.get('MediaStorageSOPClassUID') or '')
    except DatasetError:
        raise
    except Exception:  # A damaged file raises almost anything.
        raise DatasetError(path, 'damaged or cut short in its header.', COPY_AGAIN) from None
    return Header(path, body, syntax, sop_class, syntax != BIG_ENDIAN, pixels, attributes)


def looks_like_dicom(start: bytes) -> bool:
    """Return whether a file is DICOM by its first bytes: the magic word, or the first attributes where it is missing.

    Args:
        start: The first :data:`START` bytes.
    """
    if start[PREAMBLE:START] == MAGIC:
        return True
    if len(start) < START:
        return False
    group = int.from_bytes(start[:2], 'little')
    if group in (0x0002, 0x0008, 0x0800):  # The file's own, the first of the object's; the same in big endian.
        if start[4:6] in VRS:
            return True
        # Implicit: two lengths in a row have to lead to tags of the same group, in order.
        element, length = struct.unpack_from('<HL', start, 2)
        if group == 0x0008 and length <= len(start) - 12:
            return struct.unpack_from('<H', start, 8 + length)[0] == group and (
                struct.unpack_from('<H', start, 10 + length)[0] > element
            )
    return False


def guess_syntax(file: BinaryIO) -> str:
    """Return the transfer syntax of a file that does not say it, from its first attribute, where it stands."""
    start = file.read(6)
    file.seek(-len(start), io.SEEK_CUR)
    if start[4:6] not in VRS:
        return IMPLICIT
    return BIG_ENDIAN if int.from_bytes(start[:2], 'little') >= 1 << 8 else EXPLICIT


def inflate(path: Path, file: BinaryIO) -> BinaryIO:
    """Return the rest of a deflated file, inflated as far as it goes.

    Raises:
        DatasetError: If it has more than :data:`MOST_INFLATED` bytes.
    """
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(MOST_INFLATED), MOST_INFLATED + 1)
    if len(data) > MOST_INFLATED:
        raise DatasetError(path, f'it inflates to more than {MOST_INFLATED:,} bytes.', 'Export it without deflation.')
    return io.BytesIO(data)


def find_pixels(body: BinaryIO, little_endian: bool) -> Pixels | None:
    """Return where the pixel data lie whose attribute comes next; None if another one does, or none."""
    head = body.read(12)
    start, end = body.tell(), body.seek(0, io.SEEK_END)
    order = '<' if little_endian else '>'
    if len(head) < 8:
        return None
    keyword = PIXEL_DATA.get(struct.unpack(f'{order}HH', head[:4]))
    if keyword is None:
        return None
    if head[4:6] in VRS and len(head) == 12:  # No even length, as an implicit one has, looks like OB, OW or UN.
        vr, length = head[4:6].decode(), struct.unpack(f'{order}L', head[8:])[0]
    else:
        vr, length = 'OW', struct.unpack(f'{order}L', head[4:8])[0]
        start -= len(head) - 8
    return Pixels(keyword, vr, start, None if length == UNDEFINED else length, end)


def find(attributes: Any, tag: str) -> Any:
    """Return an attribute, or that of the first item of the functional groups that has it; None if none has."""
    if attributes.get(tag) is not None:
        return attributes.get(tag)
    for name in ('SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence'):
        for item in list(attributes.get(name) or ())[:1]:
            for macro in ('FrameVOILUTSequence', 'PixelValueTransformationSequence'):
                for inner in list(item.get(macro) or ())[:1]:
                    if inner.get(tag) is not None:
                        return inner.get(tag)
    return None


def uid_name(uid: str) -> str:
    """Return the standard's name of a UID; '' if it has none."""
    from pydicom.uid import UID

    with quiet():
        name = str(UID(uid).name)
    return '' if name == uid else name


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what pydicom and its decoders warn of and log, as it quotes attributes."""
    logger = logging.getLogger('pydicom')
    passed_on = logger.propagate
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.propagate = passed_on
