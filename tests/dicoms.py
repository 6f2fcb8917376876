"""DICOM files for tests, made frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, XRayAngiographicImageStorage, generate_uid

PATIENT = {
    'PatientName': 'Doe^Jane',
    'PatientID': 'MRN-4711',
    'PatientBirthDate': '19500102',
    'InstitutionName': 'Hospital of Somewhere',
}


def write_dicom(path: Path, frames: np.ndarray | None, bits: int = 8, rle: bool = False, **attributes: Any) -> Path:
    """Write frames (N, H, W) or one of RGB (H, W, 3), with a patient's attributes.

    Without frames it is an object without pixels; an attribute that is None is left out.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.SOPInstanceUID = generate_uid()
    if frames is not None:
        add_pixels(dataset, frames, bits)
    for name, value in (PATIENT | attributes).items():
        if value is not None:
            setattr(dataset, name, value)
        elif name in dataset:
            delattr(dataset, name)
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


def compress_dicom(path: Path, images: list[bytes], syntax: str, table: bool = True, fragments: int = 1) -> Path:
    """Put compressed images in place of a file's pixels, each in some fragments, with a table of offsets or not."""
    dataset = dcmread(path)
    dataset.PixelData = encapsulate(images, fragments, has_bot=table)
    dataset['PixelData'].VR = 'OB'
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    return path


def strip_preamble(path: Path, meta: bool = False, implicit: bool = False, little_endian: bool = True) -> Path:
    """Take the preamble and its magic word from a file, and, unless they are to stay, the attributes of the file."""
    if meta:
        path.write_bytes(path.read_bytes()[132:])
        return path
    dataset = dcmread(path)
    dataset.preamble = None
    del dataset.file_meta
    if not little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, '<u2').astype('>u2').tobytes()
    dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little_endian)
    return path
