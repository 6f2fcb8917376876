"""Check prepared sets: files, splits, masks, boxes, published counts, and frames that lie on two sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from vasomim.errors import DatasetError, printable
from vasomim.frames.images import read_grey
from vasomim.frames.layout import list_images
from vasomim.prepare.catalog import find_set
from vasomim.prepare.coco import check_used, load_coco, wrong_boxes
from vasomim.prepare.grouping import series
from vasomim.prepare.plan import SPLITS
from vasomim.prepare.prepared import (
    boxes_path,
    hash_names,
    image_path,
    mask_path,
    read_description,
    read_split,
    split_path,
)
from vasomim.prepare.similarity import SIDE, THRESHOLD, describe_frame, describe_frames, similar_pairs

Report = Callable[[int, int], None]


@dataclass
class Findings:
    """What a check found: errors make a set unfit, warnings need a decision, notes are for reading."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OpenSet:
    """A prepared set whose description and lists could be read."""

    root: Path
    description: dict[str, Any]
    names: dict[str, list[str]]


def some(places: Sequence[object], shown: int = 3) -> str:
    """Return the number of places and the first of them: '12: a, b, c, ...'."""
    first = ', '.join(printable(place) for place in places[:shown])
    return f'{len(places)}: {first}{", ..." if len(places) > shown else ""}'


def check_set(root: Path, findings: Findings, partial: bool = False, report: Report | None = None) -> OpenSet | None:
    """Check one prepared set by itself.

    Args:
        root: Its folder.
        findings: Gets what is found.
        partial: Whether the set is meant to be a part of the published one, so that counts do not matter.
        report: Called with (frames done, frames in all).

    Returns:
        The set, or None if its description or lists cannot be read.
    """
    try:
        description = read_description(root)
        opened = OpenSet(root, description, {split: read_split(root, split) for split in SPLITS})
    except DatasetError as error:
        findings.errors.append(str(error))
        return None
    check_splits(opened, findings)
    check_counts(opened, findings, partial)
    check_files(opened, findings, report)
    if description['boxes']:
        for split in SPLITS:
            try:
                check_boxes(opened, split, findings)
            except DatasetError as error:
                findings.errors.append(str(error))
    for kind, places in description.get('repairs', {}).items():
        findings.warnings.append(f'{root}: on preparation, {kind}, {some(places)}')
    return opened


def check_splits(opened: OpenSet, findings: Findings) -> None:
    """Check that lists are those prepared, and that no split is empty and no frame or series lies in two."""
    for split, digest in opened.description.get('lists', {}).items():
        if split in opened.names and hash_names(opened.names[split]) != digest:
            findings.errors.append(f'{split_path(opened.root, split)}: it is not the list that was prepared.')
    for first, second in combinations(SPLITS, 2):
        both = sorted(set(opened.names[first]) & set(opened.names[second]))
        if both:
            findings.errors.append(f'{opened.root}: frames in both {first} and {second}, {some(both)}')
    for split, names in opened.names.items():
        if not names:
            findings.warnings.append(f'{opened.root}: the split {split} is empty.')
    known = find_set(opened.description['name'])
    if known and not known[1].series:
        return
    sides: dict[str, set[str]] = defaultdict(set)
    for split, names in opened.names.items():
        for name, group in series(names).items():
            if group != name:
                sides[group].add(split)
    torn = sorted(group for group, splits in sides.items() if len(splits) > 1)
    if torn:
        findings.warnings.append(f'{opened.root}: series of frames in more than one split, {some(torn)}')


def check_counts(opened: OpenSet, findings: Findings, partial: bool) -> None:
    """Compare the numbers of frames and objects with the published ones."""
    name, counts = opened.description['name'], opened.description['counts']
    for split in SPLITS:
        if counts[split]['frames'] != len(opened.names[split]):
            what = f'{len(opened.names[split])} frames instead of the {counts[split]["frames"]} that were prepared.'
            findings.errors.append(f'{opened.root}: {split} lists {what}')
    known = find_set(name)
    if opened.description.get('synthetic') or partial or known is None:
        return
    frames = {split: len(names) for split, names in opened.names.items()}
    objects = {split: counts[split].get('instances', 0) for split in SPLITS}
    for numbers in (frames, objects):
        numbers |= {'all': sum(numbers.values()), 'train and val': numbers['train'] + numbers['val']}
    for unit, published, found in (
        ('frames', known[1].frames, frames),
        ('objects', known[1].objects, objects),
    ):
        for part, number in published.items():
            if found[part] != number:
                what = f'{found[part]} {unit} in {part}; published are {number} (--partial if that is meant).'
                findings.errors.append(f'{opened.root}: {what}')
            else:
                findings.notes.append(f'{opened.root}: {number} {unit} in {part}, as published.')


