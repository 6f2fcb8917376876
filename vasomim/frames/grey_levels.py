"""How the stored values of a DICOM file become grey levels from 0 to 255.

Source: DICOM PS3.3, C.11.1 (rescaling), C.11.2 (windows and look-up tables).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.frames.dicom_header import Header, quiet, uid_name

FUNCTIONS = ('LINEAR', 'LINEAR_EXACT', 'SIGMOID')

ANGIOGRAMS = (  # Classes whose modality look-up table linearizes the exposure, and is not for display (C.8.7).
    '1.2.840.10008.5.1.4.1.1.12.1',
    '1.2.840.10008.5.1.4.1.1.12.1.1',
    '1.2.840.10008.5.1.4.1.1.12.2',
    '1.2.840.10008.5.1.4.1.1.12.2.1',
)

TABLE_BITS = 16  # Values of up to so many bits are looked up; of more, computed.


@dataclass(frozen=True)
class Window:
    """A function of a window: 'LINEAR', 'LINEAR_EXACT' or 'SIGMOID' as the standard defines them.

    'RANGE' goes from ``center - width / 2`` to ``center + width / 2``, both inclusive.
    """

    function: str
    center: float
    width: float

    def __call__(self, values: NDArray) -> NDArray:
        """Return shares of the full brightness, to be clipped to [0, 1]."""
        if self.function == 'SIGMOID':
            return 1 / (1 + np.exp(-4 * (values - self.center) / self.width))
        if self.function == 'LINEAR':
            if self.width <= 1:  # A step.
                return (values > self.center - 0.5).astype(float)
            return (values - (self.center - 0.5)) / (self.width - 1) + 0.5
        return (values - self.center) / self.width + 0.5 if self.width else np.zeros(values.shape)


@dataclass(frozen=True)
class LookUp:
    """A look-up table.

    Attributes:
        first: The value that the first entry is for; lower ones get it too, and higher ones than the last its.
        entries: (N,).
        top: The highest value that an entry may have.
    """

    first: int
    entries: NDArray
    top: int

    def __call__(self, values: NDArray) -> NDArray:
        """Return the entries for values."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]


class Mapping:
    """Stored values to grey levels: rescaled or looked up, then a window or another table, then maybe inverted.

    Args:
        modality: Stored values to those that the window is for.
        display: Those to shares of the full brightness.
        inverted: Whether low values are bright.
    """

    def __init__(
        self, modality: Callable[[NDArray], NDArray], display: Callable[[NDArray], NDArray], inverted: bool
    ) -> None:
        self.modality = modality
        self.display = display
        self.inverted = inverted
        self.tables: dict[np.dtype, NDArray[np.uint8]] = {}

    def __call__(self, stored: NDArray) -> NDArray[np.uint8]:
        """Return grey levels 0-255 of stored values, (H, W) both."""
        bits = 8 * stored.dtype.itemsize
        if bits > TABLE_BITS:
            return self.compute(stored)
        pattern = np.dtype(f'u{stored.dtype.itemsize}')
        if stored.dtype not in self.tables:
            self.tables[stored.dtype] = self.compute(np.arange(1 << bits, dtype=pattern).view(stored.dtype))
        table = self.tables[stored.dtype]
        if bits == 8:
            return cv2.LUT(stored.view(pattern), table)  # type: ignore[return-value]
        return table.take(stored.view(pattern))

    def compute(self, stored: NDArray) -> NDArray[np.uint8]:
        """Return what :meth:`__call__` does, value by value."""
        with np.errstate(over='ignore'):  # A narrow window takes far values to infinity, and clips them.
            grey = self.display(self.modality(stored))
        levels = np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
        return 255 - levels if self.inverted else levels


