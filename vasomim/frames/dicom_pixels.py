"""Read the stored frames of a DICOM file, one after the other, and all of them.

How many there are is counted in the pixel data: what a file announces may be too low, and the rest would vanish.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.frames.codestream import read_size
from vasomim.frames.dicom_fragments import find_frames
from vasomim.frames.dicom_header import COPY_AGAIN, Header, Pixels, quiet, uid_name
from vasomim.frames.limits import MOST_PIXELS

GREY = ('MONOCHROME1', 'MONOCHROME2')
COLOR = ('RGB', 'YBR_FULL', 'YBR_FULL_422', 'YBR_ICT', 'YBR_RCT')
OTHERS = ('PALETTE COLOR', 'HSV', 'ARGB', 'CMYK', 'YBR_PARTIAL_422', 'YBR_PARTIAL_420', 'XYB')  # Of the standard.

RLE = '1.2.840.10008.1.2.5'
EXTENDED = '1.2.840.10008.1.2.4.51'
JPEG_2000 = ('1.2.840.10008.1.2.4.90', '1.2.840.10008.1.2.4.91')

GDCM = 'python -m pip install python-gdcm'
LIBJPEG = 'python -m pip install pylibjpeg pylibjpeg-libjpeg'
OPENJPEG = 'python -m pip install pylibjpeg pylibjpeg-openjpeg'
DECODERS = {  # What adds a decoder, by the end of the transfer syntax's UID.
    **dict.fromkeys(('50', '57', '70', '80', '81', '90', '91'), GDCM),
    '51': LIBJPEG,
    **dict.fromkeys(('201', '202', '203'), OPENJPEG),
}
FAMILY = '1.2.840.10008.1.2.4.'

SLACK = 1024  # Bytes by which an RLE frame may exceed twice its pixels; a sound one exceeds them by 1 in 128.


@dataclass(frozen=True)
class Layout:
    """How frames are stored.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        photometric: One of :data:`GREY` or :data:`COLOR`.
        allocated: Bits of a value in the file.
        stored: Bits of a value that count.
        high: The highest of them, from 0.
        signed: Whether values may be negative.
        planar: Whether the channels follow each other.
        announced: Number of frames that the file says it holds; None if it does not.
    """

    rows: int
    columns: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    announced: int | None

    @property
    def samples(self) -> int:
        """Values of a pixel."""
        return 3 if self.photometric in COLOR else 1

    def options(self, frames: int) -> dict[str, Any]:
        """Return what pydicom's decoders ask for; all values are checked."""
        return {
            'rows': self.rows,
            'columns': self.columns,
            'samples_per_pixel': self.samples,
            'photometric_interpretation': self.photometric,
            'planar_configuration': int(self.planar),
            'bits_allocated': self.allocated,
            'bits_stored': self.stored,
            'pixel_representation': int(self.signed),
            'number_of_frames': frames,
            'pixel_keyword': 'PixelData',
        }


def read_layout(header: Header) -> Layout:
    """Return how the frames of a file are stored.

    Raises:
        DatasetError: If it holds none, or none that can be read, or contradicts itself.
    """
    photometric = header.text('PhotometricInterpretation')
    if photometric not in (*GREY, *COLOR):
        known = f"'{photometric}'" if photometric in OTHERS else 'none of the standard'
        what = f'its photometric interpretation is {known}.' if photometric else 'it holds no frames.'
        raise DatasetError(header.path, what, f'Read are {", ".join((*GREY, *COLOR))}. Export it as one of them.')
    if header.pixels is None:
        raise header.damaged('it ends in its header, or holds no pixel data.')
    if header.pixels.keyword != 'PixelData':
        raise DatasetError(header.path, 'its pixels are floating-point numbers.', 'Export it with whole numbers.')
    rows, columns = header.integer('Rows', 0) or 0, header.integer('Columns', 0) or 0
    allocated = header.integer('BitsAllocated', 0) or 0
    stored = header.integer('BitsStored') or allocated
    high = header.integer('HighBit', stored - 1)
    assert high is not None
    announced = header.integer('NumberOfFrames') or None
    layout = Layout(
        *(rows, columns, photometric, allocated, stored, high),
        signed=header.integer('PixelRepresentation', 0) == 1,
        planar=header.integer('PlanarConfiguration', 0) == 1,
        announced=announced,
    )
    samples = header.integer('SamplesPerPixel', layout.samples)
    if samples != layout.samples:
        raise header.damaged(f'{photometric} with {samples} values a pixel, which contradicts itself.')
    if rows < 1 or columns < 1 or (announced is not None and announced < 1):
        raise header.damaged(f'it announces {announced or 1} frames of {rows} x {columns} pixels.')
    if rows * columns > MOST_PIXELS:
        what = f'a frame has {rows} x {columns} pixels, and at most {MOST_PIXELS:,} are read.'
        raise DatasetError(header.path, what, COPY_AGAIN)
    if photometric in COLOR and not allocated == stored == 8:
        raise DatasetError(header.path, f'color of {stored} bits.', 'Export it as 8-bit color, or grey.')
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= high + 1 <= allocated:
        raise header.damaged(f'values of {allocated} bits, of which {stored} up to bit {high} count: none are read so.')
    return layout


