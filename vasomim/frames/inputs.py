"""What a model is applied to: an image, a DICOM file of one frame or many, or a tree of both, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vasomim.errors import DatasetError, printable
from vasomim.frames.dicom import DICOM_SUFFIXES, find_dicom, passes_for_dicom, read_frames, read_groups
from vasomim.frames.images import read_grey
from vasomim.frames.layout import IMAGE_SUFFIXES, SHOWN, existing_folder, is_unread, series_key, walk


@dataclass(frozen=True)
class Frame:
    """A frame and where it comes from.

    Attributes:
        source: File, relative to the folder that was named, with forward slashes.
        index: Number within a cine, from 0; None for a file of a single frame.
        target: Name for what is made of it, NAME.png or NAME_0000.png, relative as ``source``.
        pixels: Grey levels, uint8 (H, W).
    """

    source: str
    index: int | None
    target: str
    pixels: np.ndarray


def list_sources(
    source: str | Path,
    without: str | Path | None = None,
    not_images: list[str] | None = None,
    unread: list[str] | None = None,
) -> tuple[Path, list[str]]:
    """Find images and DICOM files.

    Args:
        source: A file, or a folder with sub-folders or without. DICOM files are known by their content, damaged ones
            by their names.
        without: A folder to leave out, if it lies below ``source``.
        not_images: Gets the DICOM files of a folder that are none, such as reports, segmentations and doses.
        unread: Gets the pictures and cines of a folder that are of kinds that are not read.

    Returns:
        The folder, and the files relative to it, cine series by cine series.

    Raises:
        DatasetError: If the source does not exist or holds neither.
    """
    source = Path(source).expanduser()
    if source.is_file():
        return source.parent, [source.name]
    root = existing_folder(source)
    files = list(walk(root, '', without))
    names = [name for name in files if is_image(name)]
    for name in find_dicom(root, (name for name in files if not is_image(name))):
        if holds_image(root / name):
            names.append(name)
        elif not_images is not None:
            not_images.append(name)
    if unread is not None:
        unread.extend(sorted(name for name in set(files).difference(names, not_images or ()) if is_unread(name)))
    if not names:
        raise DatasetError(
            root,
            f'neither images nor DICOM files among its {len(files)} files.' if files else 'the folder is empty.',
            f'Name a folder with frames as {", ".join(IMAGE_SUFFIXES)} or DICOM, in sub-folders or not.',
        )
    return root, sorted(names, key=series_key)


def holds_image(path: Path) -> bool:
    """Return whether a DICOM file is an image; one that cannot be read counts as one, and fails when its turn comes."""
    try:
        return read_groups(path).image
    except DatasetError:
        return True


def left_out(not_images: Sequence[str]) -> str:
    """Return a line that names DICOM files without an image."""
    shown = ', '.join(map(printable, not_images[:SHOWN])) + (', ...' if len(not_images) > SHOWN else '')
    are = 'file is no image' if len(not_images) == 1 else 'files are no images'
    return printable(f'{len(not_images)} DICOM {are}, and left out: {shown}')


def read_source(root: Path, name: str) -> Iterator[Frame]:
    """Yield the frames of a file.

    Raises:
        DatasetError: If it is damaged.
        StackError: If it is DICOM and pydicom is not installed.
    """
    path = root / name
    stem, ending = os.path.splitext(name)
    if not passes_for_dicom(path):
        yield Frame(name, None, stem + '.png', read_grey(path))
        return
    if ending.lower() not in (*DICOM_SUFFIXES, *IMAGE_SUFFIXES):
        stem = name  # Names such as 1.2.840.10008 have no ending.
    first = None
    try:
        for number, pixels in enumerate(read_frames(path)):
            if number == 0:
                first = pixels  # Whether the file holds one frame or many shows at the second.
                continue
            if first is not None:
                yield Frame(name, 0, f'{stem}_0000.png', first)
                first = None
            yield Frame(name, number, f'{stem}_{number:04d}.png', pixels)
    except DatasetError:
        if first is not None:  # There is a second one, which cannot be read.
            yield Frame(name, 0, f'{stem}_0000.png', first)
        raise
    if first is not None:
        yield Frame(name, None, f'{stem}.png', first)


def read_sources(root: Path, names: list[str], damaged: list[DatasetError] | None = None) -> Iterator[Frame]:
    """Yield the frames of files.

    Args:
        root: The folder.
        names: The files in it.
        damaged: Gets the error of each file that cannot be read, or not to its end, and the others follow; without it
            the first one is raised.

    Raises:
        DatasetError: As :func:`read_source`, and if two frames would get the same name.
    """
    taken: dict[str, str] = {}
    for name in names:
        frames = read_source(root, name)
        while True:
            try:
                frame = next(frames, None)
            except DatasetError as error:
                if damaged is None:
                    raise
                damaged.append(error)
                break
            if frame is None:
                break
            if frame.target in taken:
                what = f'{taken[frame.target]} and {name} would both become {frame.target}.'
                raise DatasetError(root, what, 'Rename or remove one of them.')
            taken[frame.target] = name
            yield frame


def tell_damaged(damaged: Sequence[DatasetError], files: int) -> int:
    """Print which of the files could not be read; return the exit status, 1 if there are any."""
    if damaged:
        print(f'{len(damaged)} of {files} files cannot be read, or not to their end:')
        for error in damaged:
            print(printable(f'  {error.where}: {error.what}'))
    return int(bool(damaged))


def refuse_all_damaged(root: Path, files: int, damaged: list[DatasetError]) -> None:
    """Raise if no frame came out of any file, with what is wrong with the first of them.

    Args:
        root: The folder.
        files: Number of files in it.
        damaged: The error of each.

    Raises:
        DatasetError: If there are errors.
    """
    if len(damaged) == 1 == files:
        raise damaged[0]
    if damaged:
        raise DatasetError(root, f'none of its {files} files can be read.', f'The first: {damaged[0]}')


def is_image(name: str) -> bool:
    """Return whether a name is that of an image that is not DICOM."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