def check_files(opened: OpenSet, findings: Findings, report: Report | None) -> None:
    """Read every image and mask: sizes, values, empty masks, classes that a split lacks."""
    root, classes = opened.root, len(opened.description['classes'])
    missing, damaged, unequal, values, empty, full = [], [], [], [], [], []
    frames = [(split, name) for split, names in opened.names.items() for name in names]
    used: dict[str, Counter[int]] = {split: Counter() for split in SPLITS}
    for number, (split, name) in enumerate(frames, start=1):
        paths = [image_path(root, name)] + ([mask_path(root, name)] if opened.description['masks'] else [])
        lacking = [str(path) for path in paths if not path.is_file()]
        missing += lacking
        if not lacking:
            try:
                pixels = [read_grey(path) for path in paths]
            except DatasetError as error:
                damaged.append(f'{error.where} ({error.what})')
                continue
            if len(pixels) == 2:
                if pixels[0].shape != pixels[1].shape:
                    unequal.append(str(paths[1]))
                found = np.flatnonzero(np.bincount(pixels[1].ravel(), minlength=1)).tolist()
                used[split].update(found)
                if found[-1] > classes:
                    values.append(f'{paths[1]} (holds {found[-1]}, classes are 0 to {classes})')
                if found == [0]:
                    empty.append(name)
                if np.count_nonzero(pixels[1]) > pixels[1].size / 2:
                    full.append(name)
        if report:
            report(number, len(frames))
    for what, places in (
        ('files are missing', missing),
        ('files cannot be read', damaged),
        ('masks have another size than their images', unequal),
        ('masks hold values that are no class', values),
    ):
        if places:
            findings.errors.append(f'{root}: {what}, {some(places)}')
    if empty:
        findings.warnings.append(f'{root}: masks without foreground, {some(empty)}')
    if full:
        findings.warnings.append(f'{root}: masks with more foreground than background (inverted?), {some(full)}')
    if opened.description['masks']:
        for split, names in opened.names.items():
            lacking = [
                label for number, label in enumerate(opened.description['classes'], 1) if not used[split][number]
            ]
            if names and lacking:
                findings.warnings.append(f'{root}: classes that {split} never shows, {some(lacking)}')


def check_boxes(opened: OpenSet, split: str, findings: Findings) -> None:
    """Check the COCO file of a split against its list, its categories, and the sizes it names.

    Raises:
        DatasetError: If the file cannot be read or has unknown categories.
    """
    path = boxes_path(opened.root, split)
    content = load_coco(path)
    check_used(path, content)
    categories = [str(entry['name']) for entry in sorted(content['categories'], key=lambda entry: entry['id'])]
    if categories != opened.description['classes']:
        findings.errors.append(f'{path}: its categories are {categories}, not {opened.description["classes"]}.')
    listed = {Path(image['file_name']).stem for image in content['images']}
    if listed != set(opened.names[split]):
        odd = sorted(listed ^ set(opened.names[split]))
        findings.errors.append(f'{path}: frames either in it or in the list of the split, not in both, {some(odd)}')
    wrong = wrong_boxes(content)
    if wrong:
        findings.errors.append(f'{path}: boxes without size, outside their image or of no image, ids {some(wrong)}')
    bare = {image['id'] for image in content['images']} - {entry['image_id'] for entry in content['annotations']}
    if bare:
        findings.warnings.append(f'{path}: {len(bare)} frames without a box.')


@dataclass(frozen=True)
class Gallery:
    """Frames of several sets, each name once, with what they are compared by."""

    names: list[str]
    splits: list[str]
    digests: list[str]
    copies: np.ndarray


def gather(sets: Sequence[OpenSet], report: Report | None = None) -> Gallery:
    """Describe the frames of sets; one that two sets of one dataset share by name, as ARCADE's do, counts once."""
    place: dict[str, tuple[str, Path]] = {}
    names_of_sets = [opened.description['name'] for opened in sets]
    origins = {known[0].name if (known := find_set(name)) else '' for name in names_of_sets}
    shared = len(set(names_of_sets)) == len(sets) and len(origins) == 1 and '' not in origins
    for opened in sets:
        for split, names in opened.names.items():
            for name in names:
                # Frames of other sets may be called alike and be others.
                key = name if shared or len(sets) == 1 else f'{opened.root}/{name}'
                path = image_path(opened.root, name)
                if path.is_file():
                    place.setdefault(key, (split, path))
    names = list(place)
    digests, copies = describe_frames([place[name][1] for name in names], report)
    return Gallery(names, [place[name][0] for name in names], digests, copies)