def read_stored(header: Header, layout: Layout) -> Iterator[NDArray]:
    """Yield the stored frames, (H, W) or RGB (H, W, 3), as far as they can be decoded; only bits that count are kept.

    May be called again for the same file, also while an earlier call still yields.

    Raises:
        DatasetError: As :func:`vasomim.frames.dicom.read_frames`.
    """
    pixels = header.pixels
    assert pixels is not None
    decoder = find_decoder(header, layout)
    if decoder.is_encapsulated:
        frames = decode_compressed(header, layout, pixels, decoder)
    else:
        frames = decode_native(header, layout, pixels, decoder)
    done = 0
    for stored in frames:
        done += 1
        yield correct_bits(stored, layout)
    if done < (layout.announced or 1):
        raise header.damaged(f'it holds {done} of the {layout.announced or 1} frames that it announces.')


def find_decoder(header: Header, layout: Layout) -> Any:
    """Return pydicom's decoder for the transfer syntax of a file.

    Raises:
        DatasetError: If nothing installed here decodes it, or the file contradicts itself.
    """
    from pydicom.pixels import get_decoder

    known = uid_name(header.syntax)
    name = f"its transfer syntax '{known}'" if known else 'its transfer syntax, which is not known'
    try:
        with quiet():
            decoder = get_decoder(header.syntax)
    except NotImplementedError:
        raise DatasetError(header.path, f'nothing installed here decodes {name}.', convert(header.syntax)) from None
    deep = header.syntax == EXTENDED and layout.stored > 8  # Of all decoders one reads these.
    if not decoder.is_available or (deep and 'pylibjpeg' not in decoder.available_plugins):
        name += ' of more than 8 bits' if deep else ''
        raise DatasetError(header.path, f'nothing installed here decodes {name}.', convert(header.syntax))
    if layout.photometric in ('YBR_ICT', 'YBR_RCT') and header.syntax not in JPEG_2000:
        raise header.damaged(f'{layout.photometric}, which JPEG 2000 alone has, in {name}.')
    if decoder.is_encapsulated and header.syntax != RLE and layout.high != layout.stored - 1:
        raise header.damaged(f'compressed values of {layout.stored} bits whose highest is bit {layout.high}.')
    return decoder


def convert(syntax: str) -> str:
    """Return what to do about a transfer syntax that is not decoded."""
    plugin = DECODERS.get(syntax.removeprefix(FAMILY)) if syntax.startswith(FAMILY) else None
    others = 'convert it, for instance with `dcmdjpeg` or `gdcmconv --raw`'
    return f'`{plugin}`, or {others}.' if plugin else 'Export it uncompressed, or as JPEG or JPEG 2000.'


