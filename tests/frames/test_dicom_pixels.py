"""Every frame of a DICOM file is found, and of its values the bits that count; what cannot be is refused in time."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from tests.dicoms import compress_dicom, write_dicom
from vasomim.errors import DatasetError
from vasomim.frames.dicom import read_frames

FULL = {'WindowCenter': 2048, 'WindowWidth': 4096}


def cine(frames: int = 5, top: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (frames, 12, 16), dtype=np.uint16)


def smooth(frames: int = 5) -> np.ndarray:
    return np.stack([cv2.resize(frame.astype(np.uint8), (64, 48)) for frame in cine(frames)])


def jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def jpeg_2000(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, 'JPEG2000', irreversible=False, no_jp2=True)
    return file.getvalue()


def rle(frame: np.ndarray, folder) -> bytes:
    path = write_dicom(folder / 'rle', frame[None], bits=8 * frame.dtype.itemsize, rle=True)
    return list(generate_fragments(dcmread(path).PixelData))[1]


def read_all(path) -> tuple[list[np.ndarray], str]:
    """Return the frames of a file, and the error behind them."""
    found = []
    try:
        for frame in read_frames(path):
            found.append(frame)
    except DatasetError as error:
        assert str(path) in str(error)
        return found, error.what
    return found, ''


@pytest.mark.parametrize('announced', [None, '', 0, 1, 3, 5])
@pytest.mark.parametrize('bits', [8, 12])
def test_uncompressed_frames_are_counted_by_their_bytes(tmp_path, announced, bits):
    stored = cine(top=1 << bits)
    path = write_dicom(tmp_path / 'a', stored, bits=bits, NumberOfFrames=announced)
    found, error = read_all(path)
    assert error == ''
    low, high = (0, 255) if bits == 8 else (int(stored.min()), int(stored.max()))
    assert np.array_equal(found, np.rint((stored - low) * (255 / (high - low))))


@pytest.mark.parametrize('announced', [None, 1, 3, 5])
@pytest.mark.parametrize('fragments', [1, 3])
@pytest.mark.parametrize('table', [True, False])
@pytest.mark.parametrize('code', ['jpeg', 'jpeg 2000'])
def test_compressed_frames_are_counted_by_where_they_begin(tmp_path, code, table, fragments, announced):
    frames = smooth()
    encode, syntax = {'jpeg': (jpeg, JPEGBaseline8Bit), 'jpeg 2000': (jpeg_2000, JPEG2000Lossless)}[code]
    images = [encode(frame) for frame in frames]
    path = write_dicom(tmp_path / 'a', frames, NumberOfFrames=announced)
    found, error = read_all(compress_dicom(path, images, syntax, table, fragments))
    assert error == ''
    expected = frames
    if code == 'jpeg':
        expected = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
    assert np.array_equal(found, expected)


@pytest.mark.parametrize('announced', [None, 1, 3, 5])
@pytest.mark.parametrize('table', [True, False])
def test_rle_frames_are_counted_by_their_headers(tmp_path, table, announced):
    frames = cine()
    images = [rle(frame.astype(np.uint8), tmp_path) for frame in frames]
    path = write_dicom(tmp_path / 'a', frames, NumberOfFrames=announced)
    found, error = read_all(compress_dicom(path, images, RLELossless, table))
    assert error == ''
    assert np.array_equal(found, frames)


def test_a_table_of_offsets_tells_frames_that_do_not_show(tmp_path):
    frames = smooth(3)
    images = [jpeg(frame) for frame in frames]
    images[1] = bytes(len(images[1]))  # Damaged: it does not begin as an image.
    path = compress_dicom(write_dicom(tmp_path / 'a', frames), images, JPEGBaseline8Bit, True, 2)
    found, error = read_all(path)
    assert len(found) == 1 and 'frame 2 of 3' in error


def test_the_extended_table_of_offsets_is_read(tmp_path):
    frames = smooth(3)
    images = [jpeg(frame) for frame in frames]
    images[1] = bytes(len(images[1]))
    path = write_dicom(tmp_path / 'a', frames)
    starts = np.cumsum([0, *(8 + len(image) + len(image) % 2 for image in images)])[:3]
    dataset = dcmread(compress_dicom(path, images, JPEGBaseline8Bit, False))
    dataset.ExtendedOffsetTable = struct.pack('<3Q', *starts)
    dataset.ExtendedOffsetTableLengths = struct.pack('<3Q', *map(len, images))
    dataset.NumberOfFrames = 7
    dataset.save_as(path)
    found, error = read_all(path)
    assert len(found) == 1 and 'frame 2 of 7' in error


@pytest.mark.parametrize('compressed', [True, False])
def test_fewer_frames_than_announced_are_told_behind_the_last_one(tmp_path, compressed):
    frames = smooth(3)
    path = write_dicom(tmp_path / 'a', frames, NumberOfFrames=9)
    if compressed:
        compress_dicom(path, [jpeg_2000(frame) for frame in frames], JPEG2000Lossless)
    found, error = read_all(path)
    assert np.array_equal(found, frames)
    assert '3 of the 9 frames' in error


def test_padding_is_no_frame_and_half_a_frame_is_refused(tmp_path):
    stored = cine()
    path = write_dicom(tmp_path / 'a', stored)
    dataset = dcmread(path)
    whole = dataset.PixelData
    for behind in (bytes(2), bytes(100)):
        dataset.PixelData = whole + behind
        dataset.save_as(path)
        found, error = read_all(path)
        assert error == '' and np.array_equal(found, stored)
    for announced, data in ((5, whole + bytes(range(100))), (3, whole + bytes(100)), (1, whole[:300])):
        dataset.NumberOfFrames, dataset.PixelData = announced, data
        dataset.save_as(path)
        found, error = read_all(path)
        assert found == [] and 'no whole number of frames' in error
    odd = write_dicom(tmp_path / 'b', np.array([[[5]]]))  # A byte, and one that fills it up.
    assert [frame.tolist() for frame in read_frames(odd)] == [[[5]]]


def test_single_bits_are_read_across_the_borders_of_bytes(tmp_path):
    stored = np.random.default_rng(0).integers(0, 2, (3, 5, 5)).astype(np.uint8)
    path = write_dicom(tmp_path / 'a', stored, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset = dcmread(path)
    dataset.PixelData = np.packbits(stored.ravel(), bitorder='little').tobytes()
    dataset.save_as(path)
    assert np.array_equal(list(read_frames(path)), stored * 255)


@pytest.mark.parametrize('signed', [0, 1])
@pytest.mark.parametrize('code', ['native', 'rle', 'jpeg 2000'])
def test_bits_that_do_not_count_are_dropped(tmp_path, code, signed):
    stored = cine(1, top=4096)[0]
    overlay = stored | np.uint16(0xA000)  # Two planes of an overlay in the bits above.
    values = np.where(stored >= 2048, stored.astype(int) - 4096, stored) if signed else stored.astype(int)
    center = 0 if signed else 2048
    path = write_dicom(
        *(tmp_path / 'a', overlay[None]), bits=12, PixelRepresentation=signed, WindowCenter=center, WindowWidth=4096
    )
    if code == 'rle':
        compress_dicom(path, [rle(overlay, tmp_path)], RLELossless)
    elif code == 'jpeg 2000':  # Written without a sign, which pydicom mends.
        compress_dicom(path, [jpeg_2000(overlay)], JPEG2000Lossless)
    expected = np.rint(np.clip((values - (center - 0.5)) / 4095 + 0.5, 0, 1) * 255)
    assert np.array_equal(next(read_frames(path)), expected)


@pytest.mark.parametrize('signed', [0, 1])
@pytest.mark.parametrize('compressed', [True, False])
def test_values_at_the_upper_end_are_shifted_down(tmp_path, compressed, signed):
    stored = cine(1, top=4096)[0]
    left = (stored << 4) | np.uint16(0x3)  # Something below them.
    values = np.where(stored >= 2048, stored.astype(int) - 4096, stored) if signed else stored.astype(int)
    center = 0 if signed else 2048
    path = write_dicom(
        *(tmp_path / 'a', left[None], 12),
        HighBit=15,
        PixelRepresentation=signed,
        WindowCenter=center,
        WindowWidth=4096,
    )
    if compressed:
        compress_dicom(path, [rle(left, tmp_path)], RLELossless)
    expected = np.rint(np.clip((values - (center - 0.5)) / 4095 + 0.5, 0, 1) * 255)
    assert np.array_equal(next(read_frames(path)), expected)


def test_compressed_values_at_the_upper_end_are_refused(tmp_path):
    stored = cine(1, top=4096)[0]
    path = write_dicom(tmp_path / 'a', stored[None], bits=12, HighBit=15, **FULL)
    found, error = read_all(compress_dicom(path, [jpeg_2000(stored << 4)], JPEG2000Lossless))
    assert found == [] and 'bit 15' in error


CONTRADICTIONS = {
    'grey of three values': {'SamplesPerPixel': 3},
    'color of one value': {'PhotometricInterpretation': 'RGB', 'SamplesPerPixel': 1},
    'color of JPEG 2000, uncompressed': {'PhotometricInterpretation': 'YBR_RCT', 'SamplesPerPixel': 3},
    'halved colors that are whole': {
        'PhotometricInterpretation': 'YBR_FULL_422',
        'SamplesPerPixel': 3,
        'Rows': 4,
        'PlanarConfiguration': 0,
    },
    'no rows': {'Rows': 0},
    'no columns': {'Columns': None},
    'frames below none': {'NumberOfFrames': -5},
    'more bits than there are': {'BitsStored': 12},
    'a high bit that is none': {'HighBit': 3},
    'a high bit beyond': {'HighBit': 9},
    'bits of no type': {'BitsAllocated': 12, 'BitsStored': 12, 'HighBit': 11},
}


@pytest.mark.parametrize('attributes', CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(tmp_path, attributes):
    found, error = read_all(write_dicom(tmp_path / 'a', cine(1), **attributes))
    assert found == [] and error


def test_grey_of_three_values_a_pixel_is_refused(tmp_path):
    color = np.random.default_rng(0).integers(0, 256, (12, 16, 3))
    path = write_dicom(tmp_path / 'a', color, PhotometricInterpretation='MONOCHROME2')
    found, error = read_all(path)
    assert found == [] and '3 values a pixel' in error


def test_the_transfer_syntax_has_to_fit_the_pixels(tmp_path):
    path = write_dicom(tmp_path / 'a', smooth(1))
    data = path.read_bytes()
    assert data.count(b'1.2.840.10008.1.2.1\0') == 1
    path.write_bytes(data.replace(b'1.2.840.10008.1.2.1\0', b'1.2.840.10008.1.2.5\0'))
    assert 'not compressed' in read_all(path)[1]
    compress_dicom(write_dicom(path, smooth(1)), [jpeg_2000(smooth(1)[0])], JPEG2000Lossless)
    data = path.read_bytes().replace(b'\x16\x001.2.840.10008.1.2.4.90', b'\x14\x001.2.840.10008.1.2.1\0')
    length = struct.unpack_from('<L', data, 140)[0] - 2
    path.write_bytes(data[:140] + struct.pack('<L', length) + data[144:])
    assert 'are compressed' in read_all(path)[1]


def test_deflated_files_are_read(tmp_path):
    stored = cine()
    path = write_dicom(tmp_path / 'a', stored)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert np.array_equal(list(read_frames(path)), stored)
    path.write_bytes(path.read_bytes()[:-300])
    found, error = read_all(path)
    assert len(found) < 5 and 'cut short' in error


@pytest.mark.parametrize(
    ('syntax', 'cure'),
    [
        (JPEGLosslessSV1, 'python-gdcm'),
        (JPEGExtended12Bit, 'pylibjpeg-libjpeg'),
        (HTJ2KLossless, 'pylibjpeg-openjpeg'),
        (MPEG2MPML, 'uncompressed'),
        ('1.2.3.4.5', 'uncompressed'),
    ],
)
def test_what_nothing_decodes_names_what_helps(tmp_path, monkeypatch, syntax, cure):
    from pydicom.pixels.decoders import base

    if syntax != JPEGExtended12Bit:  # Which Pillow is there for, and does not read.
        monkeypatch.setattr(base.Decoder, 'is_available', False)
    path = write_dicom(tmp_path / 'a', smooth(1).astype(np.uint16) * 16, bits=12)
    compress_dicom(path, [jpeg(smooth(1)[0])], syntax)
    with pytest.raises(DatasetError, match='nothing installed here') as caught:
        next(read_frames(path))
    assert cure in caught.value.cure and ('gdcm`' in caught.value.cure) == (cure == 'python-gdcm')


def test_an_icon_is_no_frame(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    icon = dcmread(write_dicom(tmp_path / 'icon', cine(1)))
    item = Dataset()
    for tag in ('Rows', 'Columns', 'PhotometricInterpretation', 'BitsAllocated', 'BitsStored', 'PixelData'):
        setattr(item, tag, icon[tag].value)
    item['PixelData'].VR = 'OB'
    path = write_dicom(
        tmp_path / 'a', None, PhotometricInterpretation='MONOCHROME2', IconImageSequence=Sequence([item])
    )
    found, error = read_all(path)
    assert found == [] and 'no pixel data' in error


def test_a_jpeg_of_another_size_than_announced_is_not_decoded(tmp_path):
    path = write_dicom(tmp_path / 'a', smooth(2))
    large = jpeg(np.zeros((9000, 9000), np.uint8))
    found, error = read_all(compress_dicom(path, [jpeg(smooth(1)[0]), large], JPEGBaseline8Bit))
    assert len(found) == 1 and '9000' in error


READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from vasomim.errors import DatasetError
from vasomim.frames.dicom import read_frames
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    frames = sum(1 for _ in read_frames(sys.argv[1]))
except DatasetError as error:
    print('refused', error.where)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize('bomb', ['rle', 'native', 'frames', 'deflated', 'segment', 'fragments'])
def test_bombs_are_refused_before_memory_is_taken_for_them(tmp_path, bomb):
    stored = cine(1)
    path = write_dicom(tmp_path / 'a', stored)
    large = {'Rows': 32768, 'Columns': 32768, 'NumberOfFrames': 1}
    if bomb in ('rle', 'native'):
        write_dicom(path, stored, **large)
        if bomb == 'rle':
            compress_dicom(path, [rle(stored[0].astype(np.uint8), tmp_path)], RLELossless)
    elif bomb == 'frames':
        write_dicom(path, stored, NumberOfFrames=10**9)
    elif bomb == 'deflated':
        import zlib

        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        head = path.read_bytes()
        start = 144 + struct.unpack_from('<L', head, 140)[0]
        body = zlib.decompress(head[start:], -zlib.MAX_WBITS)
        parts = [packer.compress(body)] + [packer.compress(bytes(1 << 24)) for _ in range(33)] + [packer.flush()]
        path.write_bytes(head[:start] + b''.join(parts))
    elif bomb == 'segment':  # An RLE frame whose segment expands 64 times.
        image = struct.pack('<16L', 1, 64, *[0] * 14) + b'\x81\0' * (8 << 20)
        compress_dicom(path, [image], RLELossless)
    else:
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([b'\xff\xd8']) + bytes.fromhex('feff00e000000000') * (3 << 16)
        dataset['PixelData'].VR = 'OB'
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(path)
    done = subprocess.run([sys.executable, '-c', READ, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused, megabytes = done.stdout.splitlines()
    assert refused == f'refused {path}'
    assert int(megabytes) < (1200 if bomb == 'deflated' else 600)


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    path = write_dicom(tmp_path / 'a', np.zeros((400, 512, 512), np.uint8) + np.arange(512, dtype=np.uint16) % 256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(frame.shape == (512, 512) for frame in read_frames(path)) == 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


def test_explicit_little_endian_is_guessed_where_nothing_is_said(tmp_path):
    path = write_dicom(tmp_path / 'a', cine())
    dataset = dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert np.array_equal(list(read_frames(path)), cine())
