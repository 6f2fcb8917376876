"""DICOM files for tests, made frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, XRayAngiographicImageStorage, generate_uid

PATIENT = {
    'PatientName': 'Doe^Jane',
    'PatientID': 'MRN-4711',
    'PatientBirthDate': '19500102',
    'InstitutionName': 'Hospital of Somewhere',
}


def write_dicom(path: Path, frames: np.ndarray | None, bits: int = 8, rle: bool = False, **attributes: Any) -> Path:
    """Write frames (N, H, W) or one of RGB (H, W, 3), with a patient's attributes; None: an object without pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.SOPInstanceUID = generate_uid()
    if frames is not None:
        add_pixels(dataset, frames, bits)
    for name, value in (PATIENT | attributes).items():
        setattr(dataset, name, value)
    if rle:
        dataset.compress(RLELossless)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def add_pixels(dataset: Dataset, frames: np.ndarray, bits: int) -> None:
    color = frames.shape[-1] == 3
    dataset.Rows, dataset.Columns = frames.shape[:2] if color else frames.shape[1:]
    if not color:
        dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel = 3 if color else 1
    if color:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = 'RGB' if color else 'MONOCHROME2'
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    dataset.PixelData = frames.astype(np.uint8 if bits <= 8 else np.uint16).tobytes()