def decode_native(header: Header, layout: Layout, pixels: Pixels, decoder: Any) -> Iterator[NDArray]:
    """Yield the frames of uncompressed pixel data.

    Raises:
        DatasetError: If they are cut short.
    """
    if pixels.length is None:
        raise header.damaged('its pixel data are compressed, which its transfer syntax denies.')
    wanted = count_native(header, layout, pixels)
    there = min(wanted, (pixels.end - pixels.start) * 8 // frame_bits(layout))
    # Positions within the data are ours to set before each frame: the first pass may stand anywhere.
    frames = decoder.iter_array(
        header.body, indices=range(there), correct_unused_bits=False, pixel_vr=pixels.vr, **layout.options(there)
    )
    for number in range(1, there + 1):
        try:
            with quiet():
                header.body.seek(pixels.start)
                stored = next(frames)[0]
        except Exception as error:  # As for compressed ones.
            raise undecoded(header, number, wanted, error) from error
        yield stored
    if there < wanted:
        raise header.damaged(f'cut short in frame {there + 1} of {wanted}.')


def frame_bits(layout: Layout) -> int:
    """Return how many bits an uncompressed frame has."""
    values = layout.rows * layout.columns * layout.samples
    return values * layout.allocated // 3 * 2 if layout.photometric == 'YBR_FULL_422' else values * layout.allocated


def count_native(header: Header, layout: Layout, pixels: Pixels) -> int:
    """Return how many frames uncompressed pixel data hold, by the length that the file announces for them.

    Raises:
        DatasetError: If that does not tell.
    """
    length, said = pixels.length or 0, layout.announced or 1
    if layout.photometric == 'YBR_FULL_422' and length - said * layout.rows * layout.columns * 3 in (0, 1):
        raise header.damaged('YBR_FULL_422, but its colors are stored for each pixel.')
    held = length * 8 // frame_bits(layout)
    if held < said:
        return held
    behind_said, behind_all = (length - -(-frames * frame_bits(layout) // 8) for frames in (said, held))
    if behind_said <= 1:  # One byte fills an odd length, which may hold frames of a few bits.
        return said
    if held == said and is_padding(header.body, pixels.start + length - behind_said, behind_said):
        return said
    if held > said and behind_all <= 1:
        return held
    what = f'its pixel data have {length:,} bytes, which are no whole number of frames of {layout.rows} x'
    raise header.damaged(f'{what} {layout.columns} pixels.')


def is_padding(body: BinaryIO, start: int, length: int) -> bool:
    """Return whether some bytes are all alike."""
    body.seek(start)
    return len(set(body.read(length))) <= 1


def decode_compressed(header: Header, layout: Layout, pixels: Pixels, decoder: Any) -> Iterator[NDArray]:
    """Yield the frames of compressed pixel data.

    Raises:
        DatasetError: If one is cut short, of another size, or cannot be decoded.
    """
    from pydicom.encaps import encapsulate

    segments = layout.samples * layout.allocated // 8 if header.syntax == RLE else None
    frames, sound = find_frames(header, pixels, layout.announced, segments)
    total = max(len(frames), layout.announced or 1)
    for number, fragments in enumerate(frames, start=1):
        length = sum(fragment.length for fragment in fragments)
        if fragments[-1].start + fragments[-1].length > pixels.end:
            raise header.damaged(f'cut short in frame {number} of {total}.')
        if header.syntax == RLE and length > frame_bits(layout) // 4 + SLACK:
            raise header.damaged(f'frame {number} of {total} is compressed to more than it can be.')
        parts = []
        for fragment in fragments:
            header.body.seek(fragment.start)
            parts.append(header.body.read(fragment.length))
        data = b''.join(parts)
        size = read_size(data) if header.syntax != RLE else None
        wanted = (layout.rows, layout.columns, layout.samples)
        if size is not None and (size.height, size.width, size.channels) != wanted:
            found = f'{size.height} x {size.width} x {size.channels}'
            what = f'frame {number} of {total} is compressed as {found} values, not {" x ".join(map(str, wanted))}.'
            raise header.damaged(what)
        try:
            with quiet():
                source = encapsulate([data], has_bot=False)
                stored = decoder.as_array(source, index=0, correct_unused_bits=False, **layout.options(1))[0]
        except Exception as error:  # Decoders raise almost anything.
            raise undecoded(header, number, total, error) from error
        yield stored
    if not sound:
        raise header.damaged(f'its compressed pixel data are damaged behind frame {len(frames)}.')


def correct_bits(stored: NDArray, layout: Layout) -> NDArray:
    """Return values of which only the bits that count are left, in the machine's order of bytes.

    Others may hold overlays. They are shifted out, which repeats the sign of signed values.

    Source: DICOM PS3.5, 8.1.1.
    """
    stored = stored.astype(stored.dtype.newbyteorder('='), copy=False)
    spare = layout.allocated - layout.stored
    if spare and layout.allocated > 1:
        if layout.high < layout.allocated - 1:
            stored = np.left_shift(stored, layout.allocated - 1 - layout.high)
        stored = np.right_shift(stored, spare)
    return stored


def undecoded(header: Header, number: int, total: int, error: Exception) -> DatasetError:
    """Return the error for a frame that a decoder refuses; its words are about pixels alone, as that is all it got."""
    text = ' '.join(str(error).split()).rstrip('.')
    text = text[:197] + '...' if len(text) > 200 else text or type(error).__name__
    plugin = DECODERS.get(header.syntax.removeprefix(FAMILY)) if header.syntax.startswith(FAMILY) else None
    cure = f'{COPY_AGAIN} If it is sound, `{plugin}` adds a decoder.' if plugin else COPY_AGAIN
    return DatasetError(header.path, f'frame {number} of {total} cannot be decoded: {text}.', cure)
