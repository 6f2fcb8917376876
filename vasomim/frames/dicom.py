"""Read DICOM files as 8-bit grey frames; what they tell of the patient stays in them."""

from __future__ import annotations

import hashlib
import importlib.util
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError, StackError

MAGIC = b'DICM'
PREAMBLE = 128  # Bytes in front of the magic word.

GREY = ('MONOCHROME1', 'MONOCHROME2')
COLOR = ('RGB', 'YBR_FULL', 'YBR_FULL_422', 'YBR_ICT', 'YBR_RCT')

PIXEL_TAGS = [
    *('NumberOfFrames', 'Rows', 'Columns', 'SamplesPerPixel', 'PhotometricInterpretation', 'BitsAllocated'),
    *('BitsStored', 'PixelRepresentation', 'RescaleSlope', 'RescaleIntercept', 'WindowCenter', 'WindowWidth'),
    *('VOILUTFunction', 'SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence'),
]
GROUP_TAGS = ['PatientID', 'StudyInstanceUID', 'PhotometricInterpretation']

INDEX_FILE = 'DICOMDIR'  # Lists the files of a medium; holds no frames itself.

PLUGINS = 'python -m pip install python-gdcm'
COPY_AGAIN = 'Copy or export the file again, or leave it out.'

KEY = secrets.token_bytes(16)  # Of this process, so that nobody can compare its pseudonyms with identifiers.


@dataclass(frozen=True)
class Groups:
    """What a file belongs to, and whether it is an image.

    Attributes:
        patient: Pseudonym that holds within this process only; '' where the file does not say.
        study: As ``patient``.
        image: False for reports, documents and the like; True for an image that lost its pixels, which is damage.
    """

    patient: str
    study: str
    image: bool


@dataclass(frozen=True)
class Mapping:
    """How stored values become grey levels: rescaled, then a function of a window, then maybe inverted.

    The function is 'LINEAR', 'LINEAR_EXACT' or 'SIGMOID' as the standard defines them, or 'RANGE': the window goes
    from ``center - width / 2`` to ``center + width / 2``, both inclusive.
    """

    slope: float
    intercept: float
    function: str
    center: float
    width: float
    inverted: bool

    def __call__(self, stored: NDArray) -> NDArray[np.uint8]:
        """Return grey levels 0-255 of stored values."""
        values = stored * self.slope + self.intercept
        if self.function == 'SIGMOID':
            grey = 1 / (1 + np.exp(-4 * (values - self.center) / self.width))
        elif self.function == 'LINEAR':
            if self.width <= 1:  # A step.
                grey = (values > self.center - 0.5).astype(float)
            else:
                grey = (values - (self.center - 0.5)) / (self.width - 1) + 0.5
        else:
            grey = (values - self.center) / self.width + 0.5 if self.width else np.zeros(values.shape)
        levels = np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
        return 255 - levels if self.inverted else levels


def is_dicom(path: str | Path) -> bool:
    """Return whether a file is DICOM by its magic word; False for a folder or what cannot be read."""
    try:
        with Path(path).open('rb') as file:
            return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    except OSError:
        return False


