"""Read DICOM files as 8-bit grey frames; what they tell of the patient stays in them."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.files import open_at_once
from vasomim.frames.dicom_header import START, Header, looks_like_dicom, opened, uid_name
from vasomim.frames.dicom_pixels import COLOR, Layout, read_layout, read_stored
from vasomim.frames.grey_levels import Mapping, find_mapping

PIXEL_TAGS = [
    *('NumberOfFrames', 'Rows', 'Columns', 'SamplesPerPixel', 'PhotometricInterpretation', 'PlanarConfiguration'),
    *('BitsAllocated', 'BitsStored', 'HighBit', 'PixelRepresentation', 'ExtendedOffsetTable'),
    *('RescaleSlope', 'RescaleIntercept', 'ModalityLUTSequence', 'WindowCenter', 'WindowWidth', 'VOILUTFunction'),
    *('VOILUTSequence', 'SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence'),
]
GROUP_TAGS = ['PatientID', 'StudyInstanceUID', 'PhotometricInterpretation']

INDEX_FILE = 'DICOMDIR'  # Lists the files of a medium; holds no frames itself.
DICOM_SUFFIXES = ('.dcm', '.dicom', '.ima')

KEY = secrets.token_bytes(16)  # Of this process, so that nobody can compare its pseudonyms with identifiers.


@dataclass(frozen=True)
class Groups:
    """What a file belongs to, and whether it is an image.

    Attributes:
        patient: Pseudonym that holds within this process only; '' where the file does not say.
        study: As ``patient``.
        image: False for reports, segmentations, doses and the like; True for an image that lost its pixels, which is
            damage.
    """

    patient: str
    study: str
    image: bool


def is_dicom(path: str | Path) -> bool:
    """Return whether a file is DICOM by its content; False for a folder, a pipe or what cannot be read."""
    return looks_like_dicom(first_bytes(path))


def passes_for_dicom(path: str | Path) -> bool:
    """Return whether a file is DICOM by its content, or was by its name before it was damaged.

    The endings of DICOM stand for it whatever the file holds. A name without an ending, as on media, does where the
    file cannot be opened, is empty or begins with zeros; see :func:`find_dicom` for those in a folder.
    """
    start = first_bytes(path)
    return looks_like_dicom(start) or has_dicom_ending(path) or (has_no_ending(path) and tells_nothing(start))


def first_bytes(path: str | Path) -> bytes:
    """Return the first bytes of a regular file; none for anything else, such as a folder or a pipe."""
    try:
        with open(path, 'rb', opener=open_at_once) as file:
            return file.read(START) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b''
    except (OSError, ValueError):  # ValueError: a zero byte in its name.
        return b''


def has_dicom_ending(name: str | Path) -> bool:
    """Return whether a name ends as DICOM files do."""
    return os.path.splitext(name)[1].lower() in DICOM_SUFFIXES


def has_no_ending(name: str | Path) -> bool:
    """Return whether a name has no ending, as on media, or ends with a number, as UIDs do."""
    ending = os.path.splitext(name)[1][1:]
    return not ending or ending.isdigit()


def tells_nothing(start: bytes) -> bool:
    """Return whether the first bytes of a file leave open what it was."""
    return not start.strip(b'\0')


def find_dicom(root: Path, names: Iterable[str]) -> list[str]:
    """Return which files of a folder are DICOM, or were before they were damaged, but the index of a medium.

    As :func:`passes_for_dicom`, but a file that tells nothing counts only where the same folder has a DICOM file
    without an ending.

    Args:
        root: The folder.
        names: Files in it.
    """
    found, doubtful, folders = [], set(), set()
    for name in names:
        start = first_bytes(root / name) if Path(name).name != INDEX_FILE else b'index'
        if looks_like_dicom(start) or has_dicom_ending(name):
            found.append(name)
            if has_no_ending(name):
                folders.add(os.path.dirname(name))
        elif has_no_ending(name) and tells_nothing(start):
            found.append(name)
            doubtful.add(name)
    return [name for name in found if name not in doubtful or os.path.dirname(name) in folders]


def read_frames(path: str | Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a file, one after the other, all by the same mapping to grey levels.

    Stored values are rescaled (slope and intercept), then mapped by the first window of the file, by its function, or
    by its first VOI look-up table where it has no window. Without either, 8-bit frames stay as they are, and in deeper
    ones the lowest value of the whole cine becomes 0 and the highest 255, which reads the file twice. MONOCHROME1 is
    inverted; color becomes luminance. Modality look-up tables of angiograms, and of files that do not say what
    they are, are not applied: they linearize the exposure and are not for display.

    Args:
        path: DICOM file, of one frame or many. Compressed ones are read as far as pydicom's plugins here can.

    Yields:
        uint8 (H, W).

    Raises:
        DatasetError: If the file is missing, no DICOM, no image, holds no frames, is damaged, or would become one grey
            level; frames in front of damage come first. If no plugin here decodes its compression.
        StackError: If pydicom is not installed.

    Source: DICOM PS3.3, C.7.6.3 and C.11.2.1.2 (windows).
    """
    with opened(path, PIXEL_TAGS) as header:
        if is_image_class(header.sop_class) is False:
            what = f"it is no image, but of the class '{uid_name(header.sop_class)}'."
            raise DatasetError(path, what, 'Leave it out.')
        layout = read_layout(header)
        mapping = None
        for stored in read_stored(header, layout):
            if layout.photometric in COLOR:
                yield cv2.cvtColor(np.ascontiguousarray(stored), cv2.COLOR_RGB2GRAY)  # type: ignore[misc]
                continue
            if mapping is None:
                mapping = find_mapping(header, lambda: stored_range(header, layout))
                if few_levels(mapping(stored)):
                    refuse_flattening(header, layout, mapping)
            yield mapping(stored)


