"""Stored values become grey levels as the standard says: pydicom's own, slower functions are the truth."""

from __future__ import annotations

import struct
from functools import partial

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import ComputedRadiographyImageStorage, ImplicitVRLittleEndian

from tests.dicoms import write_dicom
from vasomim.errors import DatasetError
from vasomim.frames.dicom import read_frames


def cine(frames: int = 3, top: int = 4096, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (frames, 12, 16), dtype=np.uint16)


def table(first: int, entries: np.ndarray, bits: int, signed: bool = False, words: bool = True) -> Sequence:
    item = Dataset()
    item.add_new('LUTDescriptor', 'SS' if signed else 'US', [len(entries) % 65536, first, bits])
    if words:
        item.add_new('LUTData', 'US', entries.tolist())
    else:
        item.add_new('LUTData', 'OW', entries.astype('<u2').tobytes())
    return Sequence([item])


def truth(path, bits: int) -> np.ndarray:
    """Return the grey levels as pydicom maps them, where the table has entries of some bits."""
    dataset = dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset).astype(np.int64), dataset)
    levels = np.rint(shown / (2**bits - 1) * 255)
    return 255 - levels if dataset.PhotometricInterpretation == 'MONOCHROME1' else levels


@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
@pytest.mark.parametrize('words', [True, False])
@pytest.mark.parametrize('implicit', [True, False])
@pytest.mark.parametrize(
    ('depth', 'first', 'number', 'bits'),
    [(12, 0, 4096, 12), (12, 700, 1500, 16), (16, 0, 65536, 10), (12, -900, 1500, 12), (12, 2000, 200, 16)],
)
def test_a_look_up_table_takes_the_place_of_a_window(
    tmp_path, depth, first, number, bits, implicit, words, photometric
):
    stored = cine(top=2**depth)
    entries = np.sort(np.random.default_rng(1).integers(0, 2**bits, number))
    attributes = {'PixelRepresentation': 1, 'RescaleSlope': 1, 'RescaleIntercept': 500} if first < 0 else {}
    attributes |= {'PhotometricInterpretation': photometric}
    sequences = [table(first, entries, bits, signed=first < 0, words=one) for one in (False, words)]
    write = partial(write_dicom, frames=stored, bits=depth, **attributes)
    expected = truth(write(tmp_path / 'truth', VOILUTSequence=sequences[0]), bits)
    path = write(tmp_path / 'a', VOILUTSequence=sequences[1])
    assert np.ptp(expected) > 200
    if implicit:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path)
    assert np.array_equal(list(read_frames(path)), expected)


def test_a_window_goes_before_a_table_and_a_wrong_one_does_not(tmp_path):
    stored, entries = cine(), np.arange(4096)[::-1]
    sequence = table(0, entries, 12)
    window = {'WindowCenter': 2048, 'WindowWidth': 4096}
    both = write_dicom(tmp_path / 'a', stored, bits=12, VOILUTSequence=sequence, **window)
    assert np.array_equal(list(read_frames(both)), np.rint(np.clip((stored - 2047.5) / 4095 + 0.5, 0, 1) * 255))
    wrong = write_dicom(tmp_path / 'b', stored, bits=12, VOILUTSequence=sequence, WindowCenter=0, WindowWidth=0)
    assert np.array_equal(list(read_frames(wrong)), np.rint((4095 - stored.astype(float)) / 4095 * 255))


def test_a_table_of_functional_groups_and_bytes_is_read(tmp_path):
    stored, entries = cine(top=256), np.arange(256)[::-1]
    macro, item = Dataset(), Dataset()
    macro.VOILUTSequence = table(0, entries, 8)
    macro.VOILUTSequence[0].add_new('LUTData', 'OW', entries.astype(np.uint8).tobytes())
    item.FrameVOILUTSequence = Sequence([macro])
    path = write_dicom(tmp_path / 'a', stored, SharedFunctionalGroupsSequence=Sequence([item]))
    assert np.array_equal(list(read_frames(path)), 255 - stored)