def read_frames(path: str | Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a file, one after the other, all by the same mapping to grey levels.

    Stored values are rescaled (slope and intercept), then mapped by the first window of the file, by its function.
    Without a window 8-bit frames stay as they are, and in deeper ones the lowest value of the whole cine becomes 0 and
    the highest 255, which reads the file twice. MONOCHROME1 is inverted; color becomes luminance. Look-up tables are
    not applied: those of angiograms linearize the exposure and are not for display.

    Args:
        path: DICOM file, of one frame or many. Compressed ones are read as far as pydicom's plugins here can.

    Yields:
        uint8 (H, W).

    Raises:
        DatasetError: If the file is missing, no DICOM, holds no frames, or is damaged; frames in front of the damage
            come first. If no plugin here decodes its compression.
        StackError: If pydicom is not installed.

    Source: DICOM PS3.3, C.7.6.3 and C.11.2.1.2 (windows).
    """
    header = read_header(path, PIXEL_TAGS)
    photometric = str(header.get('PhotometricInterpretation', ''))
    if photometric not in (*GREY, *COLOR):
        what = f"its photometric interpretation is '{photometric}'." if photometric else 'it holds no frames.'
        raise DatasetError(path, what, f'Read are {", ".join((*GREY, *COLOR))}. Export it as one of them.')
    mapping = None
    for number, stored in enumerate(read_stored(path, header), start=1):
        if photometric in COLOR:
            if stored.dtype != np.uint8:
                raise DatasetError(path, f'color of {stored.dtype}.', 'Export it as 8-bit color, or grey.')
            yield cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)  # type: ignore[misc]
            continue
        if mapping is None:
            mapping = find_mapping(path, header, number)
        yield mapping(stored)


def read_groups(path: str | Path) -> Groups:
    """Return what a file belongs to, to keep the frames of a patient together, and whether it is an image.

    Raises:
        DatasetError: If the file is missing, no DICOM or damaged in its header.
        StackError: If pydicom is not installed.
    """
    header = read_header(path, GROUP_TAGS)
    keys = [str(header.get(tag) or '') for tag in GROUP_TAGS]
    patient, study = (
        hashlib.blake2b(key.encode(), key=KEY, digest_size=16).hexdigest() if key else '' for key in keys[:2]
    )
    # As the standard calls it; a file without a class is cut off.
    kind = getattr(header.file_meta.get('MediaStorageSOPClassUID'), 'name', '')
    return Groups(patient, study, image=bool(keys[2]) or not kind or 'Image Storage' in kind)


def read_header(path: str | Path, tags: list[str]) -> Any:
    """Return the attributes of a file that are named.

    Raises:
        DatasetError: If the file is missing, no DICOM or damaged.
        StackError: If pydicom is not installed.
    """
    if importlib.util.find_spec('pydicom') is None:
        raise StackError('pydicom', 'it is not installed, and DICOM files need it.', 'python -m pip install pydicom')
    import pydicom

    path = Path(path)
    try:
        with path.open('rb') as file:
            start = file.read(PREAMBLE + len(MAGIC))
    except OSError as error:
        raise DatasetError(path, f'cannot be read: {error.strerror}.', 'Check the path and its permissions.') from error
    if start[PREAMBLE:] != MAGIC:
        what = 'the file is empty.' if not start else 'this is no DICOM file.'
        raise DatasetError(path, what, COPY_AGAIN)
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        for tag in tags:  # Values are parsed on first use.
            header.get(tag)
    except Exception as error:  # A damaged file raises almost anything.
        raise DatasetError(path, f'damaged or cut short: {one_line(error)}.', COPY_AGAIN) from error
    return header


def number_of_frames(path: str | Path, header: Any) -> int:
    """Return how many frames a file says it holds; none said means one.

    Raises:
        DatasetError: If this is no number.
    """
    try:
        return int(header.get('NumberOfFrames') or 1)
    except (TypeError, ValueError) as error:
        what = f"its number of frames is '{header.get('NumberOfFrames')}'."
        raise DatasetError(path, what, COPY_AGAIN) from error


def read_stored(path: str | Path, header: Any) -> Iterator[NDArray]:
    """Yield the stored frames, (H, W) or RGB (H, W, 3), as far as they can be decoded.

    Raises:
        DatasetError: As :func:`read_frames`.
    """
    from pydicom.pixels import get_decoder, iter_pixels

    syntax = header.file_meta.get('TransferSyntaxUID')
    try:
        missing = not get_decoder(syntax).is_available
    except NotImplementedError:
        missing = True
    if missing:
        name = getattr(syntax, 'name', syntax)
        what = f"nothing installed here decodes its transfer syntax '{name}'."
        raise DatasetError(path, what, f'`{PLUGINS}`, or convert it, for instance with `gdcmconv --raw` or `dcmdjpeg`.')
    wanted = number_of_frames(path, header)
    done = 0
    frames = iter_pixels(path)
    while True:
        try:
            stored = next(frames)
        except StopIteration:
            break
        except Exception as error:  # As above.
            what = f'frame {done + 1} of {wanted} cannot be decoded: {one_line(error)}.'
            raise DatasetError(path, what, f'{COPY_AGAIN} If it is sound, `{PLUGINS}` adds decoders.') from error
        done += 1
        yield stored
    if done < wanted:
        raise DatasetError(path, f'it holds {done} of the {wanted} frames that it announces.', COPY_AGAIN)


def find_mapping(path: str | Path, header: Any, first: int) -> Mapping:
    """Return how the grey levels of a file come about.

    Args:
        path: The file, which is read where neither a window nor 8 bits decide.
        header: Its :data:`PIXEL_TAGS`.
        first: Number of the frame that asks, for messages.

    Raises:
        DatasetError: If attributes are no numbers.
    """
    try:
        slope, intercept = number(header, 'RescaleSlope', 1.0), number(header, 'RescaleIntercept', 0.0)
        center, width = number(header, 'WindowCenter', None), number(header, 'WindowWidth', None)
        bits = int(header.get('BitsStored') or header.BitsAllocated)
    except (TypeError, ValueError, AttributeError) as error:
        raise DatasetError(path, f'damaged attributes at frame {first}: {one_line(error)}.', COPY_AGAIN) from error
    inverted = str(header.PhotometricInterpretation) == 'MONOCHROME1'
    function = str(find(header, 'VOILUTFunction') or 'LINEAR')
    if function not in ('LINEAR', 'LINEAR_EXACT', 'SIGMOID'):
        what = f"its window function '{function}' is unknown."
        raise DatasetError(path, what, 'Correct its VOILUTFunction, or remove it.')
    # The standard asks for a width of at least 1, or above 0 where it is exact; others are a slip of an exporter.
    if center is not None and width is not None and width >= (1 if function == 'LINEAR' else 1e-9):
        return Mapping(slope, intercept, function, center, width, inverted)
    if bits <= 8:
        lowest = -(1 << (bits - 1)) if header.get('PixelRepresentation') else 0
        ends = [lowest, lowest + (1 << bits) - 1]
    else:
        ends = list(stored_range(path, header))
    low, high = sorted(slope * end + intercept for end in ends)
    return Mapping(slope, intercept, 'RANGE', (low + high) / 2, high - low, inverted)


def stored_range(path: str | Path, header: Any) -> tuple[int, int]:
    """Return the lowest and the highest stored value of all frames that can be decoded; at least one can."""
    low, high = [], []
    try:
        for stored in read_stored(path, header):
            low.append(int(stored.min()))
            high.append(int(stored.max()))
    except DatasetError:
        if not low:
            raise
    return min(low), max(high)


def find(header: Any, tag: str) -> Any:
    """Return an attribute of a file, or of the first item of its functional groups that has it; None if none has.

    Source: DICOM PS3.3, C.7.6.16 (enhanced multi-frame files).
    """
    if header.get(tag) is not None:
        return header.get(tag)
    for name in ('SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence'):
        for item in list(header.get(name) or ())[:1]:
            for macro in ('FrameVOILUTSequence', 'PixelValueTransformationSequence'):
                for inner in list(item.get(macro) or ())[:1]:
                    if inner.get(tag) is not None:
                        return inner.get(tag)
    return None


def number(header: Any, tag: str, default: Any) -> Any:
    """Return an attribute as a number, the first of several; the default where there is none."""
    value = find(header, tag)
    if value is None or value == '':
        return default
    if hasattr(value, '__iter__') and not isinstance(value, str):
        value = next(iter(value), None)
    return default if value is None else float(value)


def one_line(error: Exception) -> str:
    """Return the message of a library's error, shortened to a line."""
    text = ' '.join(str(error).split()).rstrip('.')
    return text[:197] + '...' if len(text) > 200 else text or type(error).__name__