def find_similar(gallery: Gallery, threshold: float = THRESHOLD) -> list[tuple[str, str, float]]:
    """Return the pairs of frames in a gallery that are nearly the same, each once, sorted by name."""
    pairs = [
        (*sorted((gallery.names[row], gallery.names[column])), round(value, 4))
        for row, column, value in similar_pairs(gallery.copies, gallery.copies, threshold)
        if row < column
    ]
    return sorted(pairs)  # type: ignore[arg-type]


def check_leaks(
    gallery: Gallery, pairs: Sequence[tuple[str, str, float]], excluded: Sequence[str], findings: Findings
) -> None:
    """Report frames of one split that are, or nearly are, in another.

    Those of a test split are errors; those of training and validation are warnings, which the readers' ``exclude``
    answers.

    Args:
        gallery: The frames.
        pairs: Of :func:`find_similar`.
        excluded: What ``exclude`` would leave out, to be named.
        findings: Gets what is found.
    """
    split_of = dict(zip(gallery.names, gallery.splits, strict=True))
    digest_of = dict(zip(gallery.names, gallery.digests, strict=True))
    between: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for first, second, _ in pairs:
        splits = sorted((split_of[first], split_of[second]), key=SPLITS.index)
        between[splits[0], splits[1]].append((first, second))
    for (one, other), found in sorted(between.items()):
        same = [f'{a} = {b}' for a, b in found if digest_of[a] == digest_of[b]]
        near = [f'{a} ~ {b}' for a, b in found if digest_of[a] != digest_of[b]]
        if one == other:
            findings.notes.append(f'within {one}: {len(same)} pairs identical, {len(near)} nearly so.')
            continue
        into = findings.errors if 'test' in (one, other) else findings.warnings
        if same:
            into.append(f'identical frames in {one} and {other}, {some(same)}')
        if near:
            into.append(f'nearly identical frames in {one} and {other}, {some(near)}')
    if excluded:
        findings.notes.append(
            f'{len(excluded)} training frames resemble a frame of another split; see --write-exclusions.'
        )


def exclusions(
    gallery: Gallery, pairs: Sequence[tuple[str, str, float]], threshold: float = THRESHOLD
) -> dict[str, Any]:
    """Return the list that the readers' ``exclude`` takes: training frames that resemble an evaluation frame.

    Args:
        gallery: The frames.
        pairs: Of :func:`find_similar`.
        threshold: That of the pairs, to be stored.

    Returns:
        ``exclude``, the sorted names as in the sets' lists; ``pairs``, those of different tasks or splits; ``side`` and
        ``threshold``.
    """
    split_of = dict(zip(gallery.names, gallery.splits, strict=True))
    across = [pair for pair in pairs if prefix(pair[0]) != prefix(pair[1])]
    crossing = [(a, b) for a, b, _ in pairs if split_of[a] != split_of[b]]
    excluded = {name.rpartition('/')[2] for pair in crossing for name in pair if split_of[name] == 'train'}
    return {'side': SIDE, 'threshold': threshold, 'exclude': sorted(excluded), 'pairs': [list(pair) for pair in across]}


def prefix(name: str) -> str:
    """Return what a name holds in front of its number: 'syntax_train_' of 'syntax_train_12'."""
    return name.rstrip('0123456789')


def check_corpus(
    corpus: Path, gallery: Gallery, threshold: float, findings: Findings, report: Report | None = None
) -> None:
    """Look for the test frames of a gallery in a folder of frames to pre-train on; block by block.

    Raises:
        DatasetError: If the folder holds no frames.
    """
    tests = [number for number, split in enumerate(gallery.splits) if split == 'test']
    by_digest = {gallery.digests[number]: gallery.names[number] for number in tests}
    copies = gallery.copies[tests]
    names = list_images(corpus)
    same, near = [], []
    damaged = []
    for number, name in enumerate(names, start=1):
        try:
            digest, copy = describe_frame(corpus / name)
        except DatasetError as error:
            damaged.append(f'{name} ({error.what})')
            continue
        if digest in by_digest:
            same.append(f'{name} = {by_digest[digest]}')
        else:
            near += [
                f'{name} ~ {gallery.names[tests[row]]}' for row, _, _ in similar_pairs(copies, copy[None], threshold)
            ]
        if report:
            report(number, len(names))
    if same:
        findings.errors.append(f'{corpus}: test frames to pre-train on, {some(same)}')
    if near:
        findings.errors.append(f'{corpus}: frames to pre-train on that nearly are test frames, {some(near)}')
    if damaged:
        findings.warnings.append(f'{corpus}: files cannot be read, {some(damaged)}')
    findings.notes.append(f'{corpus}: {len(names)} frames compared with {len(tests)} test frames.')