def find_mapping(header: Header, find_range: Callable[[], tuple[int, int]]) -> Mapping:
    """Return how the grey levels of a file come about.

    Args:
        header: The file.
        find_range: Called for the lowest and the highest stored value where nothing else decides.

    Raises:
        DatasetError: If attributes are damaged or unknown.
    """
    inverted = header.text('PhotometricInterpretation') == 'MONOCHROME1'
    angiogram = header.sop_class in ANGIOGRAMS or not uid_name(header.sop_class)
    table = None if angiogram else read_table(header, 'ModalityLUTSequence')
    if table is None:
        slope, intercept = header.number('RescaleSlope', 1.0), header.number('RescaleIntercept', 0.0)
        assert slope is not None and intercept is not None
        if abs(slope) > 1e30 or abs(intercept) > 1e30:
            raise header.damaged('its rescale slope or intercept is out of all bounds.')

        def modality(stored: NDArray) -> NDArray:
            return stored * slope + intercept
    else:
        modality = table  # type: ignore[assignment]
    display = find_display(header)
    if display is None:
        bits = header.integer('BitsStored') or header.integer('BitsAllocated') or 8
        if table is not None:
            low, high = 0.0, float(table.top)
        else:
            lowest = -(1 << (bits - 1)) if header.integer('PixelRepresentation') == 1 else 0
            ends = np.array((lowest, lowest + (1 << bits) - 1) if bits <= 8 else find_range(), float)
            low, high = sorted(modality(ends).tolist())
        display = Window('RANGE', (low + high) / 2, high - low)
    return Mapping(modality, display, inverted)


def find_display(header: Header) -> Callable[[NDArray], NDArray] | None:
    """Return the window of a file, else its look-up table for display; None if it has neither.

    Raises:
        DatasetError: If they are damaged or unknown.
    """
    function = header.text('VOILUTFunction').upper() or 'LINEAR'
    if function not in FUNCTIONS:
        what = 'its window function is none of the standard.'
        raise DatasetError(header.path, what, f'Correct its VOILUTFunction to one of {", ".join(FUNCTIONS)}.')
    center, width = header.number('WindowCenter'), header.number('WindowWidth')
    # The standard asks for a width of at least 1, or above 0 where it is exact; others are a slip of an exporter.
    if center is not None and width is not None and width >= (1 if function == 'LINEAR' else 1e-9):
        return Window(function, center, width)
    table = read_table(header, 'VOILUTSequence')
    if table is None:
        return None
    top = table.top
    return lambda values: table(values) / top


def read_table(header: Header, tag: str) -> LookUp | None:
    """Return the first look-up table of a sequence; None if the file has none.

    Raises:
        DatasetError: If it is damaged.

    Source: DICOM PS3.3, C.11.1.1 and C.11.2.1.1.
    """
    sequence = header.get(tag)
    if not sequence:
        return None
    try:
        with quiet():
            number, first, bits = whole_numbers(sequence[0]['LUTDescriptor'], header.little_endian, 3)
            number = number % (1 << 16) or 1 << 16  # 0 stands for 65536; an SS reads numbers above 32767 as negative.
            entries = whole_numbers(sequence[0]['LUTData'], header.little_endian, number)
            if not 8 <= bits <= 16:
                raise ValueError(bits)
    except Exception:  # A damaged file raises almost anything.
        raise header.damaged(f'its {tag} cannot be read.') from None
    return LookUp(first, np.array(entries, np.int64), (1 << bits) - 1)


def whole_numbers(element: Any, little_endian: bool, number: int) -> list[int]:
    """Return the values of an attribute, whether pydicom gives them as numbers or as bytes.

    Raises:
        ValueError: If it has fewer than ``number``.
    """
    value = element.value
    if isinstance(value, bytes):  # Of 8 bits each where they would not suffice for 16.
        kind = ('<u2' if little_endian else '>u2') if len(value) >= 2 * number else 'u1'
        value = np.frombuffer(value[: len(value) // 2 * 2], kind).tolist()
    values = [int(one) for one in value][:number]
    if len(values) < number:
        raise ValueError(number)
    return values
