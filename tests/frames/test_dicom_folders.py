"""No DICOM file of a folder vanishes, none stops it, and nothing of a patient leaves it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    ColorSoftcopyPresentationStateStorage,
    EncapsulatedPDFStorage,
    EnhancedXAImageStorage,
    MediaStorageDirectoryStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from tests.dicoms import strip_preamble, write_dicom
from vasomim.errors import DatasetError
from vasomim.frames.dicom import is_dicom, read_frames, read_groups
from vasomim.frames.inputs import list_sources, read_sources
from vasomim.frames.layout import list_images
from vasomim.prepare.cines import read_unit
from vasomim.prepare.sources import Selection, list_units


def cine(frames: int = 2, top: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (frames, 12, 16), dtype=np.uint16)


def read_tree(root: Path) -> tuple[set[str], set[str], set[str]]:
    """Return the files of a folder that are read, damaged and no images, which `predict` and `prepare` agree on."""
    others: list[str] = []
    damaged: list[DatasetError] = []
    folder, names = list_sources(root, not_images=others)
    read = {frame.source for frame in read_sources(folder, names, damaged)}
    wrong = {Path(error.where).relative_to(root).as_posix() for error in damaged}
    assert set(names) == read | wrong
    also: list[str] = []
    sound, broken = set(), set()
    for unit in list_units('dicom', root, Selection(), not_images=also):
        try:
            list(read_unit(unit))
            sound.add(unit.place)
        except DatasetError:
            broken.add(unit.place)
    assert (sound, broken, also) == ({name for name in read if not name.endswith('.png')}, wrong, sorted(others))
    return read, wrong, set(others)


STRIPPED = {
    'meta, explicit': {'meta': True},
    'explicit': {},
    'implicit': {'implicit': True},
    'big endian': {'little_endian': False},
}


@pytest.mark.parametrize('kind', STRIPPED.values(), ids=STRIPPED)
def test_files_without_the_magic_word_are_read(tmp_path, kind):
    stored = cine(top=4096)
    window = {'WindowCenter': 2048, 'WindowWidth': 4096}
    path = write_dicom(tmp_path / 'IM1', stored, bits=12, **window)
    expected = list(read_frames(path))
    strip_preamble(path, **kind)
    assert b'DICM' not in path.read_bytes() and is_dicom(path)
    assert np.array_equal(list(read_frames(path)), expected)
    assert read_groups(path).patient == read_groups(write_dicom(tmp_path / 'IM2', stored)).patient
    write_dicom(tmp_path / 'IM2', stored)
    assert read_tree(tmp_path) == ({'IM1', 'IM2'}, set(), set())


def test_damaged_files_are_listed_by_name_beside_sound_ones(tmp_path):
    whole = write_dicom(tmp_path / 'a' / 'IM1', cine()).read_bytes()
    write_dicom(tmp_path / 'b' / 'run.dcm', cine())
    for name, content in {
        'a/IM2': b'',
        'a/IM3': whole[:100],
        'a/IM4': bytes(5000),
        'a/1.2.840.77': b'',
        'b/empty.dcm': b'',
        'b/short.DCM': whole[:100],
        'b/text.dicom': b'The PACS is down for maintenance. ' * 20,
        'b/zeros.ima': bytes(700),
        'b/header.dcm': whole[:300],
    }.items():
        (tmp_path / name).write_bytes(content)
    os.symlink(tmp_path / 'gone', tmp_path / 'a' / 'IM5')
    os.symlink(tmp_path / 'gone', tmp_path / 'b' / 'gone.dcm')
    for name in ('a/notes.txt', 'a/README', 'b/LOCK', 'a/empty.xml'):  # None of them was a DICOM file.
        (tmp_path / name).write_bytes(b'' if name in ('b/LOCK', 'a/empty.xml') else b'Some text. ' * 50)
    read, damaged, others = read_tree(tmp_path)
    assert read == {'a/IM1', 'b/run.dcm'} and others == set()
    assert damaged == {
        *('a/IM2', 'a/IM3', 'a/IM4', 'a/IM5', 'a/1.2.840.77'),
        *('b/empty.dcm', 'b/short.DCM', 'b/text.dicom', 'b/zeros.ima', 'b/header.dcm', 'b/gone.dcm'),
    }


def test_a_dicom_file_with_the_ending_of_a_picture_is_read_as_what_it_is(tmp_path):
    write_dicom(tmp_path / 'a.png', cine(1))
    frame = next(read_sources(*list_sources(tmp_path)))
    assert (frame.source, frame.target) == ('a.png', 'a.png')
    assert np.array_equal(frame.pixels, cine(1)[0])


def test_pipes_and_devices_are_refused_and_never_waited_for(tmp_path):
    write_dicom(tmp_path / 'IM1', cine())
    os.mkfifo(tmp_path / 'pipe.dcm')
    os.mkfifo(tmp_path / 'IM2')
    os.symlink('/dev/zero', tmp_path / 'device.dcm')
    read, damaged, _ = read_tree(tmp_path)
    assert read == {'IM1'} and damaged == {'pipe.dcm', 'device.dcm', 'IM2'}
    with pytest.raises(DatasetError, match='no regular file'):
        next(read_frames(tmp_path / 'pipe.dcm'))


def test_a_folder_of_damaged_dicom_files_is_sent_to_what_lists_them(tmp_path):
    (tmp_path / 'a.dcm').write_bytes(b'')
    with pytest.raises(DatasetError) as caught:
        list_images(tmp_path)
    assert 'prepare pretrain dicom' in caught.value.cure


IMAGES = [
    EnhancedXAImageStorage,
    XRayRadiofluoroscopicImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    None,  # None said.
    '1.2.3.4.5.6',  # A class of some vendor.
    'no identifier',
]
OTHERS = [
    SegmentationStorage,
    RTDoseStorage,
    ParametricMapStorage,
    ColorSoftcopyPresentationStateStorage,
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    MediaStorageDirectoryStorage,
]


def test_the_class_tells_images_from_segmentations_doses_and_maps(tmp_path):
    for k, kind in enumerate(IMAGES + OTHERS):
        path = tmp_path / f'IM{k}'
        write_dicom(path, cine(), SOPClassUID=kind or SecondaryCaptureImageStorage)
        if kind is None:
            dataset = dcmread(path)
            del dataset.SOPClassUID, dataset.file_meta.MediaStorageSOPClassUID
            dataset.save_as(path, enforce_file_format=False)
    write_dicom(tmp_path / 'private', None, SOPClassUID='1.2.3.4.5.7')  # Of some vendor, without pixels.
    read, damaged, others = read_tree(tmp_path)
    assert read == {f'IM{k}' for k in range(len(IMAGES))} and damaged == set()
    assert others == {'private', *(f'IM{k}' for k in range(len(IMAGES), len(IMAGES + OTHERS)))}
    with pytest.raises(DatasetError, match='Segmentation Storage'):
        next(read_frames(tmp_path / f'IM{len(IMAGES)}'))


NAME = 'Doe^Jane'
TYPES = {  # Attributes whose value is read or asked for, with their types.
    'NumberOfFrames': 'IS',
    'RescaleSlope': 'DS',
    'RescaleIntercept': 'DS',
    'WindowCenter': 'DS',
    'WindowWidth': 'DS',
    'VOILUTFunction': 'CS',
    'PhotometricInterpretation': 'CS',
    'Rows': 'US',
    'BitsStored': 'US',
    'PlanarConfiguration': 'US',
    'VOILUTSequence': 'SQ',
    'SharedFunctionalGroupsSequence': 'SQ',
    'StudyInstanceUID': 'UI',
    'SOPClassUID': 'UI',
    'PatientID': 'DS',  # Wrongly so.
    'SpecificCharacterSet': 'CS',
    'FrameOfReferenceUID': 'UI',
    'AcquisitionDate': 'DA',
}

LOUD = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
from vasomim.frames.inputs import left_out, list_sources, read_sources, tell_damaged
from vasomim.prepare.sources import Selection, list_units
others, damaged = [], []
root, names = list_sources(sys.argv[1], not_images=others)
print(sum(1 for _ in read_sources(root, names, damaged)), 'frames')
tell_damaged(damaged, len(names))
print([str(error) for error in damaged], left_out(others))
print(list_units('dicom', Path(sys.argv[1]), Selection()))
"""