def test_a_modality_table_is_for_display_unless_it_linearizes_an_angiogram(tmp_path):
    stored, entries = cine(), np.sqrt(np.arange(4096) * 4095).astype(int)
    attributes = {'ModalityLUTSequence': table(0, entries, 12), 'WindowCenter': 2048, 'WindowWidth': 4096}
    angiogram = write_dicom(tmp_path / 'a', stored, bits=12, **attributes)
    linear = np.rint(np.clip((stored - 2047.5) / 4095 + 0.5, 0, 1) * 255)
    assert np.array_equal(list(read_frames(angiogram)), linear)
    radiograph = write_dicom(tmp_path / 'b', stored, bits=12, SOPClassUID=ComputedRadiographyImageStorage, **attributes)
    shown = np.rint(np.clip((entries[stored] - 2047.5) / 4095 + 0.5, 0, 1) * 255)
    assert np.array_equal(list(read_frames(radiograph)), shown)
    assert np.abs(shown - linear).mean() > 10


DAMAGED_TABLES = {
    'too short': table(0, np.arange(100), 12),
    'too many bits': table(0, np.arange(4096), 20),
    'no data': Sequence([Dataset()]),
}
DAMAGED_TABLES['too short'][0].LUTDescriptor = [4096, 0, 12]


@pytest.mark.parametrize('sequence', DAMAGED_TABLES.values(), ids=DAMAGED_TABLES)
def test_a_damaged_table_is_an_error(tmp_path, sequence):
    path = write_dicom(tmp_path / 'a', cine(), bits=12, VOILUTSequence=sequence)
    with pytest.raises(DatasetError, match='VOILUTSequence'):
        next(read_frames(path))


@pytest.mark.parametrize(
    'attributes',
    [
        {'WindowCenter': 100, 'WindowWidth': 1},  # White, as all values are above.
        {'WindowCenter': 9000, 'WindowWidth': 1},
        {'WindowCenter': 1024, 'WindowWidth': 1},  # Black and white.
        {'WindowCenter': 9000, 'WindowWidth': 200},
        {'RescaleSlope': 0, 'RescaleIntercept': 7},
        {'RescaleSlope': 0, 'RescaleIntercept': 7, 'WindowCenter': 2048, 'WindowWidth': 4096},
        {'VOILUTSequence': table(0, np.full(4096, 9), 12)},
    ],
)
def test_a_cine_that_would_become_one_grey_level_is_refused(tmp_path, attributes):
    path = write_dicom(tmp_path / 'a', cine(top=1900) + 150, bits=12, **attributes)
    with pytest.raises(DatasetError, match='grey level') as caught:
        next(read_frames(path))
    assert caught.value.where == path


def test_a_blank_frame_or_two_stored_values_are_no_reason_to_refuse_a_cine(tmp_path):
    stored = cine()
    stored[:2] = np.arange(16) % 3  # Two frames of noise below the window.
    window = {'WindowCenter': 2048, 'WindowWidth': 3000}
    found = list(read_frames(write_dicom(tmp_path / 'a', stored, bits=12, **window)))
    assert len(found) == 3 and np.ptp(found[0]) == 0 and np.ptp(found[2]) == 255
    two = np.where(stored > 2000, 900, 100)
    found = list(read_frames(write_dicom(tmp_path / 'b', two, bits=12, WindowCenter=500, WindowWidth=1)))
    assert np.array_equal(found, np.where(two == 900, 255, 0))


@pytest.mark.parametrize('value', ['NaN', 'inf', '-inf', '1e400', '1e300'])
@pytest.mark.parametrize('tag', ['RescaleSlope', 'RescaleIntercept', 'WindowCenter', 'WindowWidth'])
def test_numbers_that_are_not_finite_are_errors(tmp_path, tag, value):
    attributes = {'RescaleSlope': 1, 'RescaleIntercept': 0, 'WindowCenter': 2048, 'WindowWidth': 4096}
    path = write_dicom(tmp_path / 'a', cine(), bits=12, **attributes)
    dataset = dcmread(path)
    dataset[tag].VR = 'LO'  # As DS pydicom writes no others than numbers.
    dataset[tag].value = value
    dataset.save_as(path)
    name = struct.pack('<HH', dataset[tag].tag.group, dataset[tag].tag.element)
    path.write_bytes(path.read_bytes().replace(name + b'LO', name + b'DS'))
    with pytest.raises(DatasetError) as caught:
        next(read_frames(path))
    assert caught.value.where == path