def read_groups(path: str | Path) -> Groups:
    """Return what a file belongs to, to keep the frames of a patient together, and whether it is an image.

    Raises:
        DatasetError: If the file is missing, no DICOM or damaged in its header.
        StackError: If pydicom is not installed.
    """
    with opened(path, GROUP_TAGS) as header:
        keys = [header.text(tag) for tag in GROUP_TAGS]
        patient, study = (
            hashlib.blake2b(key.encode(errors='surrogatepass'), key=KEY, digest_size=16).hexdigest() if key else ''
            for key in keys[:2]
        )
        image = is_image_class(header.sop_class)
        # Of a class that is private or unknown it is one if it describes pixels; without a class it is cut off.
        return Groups(patient, study, image=bool(keys[2]) or not header.sop_class if image is None else image)


def is_image_class(sop_class: str) -> bool | None:
    """Return whether objects of a class are images; None if the class is not known.

    Segmentations, parametric maps and doses have pixels too, but are none: the standard calls the others images.
    """
    name = uid_name(sop_class)
    return 'Image Storage' in name if 'Storage' in name else None


def stored_range(header: Header, layout: Layout) -> tuple[int, int]:
    """Return the lowest and the highest stored value of all frames that can be decoded; at least one can."""
    low, high = [], []
    try:
        for stored in read_stored(header, layout):
            low.append(int(stored.min()))
            high.append(int(stored.max()))
    except DatasetError:
        if not low:
            raise
    return min(low), max(high)


def few_levels(values: NDArray) -> bool:
    """Return whether an image has two different values at most."""
    return int(np.count_nonzero(values == values.min()) + np.count_nonzero(values == values.max())) >= values.size


def refuse_flattening(header: Header, layout: Layout, mapping: Mapping) -> None:
    """Raise if no frame gets more than two grey levels though more values are stored, or one though they differ.

    Raises:
        DatasetError: If so: the window or the slope of the file is wrong, or a step.
    """
    values: set[int] = set()
    levels: set[int] = set()
    try:
        for stored in read_stored(header, layout):
            frame = mapping(stored)
            if not few_levels(frame):
                return
            levels.update((int(frame.min()), int(frame.max())))
            if len(values) < 3:
                values.update(np.unique(stored)[:3].tolist())
    except DatasetError:  # It is raised again when its frame is reached.
        pass
    if len(levels) < min(len(values), 3):
        what = f'all of it would become {len(levels)} grey level{"s"[: len(levels) - 1]}, though its values differ.'
        raise DatasetError(header.path, what, 'Correct its window and its rescale slope, or leave it out.')