def test_nothing_of_a_file_s_attributes_reaches_the_terminal(tmp_path):
    for tag, kind in TYPES.items():
        dataset = dcmread(write_dicom(tmp_path / f'{tag}.dcm', cine(), bits=12))
        dataset.add_new(tag, 'LO', NAME)
        dataset.save_as(tmp_path / f'{tag}.dcm')  # As text; its type is then called what it should be.
        data = (tmp_path / f'{tag}.dcm').read_bytes()
        number = dataset[tag].tag.group.to_bytes(2, 'little') + dataset[tag].tag.element.to_bytes(2, 'little')
        old = number + b'LO\x08\0'
        assert data.count(old) == 1
        new = number + (b'SQ\0\0\x08\0\0\0' if kind == 'SQ' else kind.encode() + b'\x08\0')
        (tmp_path / f'{tag}.dcm').write_bytes(data.replace(old, new))
    data = write_dicom(tmp_path / 'syntax.dcm', cine()).read_bytes()
    (tmp_path / 'syntax.dcm').write_bytes(data.replace(b'1.2.840.10008.1.2.1\0', b'Doe^Jane.1950010'.ljust(20, b'1')))
    (tmp_path / 'class.dcm').write_bytes(data.replace(b'1.2.840.10008.5.1.4.1.1.12.1', NAME.encode().ljust(28, b'1')))
    done = subprocess.run(
        [sys.executable, '-W', 'always', '-c', LOUD, str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in (done.stdout + done.stderr).splitlines() if 'Doe' in line or 'Jane' in line]
    assert 'files cannot be read' in done.stdout and 'pydicom' not in done.stderr


def test_no_change_of_bytes_raises_anything_but_errors_of_ours(tmp_path):
    chance = random.Random(0)
    color = np.random.default_rng(0).integers(0, 256, (12, 16, 3))
    window = {'WindowCenter': 2048, 'WindowWidth': 4096}
    bases = [
        write_dicom(tmp_path / 'a', cine(top=4096), bits=12, **window).read_bytes(),
        write_dicom(tmp_path / 'a', cine(), rle=True).read_bytes(),
        write_dicom(tmp_path / 'a', color).read_bytes(),
        strip_preamble(write_dicom(tmp_path / 'a', cine()), implicit=True).read_bytes(),
    ]
    path = tmp_path / 'a'
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(1500):
            data = bytearray(chance.choice(bases))
            for _ in range(chance.choice((1, 1, 2, 8))):
                data[chance.randrange(len(data) - 400)] = chance.choice((0, 1, 255, chance.randrange(256)))
            path.write_bytes(data[: chance.choice((len(data), len(data), chance.randrange(len(data))))])
            for read in (lambda: sum(frame.size for frame in read_frames(path)), lambda: read_groups(path)):
                try:
                    read()
                except DatasetError as error:
                    assert str(path) in str(error)
                    refused += 1
    assert refused > 500


def test_images_beside_dicom_files_are_still_read(tmp_path):
    write_dicom(tmp_path / 'IM1', cine())
    cv2.imwrite(str(tmp_path / 'b.png'), cine(1)[0].astype(np.uint8))
    assert read_tree(tmp_path)[0] == {'IM1', 'b.png'}
