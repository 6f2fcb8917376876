"""The real DICOM files that come with pydicom: each is mapped as its own functions do, or refused for a reason."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from vasomim.errors import DatasetError
from vasomim.frames.dicom import find_dicom, read_frames, read_groups

ROOT = Path(importlib.util.find_spec('pydicom').origin).parent / 'data'
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob('*') if path.is_file())

NEEDS_A_DECODER = ('JPEGLS', 'jpeg_ls', 'jls', 'SC_rgb_jpeg_gdcm')
REASONS = {  # Files that are not read, by parts of their names, and a word of the reason.
    **dict.fromkeys(NEEDS_A_DECODER, 'nothing installed here decodes'),
    **dict.fromkeys(('JPEG-lossy', 'JPGExtended'), 'more than 8 bits'),
    **dict.fromkeys(('rtdose', 'badVR', 'rtplan', 'rtstruct', 'NoMeta', 'liver'), 'no image'),
    **dict.fromkeys(('reportsi', 'test-SR', 'ecg', 'palettes/', 'DICOMDIR'), 'no image'),
    **dict.fromkeys(('chrJapMulti', 'chrKorean'), 'no pixel data'),
    **dict.fromkeys(
        ('chrSQ', 'TINY_ALPHA', 'empty_charset', 'priv_SQ', 'no_meta_group', 'meta_missing', 'UN_seq'), 'no frames'
    ),
    **dict.fromkeys(('16bit', '32bit'), 'bits'),
    'no_meta.dcm': 'no DICOM',
    'palette': 'PALETTE COLOR',
    'GDCMJ2K': 'decoded',
    'sequence-delimiter': 'is compressed as',
    'MR_truncated': 'cut short',
    **dict.fromkeys(('CT2/17166', 'CT2/17196'), 'grey level'),  # Air, all of it below the window.
}


def truth(path: Path) -> np.ndarray:
    """Return grey levels (N, H, W) by pydicom's own functions and the mapping of docs/pretraining_data.md."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        dataset = dcmread(path, force=True)
        stored = pixel_array(dataset)
    if dataset.SamplesPerPixel == 3:
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in stored.reshape(-1, *stored.shape[-3:])])
    stored = stored.reshape(-1, *stored.shape[-2:])
    rescaled = apply_modality_lut(stored, dataset)
    lowest = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    ends = np.array([lowest, lowest + 2**dataset.BitsStored - 1])
    if 'WindowWidth' in dataset or 'VOILUTSequence' in dataset:
        shown = apply_voi_lut(rescaled, dataset, prefer_lut=False).astype(float)
    else:
        shown = rescaled.astype(float)
        ends = ends if dataset.BitsStored <= 8 else np.array([stored.min(), stored.max()])
    low, high = sorted(apply_modality_lut(ends, dataset).tolist())
    levels = np.rint((shown - low) / (high - low) * 255)
    return 255 - levels if dataset.PhotometricInterpretation == 'MONOCHROME1' else levels


def reason(name: str) -> str | None:
    return next((word for part, word in REASONS.items() if part in name), None)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('name', find_dicom(ROOT, FILES))
def test_a_real_file_is_mapped_as_pydicom_does_or_refused(name):
    found, error = [], None
    try:
        for frame in read_frames(ROOT / name):
            found.append(frame)
    except DatasetError as caught:
        error = caught
    word = reason(name)
    if word is None:
        assert error is None, error
        expected = truth(ROOT / name)
        assert np.array_equal(found, expected), np.abs(np.array(found) - expected).max()
        assert read_groups(ROOT / name).image
    else:
        assert error is not None and word in f'{error.what} {error.cure}', error
        assert found == []


def test_most_of_the_real_files_are_found_and_read():
    names = find_dicom(ROOT, FILES)
    assert len(names) >= 185
    assert sum(reason(name) is None for name in names) >= 78
