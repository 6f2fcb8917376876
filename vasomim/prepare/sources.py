"""The sources of frames to pre-train on, as published: which files there are, and what each belongs to."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.frames.dicom import find_dicom, read_groups
from vasomim.frames.layout import ANATOMY_SUFFIX, IMAGE_SUFFIXES, list_images, series_key, walk
from vasomim.prepare.grouping import patients
from vasomim.prepare.plan import SPLITS
from vasomim.prepare.prepared import DESCRIPTION, image_path, read_split

KINDS = ('cadica', 'syntax', 'xcad', 'coronarydominance', 'arcade', 'folder', 'dicom')

PUBLISHED: dict[str, dict[str, int]] = {
    'cadica': {'frames': 6594, 'patients': 42},
    'syntax': {'frames': 2943, 'patients': 231},
    'xcad': {'frames': 1621},
    'coronarydominance': {'frames': 160320, 'patients': 1574},
    'arcade': {'frames': 2400},
}
"""Published numbers. Those of patients are studies in CoronaryDominance; ARCADE's frames are train and val of both
tasks."""

ARTERIES = ('LCA', 'RCA')

LONGEST_STEM = 200  # Bytes; the number of a frame, what tells names apart and an ending fit into a file's name with it.

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Unit:
    """One file of a source.

    Attributes:
        path: Where it lies.
        kind: What it is: 'image', or a cine as 'npz' or 'dicom'.
        stem: Name of its frame without ending; of a cine, what its frames' names begin with.
        place: Its path relative to the source.
        patient: Patient or study; '' if the source does not tell.
        series: Frames of one series follow each other.
    """

    path: Path
    kind: str
    stem: str
    place: str
    patient: str
    series: str


@dataclass(frozen=True)
class Selection:
    """What a user may choose of a source.

    Attributes:
        leave_out: Shell patterns of paths relative to the source that stay out.
        group: Regular expression that finds the patient in such a path; None: the source's own rule.
        all_videos: Whether CADICA's videos that its authors did not select are taken too.
    """

    leave_out: tuple[str, ...] = ()
    group: str | None = None
    all_videos: bool = False


def list_units(
    kind: str, root: Path, selection: Selection, report: Report | None = None, not_images: list[str] | None = None
) -> list[Unit]:
    """List the files of a source, series by series.

    Args:
        kind: One of :data:`KINDS`.
        root: The source's folder.
        selection: What to take of it.
        report: Called with (files done, files in all) where files have to be opened.
        not_images: Gets the DICOM files that are none, such as reports; they are no units.

    Raises:
        DatasetError: If the folder does not hold such a source.
        ConfigError: If ``selection.group`` is no regular expression, or does not match a path.
    """
    if kind == 'arcade':
        units = distinct([replace(unit, stem=flat(unit.stem)) for unit in arcade(root)])
    elif kind == 'dicom':
        units = list(dicom(root, selection, report, not_images))
    else:
        units = of_published(kind, root, selection)
    return [  # A name on disk may hold any byte; these are stored and printed.
        replace(unit, place=printable(unit.place), patient=printable(unit.patient), series=printable(unit.series))
        for unit in units
    ]


def of_published(kind: str, root: Path, selection: Selection) -> list[Unit]:
    """List the files of a source of images or arrays."""
    if kind == 'cadica':
        units = list(cadica(root, selection.all_videos))
    elif kind == 'coronarydominance':
        units = list(coronarydominance(root))
    else:
        units = list(images(root, own_patients=kind == 'syntax'))
    units = [unit for unit in units if not left_out(unit.place, selection.leave_out)]
    if not units:
        raise DatasetError(root, 'no frame is left.', 'Correct --leave-out.')
    if selection.group is not None:
        units = [replace(unit, patient=found_group(unit.place, selection.group)) for unit in units]
    return distinct(sorted(units, key=lambda unit: (series_key(unit.stem), unit.place)))


def left_out(place: str, patterns: Iterable[str]) -> bool:
    """Return whether a path matches one of some shell patterns, with a '/' in front of it or without.

    '*' matches '/' too, so that '*/masks/*' means folders of this name on every level.
    """
    return any(fnmatch(place, pattern) or fnmatch(f'/{place}', pattern) for pattern in patterns)


def found_group(place: str, pattern: str) -> str:
    """Return what a user's expression finds in a path: its first group, or all of it.

    Raises:
        ConfigError: If it is no expression, or finds nothing.
    """
    try:
        match = re.search(pattern, place)
    except re.error as error:
        raise ConfigError('--group', f"'{pattern}' is no regular expression: {error}.", 'Try ^([^/]+)/ .') from error
    if match is None:
        what = f"'{pattern}' matches no part of '{place}'."
        raise ConfigError('--group', what, 'Its first group has to find the patient in every path.')
    return match[1] if match.groups() else match[0]


def distinct(units: list[Unit]) -> list[Unit]:
    """Give units of equal names other ones; equal is what a file system that ignores case takes for it."""
    taken = Counter(unit.stem.lower() for unit in units)
    return [
        unit
        if taken[unit.stem.lower()] == 1
        else replace(unit, stem=f'{hashlib.sha256(os.fsencode(unit.place)).hexdigest()[:8]}_{unit.stem}')
        for unit in units
    ]


def flat(path: str) -> str:
    """Return a name for a path: letters, digits, '.', '-' and '_'; none that a file system or a shell trips over."""
    name = re.sub(r'[^\w.-]+', '_', path, flags=re.ASCII).strip('._').lstrip('.-') or 'frame'
    if len(name) <= LONGEST_STEM:
        return name
    # The end tells series and number of a frame.
    return f'{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}_{name[-LONGEST_STEM + 20 :].lstrip(".-_")}'


def cadica(root: Path, all_videos: bool) -> Iterator[Unit]:
    """Yield CADICA's frames, ``selectedVideos/pX/vY/input/pX_vY_NNNNN.png``.

    Raises:
        DatasetError: If there are none.
    """
    folders = ('selectedVideos', 'nonselectedVideos') if all_videos else ('selectedVideos',)
    found = False
    for level in ('', '*/', '*/*/'):
        for path in sorted(file for folder in folders for file in root.glob(f'{level}{folder}/*/*/input/*')):
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'):
                found = True
                patient, video = path.parts[-4:-2]
                place = path.relative_to(root).as_posix()
                yield Unit(path, 'image', flat(path.stem), place, patient, f'{patient}_{video}')
        if found:
            return
    cure = 'Name the folder that holds selectedVideos/pX/vY/input/*.png, or the zip file as downloaded.'
    raise DatasetError(root, "this is not the layout of 'cadica'.", cure)


def coronarydominance(root: Path) -> Iterator[Unit]:
    """Yield CoronaryDominance's cines, ``{Left,Right}_Dominance/<study>/{RCA,LCA}/*.npz``.

    Raises:
        DatasetError: If there are none; the message tells how to unpack archives.
    """
    files = sorted(path for path in root.rglob('*.npz') if not path.name.startswith('.'))
    if not files:
        archives = sorted(root.rglob('*.7z'))
        if archives:
            raise DatasetError(archives[0], f'{len(archives)} archives, but no .npz file.', unpack_line(archives[0]))
        cure = 'Name the folder that holds {Left,Right}_Dominance/<study>/{RCA,LCA}/*.npz.'
        raise DatasetError(root, "this is not the layout of 'coronarydominance'.", cure)
    for path in files:
        place = path.relative_to(root).as_posix()
        parts = path.parts[-4:] if path.parent.name.upper() in ARTERIES else (*place.split('/')[:-1], path.name)
        side = 'left' if 'left' in place.lower() else 'right' if 'right' in place.lower() else 'unknown'
        study = parts[-3] if len(parts) > 2 else ''
        stem = flat('_'.join((side, *parts[-3:-1], path.stem)))
        yield Unit(path, 'npz', stem, place, f'{side}_{study}' if study else '', stem)


def unpack_line(archive: Path) -> str:
    """Return what to do with a 7z archive."""
    return f'Unpack each of them first, for instance `7z x {archive.name} -oFOLDER`, and name FOLDER.'


def arcade(root: Path) -> Iterator[Unit]:
    """Yield ARCADE's frames of train and val, of both tasks, published or prepared; never those of test.

    Raises:
        DatasetError: If there are none.
    """
    found = False
    for level in ('', '*/', '*/*/'):
        for name in ('arcade_v', 'arcade_vs', 'arcade_s'):
            for description in sorted(root.glob(f'{level}{name}/{DESCRIPTION}')):
                if name == 'arcade_vs' and (description.parents[1] / 'arcade_v' / DESCRIPTION).is_file():
                    continue  # The same frames.
                for split in SPLITS[:2]:
                    for stem in read_split(description.parent, split):
                        found = True
                        path = image_path(description.parent, stem)
                        yield Unit(path, 'image', stem, path.relative_to(root).as_posix(), '', '')
        if not found:
            for task in ('syntax', 'stenosis'):
                for split in SPLITS[:2]:
                    paths = root.glob(f'{level}{task}/{split}/images/*')
                    for path in sorted(paths, key=lambda path: (len(path.stem), path.stem)):
                        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'):
                            found = True
                            stem = f'{task}_{split}_{path.stem}'
                            yield Unit(path, 'image', stem, path.relative_to(root).as_posix(), '', '')
        if found:
            return
    cure = 'Name the published tree with {syntax,stenosis}/{train,val}/images, or the DST of `prepare downstream`.'
    raise DatasetError(root, "this is not the layout of 'arcade'.", cure)


def images(root: Path, own_patients: bool) -> Iterator[Unit]:
    """Yield the images of a folder, whose names become those of their paths.

    Args:
        root: The folder.
        own_patients: Whether the folder of an image is its patient, or, in ``root`` itself, its name up to the first
            underscore.

    Raises:
        DatasetError: If there is none.
    """
    for place in list_images(root):
        stem = flat(os.path.splitext(place)[0])
        folder = place.rpartition('/')[0]
        patient = (folder or patients([stem])[stem]) if own_patients else ''
        yield Unit(root / place, 'image', stem, place, patient, series_key(stem)[0])


def dicom(
    root: Path, selection: Selection, report: Report | None = None, not_images: list[str] | None = None
) -> Iterator[Unit]:
    """Yield the DICOM images of a folder, whatever they are called; names and patients are numbers of ours.

    A patient is told by the attribute PatientID, or by the study where that is empty. Files that cannot be read are
    patients of their own; they are listed when their frames are.

    Raises:
        DatasetError: If there is none.
    """
    places = sorted(place for place in walk(root, ANATOMY_SUFFIX, None) if not left_out(place, selection.leave_out))
    places = find_dicom(root, places)
    if not places:
        raise DatasetError(root, 'no DICOM file here.', 'Name a folder of them, in sub-folders or not.')
    numbers: dict[str, int] = {}
    files: Counter[int] = Counter()
    others = [] if not_images is None else not_images
    for done, place in enumerate(places, start=1):
        try:
            groups = read_groups(root / place)
            if not groups.image:
                others.append(place)
                continue
            key = groups.patient or groups.study or place
        except DatasetError:
            key = place
        if selection.group is not None:
            key = found_group(place, selection.group)
        patient = numbers.setdefault(key, len(numbers) + 1)
        files[patient] += 1
        stem = f'p{patient:05d}_c{files[patient]:05d}'
        yield Unit(root / place, 'dicom', stem, place, f'p{patient:05d}', stem)
        if report:
            report(done, len(places))
    if not files:
        what = f'{len(others)} DICOM files, none of which is an image.'
        raise DatasetError(
            root, what, 'Name a folder of angiograms; these are reports, segmentations, doses and the like.'
        )
