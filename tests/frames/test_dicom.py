"""DICOM files become 8-bit frames: every mapping against the standard's formula, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1

from tests.dicoms import PATIENT, write_dicom
from vasomim.errors import DatasetError
from vasomim.frames.dicom import is_dicom, read_frames, read_groups
from vasomim.frames.inputs import read_source


def cine(frames: int = 3, top: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (frames, 12, 16), dtype=np.uint16)


def window(value: float, center: float, width: float) -> int:
    """The LINEAR function, as the standard writes it, for one value."""
    if value <= center - 0.5 - (width - 1) / 2:
        return 0
    if value > center - 0.5 + (width - 1) / 2:
        return 255
    return round(((value - (center - 0.5)) / (width - 1) + 0.5) * 255)


def rounded(found: np.ndarray, exact: np.ndarray) -> bool:
    return found.shape == exact.shape and bool((np.abs(found - exact) < 0.5 + 1e-9).all())


@pytest.mark.parametrize('rle', [False, True])
def test_8_bit_frames_stay_as_they_are(tmp_path, rle):
    stored = cine()
    path = write_dicom(tmp_path / 'a', stored, rle=rle)
    assert is_dicom(path)
    found = list(read_frames(path))
    assert len(found) == 3
    assert all(frame.dtype == np.uint8 for frame in found)
    assert np.array_equal(found, stored)
    full = write_dicom(tmp_path / 'b', stored, WindowCenter=128, WindowWidth=256)  # What most exports say.
    assert np.array_equal(list(read_frames(full)), stored)


@pytest.mark.parametrize('inverted', [False, True])
@pytest.mark.parametrize(('slope', 'intercept'), [(1, 0), (0.5, -100)])
@pytest.mark.parametrize(('bits', 'center', 'width'), [(12, 700, 900), (16, 15000, 20000)])
def test_a_window_maps_deep_pixels_by_the_standard_s_function(
    tmp_path, bits, center, width, slope, intercept, inverted
):
    stored = cine(top=2**bits)
    path = write_dicom(
        tmp_path / 'a',
        stored,
        bits=bits,
        WindowCenter=[center, 50],  # The first one counts.
        WindowWidth=[width, 10],
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        PhotometricInterpretation='MONOCHROME1' if inverted else 'MONOCHROME2',
    )
    expected = np.array([window(value * slope + intercept, center, width) for value in stored.ravel().tolist()])
    expected = (255 - expected if inverted else expected).reshape(stored.shape)
    found = np.array(list(read_frames(path)))
    assert np.abs(found - expected).max() == 0
    assert {0, 255} < set(found.ravel().tolist())


def test_without_a_window_the_whole_cine_sets_the_range(tmp_path):
    stored = cine(top=1000) + 300
    stored[0] = np.minimum(stored[0], 700)  # The first frame is darker, and stays so.
    low, high = int(stored.min()), int(stored.max())
    found = np.array(list(read_frames(write_dicom(tmp_path / 'a', stored, bits=16))))
    assert rounded(found, (stored.astype(float) - low) / (high - low) * 255)
    assert found[0].max() < 150 and found[1:].max() == 255
    inverted = write_dicom(tmp_path / 'c', stored, bits=16, PhotometricInterpretation='MONOCHROME1')
    assert rounded(np.array(list(read_frames(inverted))), (high - stored.astype(float)) / (high - low) * 255)
    flat = list(read_frames(write_dicom(tmp_path / 'b', np.full((1, 4, 4), 77), bits=16)))
    assert (flat[0] == 0).all()


def test_exact_and_sigmoid_windows(tmp_path):
    stored = np.arange(0, 1000, 10, dtype=np.uint16).reshape(1, 10, 10)
    exact = {'WindowCenter': 500, 'WindowWidth': 400, 'VOILUTFunction': 'LINEAR_EXACT'}
    found = next(read_frames(write_dicom(tmp_path / 'a', stored, bits=10, **exact)))
    assert rounded(found, np.clip((stored[0] - 300.0) / 400, 0, 1) * 255)
    found = next(read_frames(write_dicom(tmp_path / 'b', stored, bits=10, **exact | {'VOILUTFunction': 'SIGMOID'})))
    assert rounded(found, 255 / (1 + np.exp(-4 * (stored[0] - 500.0) / 400)))


def test_monochrome1_is_inverted_and_color_becomes_luminance(tmp_path):
    stored = cine()
    found = list(read_frames(write_dicom(tmp_path / 'a', stored, PhotometricInterpretation='MONOCHROME1')))
    assert np.array_equal(found, 255 - stored)
    color = np.zeros((4, 5, 3), np.uint8)
    color[..., 0], color[0] = 200, 90
    found = list(read_frames(write_dicom(tmp_path / 'b', color)))
    assert len(found) == 1
    assert (found[0][0] == 90).all() and (found[0][1:] == round(0.299 * 200)).all()


def test_an_enhanced_file_has_its_window_in_functional_groups(tmp_path):
    item, macro = Dataset(), Dataset()
    macro.WindowCenter, macro.WindowWidth = 500, 200
    item.FrameVOILUTSequence = Sequence([macro])
    stored = cine(top=1024)
    path = write_dicom(tmp_path / 'a', stored, bits=10, SharedFunctionalGroupsSequence=Sequence([item]))
    expected = np.array([window(value, 500, 200) for value in stored.ravel().tolist()]).reshape(stored.shape)
    assert np.array_equal(list(read_frames(path)), expected)


@pytest.mark.parametrize('rle', [False, True])
@pytest.mark.parametrize('bits', [8, 12])
def test_a_file_cut_off_gives_its_whole_frames_and_then_an_error(tmp_path, rle, bits):
    stored = cine(frames=4, top=1 << bits)
    path = write_dicom(
        tmp_path / 'a', stored, bits=bits, rle=rle, WindowCenter=[1 << (bits - 1)], WindowWidth=1 << bits
    )
    whole = list(read_frames(path))
    data = path.read_bytes()
    for cut, at_least in ((len(data) - 60, 3), (len(data) // 2, 0), (300, 0), (140, 0), (60, 0), (0, 0)):
        path.write_bytes(data[:cut])
        found = []
        with pytest.raises(DatasetError) as caught:
            for frame in read_frames(path):
                found.append(frame)
        assert str(path) in str(caught.value)
        assert at_least <= len(found) < 4
        assert np.array_equal(found, whole[: len(found)]) or not found


def test_the_first_frame_of_a_cine_cut_off_in_its_second_is_kept(tmp_path):
    whole = list(read_frames(write_dicom(tmp_path / 'a', cine(frames=2, top=256), bits=8)))
    path = tmp_path / 'a'
    path.write_bytes(path.read_bytes()[:-60])
    found = []
    with pytest.raises(DatasetError, match=str(path)):
        for frame in read_source(tmp_path, 'a'):
            found.append(frame)
    assert [(frame.index, frame.target) for frame in found] == [(0, 'a_0000.png')]
    assert np.array_equal(found[0].pixels, whole[0])


def test_jpeg_frames_are_decoded(tmp_path):
    frames = [cv2.resize(frame.astype(np.uint8), (64, 48)) for frame in cine()]
    files = [cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for frame in frames]
    path = write_dicom(tmp_path / 'a', np.stack(frames))
    dataset = dcmread(path)
    dataset.PixelData = encapsulate(files)
    dataset['PixelData'].VR = 'OB'
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path)
    found = list(read_frames(path))
    expected = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) for data in files]
    assert len(found) == 3
    assert np.abs(np.subtract(found, expected, dtype=int)).max() <= 1


def test_fewer_frames_than_announced_are_an_error(tmp_path):
    path = write_dicom(tmp_path / 'a', cine(frames=2), rle=True, NumberOfFrames=2)
    path.write_bytes(path.read_bytes().replace(b'IS\x02\x002 ', b'IS\x02\x003 '))
    frames = read_frames(path)
    assert np.array_equal([next(frames), next(frames)], cine(frames=2))
    with pytest.raises(DatasetError, match='of the 3 frames'):
        next(frames)


def test_what_is_no_dicom_is_refused(tmp_path):
    path = tmp_path / 'a.dcm'
    path.write_bytes(b'x' * 1000)
    assert not is_dicom(path) and not is_dicom(tmp_path) and not is_dicom(tmp_path / 'missing')
    with pytest.raises(DatasetError, match='no DICOM file'):
        next(read_frames(path))
    with pytest.raises(DatasetError, match='cannot be read'):
        next(read_frames(tmp_path / 'missing'))


def test_an_unknown_compression_names_the_line_that_adds_decoders(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / 'a', cine(), rle=True)
    data = path.read_bytes()
    rle, lossless = b'1.2.840.10008.1.2.5\0', JPEGLosslessSV1.encode()
    assert data.count(rle) == 1
    size = len(lossless) + len(lossless) % 2
    # The group's length counts the longer identifier.
    data = data.replace(b'\x14\x00' + rle, size.to_bytes(2, 'little') + lossless.ljust(size, b'\0'))
    start = data.index(b'\x02\x00\x00\x00UL\x04\x00') + 8
    length = int.from_bytes(data[start : start + 4], 'little') + size - len(rle)
    path.write_bytes(data[:start] + length.to_bytes(4, 'little') + data[start + 4 :])
    from pydicom.pixels.decoders import base

    monkeypatch.setattr(base.DecoderBase if hasattr(base, 'DecoderBase') else base.Decoder, 'is_available', False)
    with pytest.raises(DatasetError, match='JPEG Lossless') as caught:
        next(read_frames(path))
    assert 'pip install python-gdcm' in str(caught.value)


def test_groups_tell_files_of_one_patient_apart_without_naming_him(tmp_path):
    uids = {'StudyInstanceUID': '1.2.3', 'SeriesInstanceUID': '1.2.3.4'}
    first = read_groups(write_dicom(tmp_path / 'a', cine(), **uids))
    second = read_groups(write_dicom(tmp_path / 'b', cine(2), **uids | {'SeriesInstanceUID': '1.2.3.5'}))
    other = read_groups(write_dicom(tmp_path / 'c', cine(), **uids | {'PatientID': 'MRN-4712'}))
    nobody = read_groups(write_dicom(tmp_path / 'd', cine(), PatientID=''))
    assert (first.patient, first.study) == (second.patient, second.study)
    assert first.patient != other.patient
    assert (nobody.patient, nobody.study) == ('', '')
    assert not any(value in repr(first) for value in (*PATIENT.values(), '1.2.3'))
