"""Sets of boxes in anybody's folder: Pascal VOC files beside their images, and COCO files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError, did_you_mean
from vasomim.frames.layout import composed, list_images
from vasomim.prepare.coco import check_used, load_coco, read_coco
from vasomim.prepare.grouping import patients, series
from vasomim.prepare.plan import Frame, Instance, Plan, Repairs
from vasomim.prepare.published import Report, is_simulated
from vasomim.prepare.splitting import Choices, own_splits
from vasomim.prepare.voc import read_voc

COCO_PLACES = ('*.json', 'annotations/*.json', '*/_annotations.coco.json')
"""Where COCO files lie in anybody's folder; the last is Roboflow's layout, with the images beside them."""


def read_voc_folder(
    name: str, root: Path, classes: tuple[str, ...] | None, choices: Choices, report: Report | None = None
) -> Plan:
    """Read images with Pascal VOC files of their names, anywhere below a folder.

    Args:
        name: Of the set.
        root: The folder.
        classes: The published ones; None: those that occur.
        choices: How to split.
        report: Called with (files read, files in all).

    Raises:
        DatasetError: If a file has no image or is damaged, or a class is not published.
    """
    repairs = Repairs()
    images: dict[str, Path] = {}
    for relative in list_images(root):
        stem = composed(Path(relative).stem)
        if stem in images:
            raise DatasetError(root / relative, f'{images[stem]} has the same name.', 'Rename one of them.')
        images[stem] = root / relative
    files = {composed(path.stem): path for path in sorted(root.rglob('*.xml')) if not path.name.startswith('.')}
    lone = sorted(set(files) - set(images))
    if lone:
        what = f'this annotation has no image of its name, one of {len(lone)} such files in {len(files)}.'
        raise DatasetError(files[lone[0]], what, 'Unpack the archive again, or take the file away.')
    for stem in sorted(set(images) - set(files)):
        repairs.add('images without an annotation file left out', stem)
    read = {}
    for number, (stem, path) in enumerate(files.items(), start=1):
        read[stem] = read_voc(path, images[stem], repairs)
        if report:
            report(number, len(files))
    found = Counter(label for _, objects in read.values() for label, _ in objects)
    classes = classes or tuple(sorted(found))
    for stem, (_, objects) in read.items():
        for label, _ in objects:
            if label not in classes:
                hint = did_you_mean(label, classes) or did_you_mean(label.capitalize(), classes)
                raise DatasetError(files[stem], f"there is no class '{label}'.{hint}", f'Known: {", ".join(classes)}.')
    if not found:
        why = '; '.join(repairs.lines()) or 'none holds an object'
        raise DatasetError(root, f'no annotation file holds a usable box: {why}.', 'Correct or unpack them again.')
    names = list(files)
    split_of, rule = own_splits(names, patients(names), 'patient', 833 / 8325, choices)
    frames = tuple(
        Frame(
            stem,
            split_of[stem],
            images[stem],
            instances=tuple(Instance(classes.index(label) + 1, box) for label, box in objects),
            size=size,
        )
        for stem, (size, objects) in read.items()
    )
    return Plan(name, classes, frames, False, True, rule, None, repairs, is_simulated(root))


@dataclass(frozen=True)
class CocoFile:
    """A COCO file, the split that its place says ('' if none), and the folder of its images."""

    path: Path
    split: str
    images: Path


SPLIT_OF = {'train': 'train', 'val': 'val', 'valid': 'val', 'test': 'test'}
"""Names of files or folders that tell a split."""


def coco_files(root: Path) -> list[CocoFile]:
    """Find the COCO files of a folder.

    In Roboflow's layout they are ``{train,valid,test}/_annotations.coco.json`` with the images beside them. Else they
    lie in the folder or in its ``annotations/``, as {train,val,test}.json or a single one of another name, and the
    images in ``images/`` if there is that.
    """
    *places, beside_images = COCO_PLACES
    found = [CocoFile(path, SPLIT_OF.get(path.parent.name, ''), path.parent) for path in root.glob(beside_images)]
    if not found:
        images = root / 'images' if (root / 'images').is_dir() else root
        paths = (path for place in places for path in root.glob(place))
        found = [CocoFile(path, SPLIT_OF.get(path.stem, ''), images) for path in paths]
    return sorted(found, key=lambda file: file.path)


def read_coco_folder(root: Path, files: list[CocoFile], choices: Choices) -> Plan:
    """Read images with COCO files; their categories, which have to agree, become classes in the order of the ids.

    Raises:
        DatasetError: If categories differ between files, or an image stands in two of them.
    """
    repairs = Repairs()
    by_split = [file for file in files if file.split]
    used = by_split or files
    if len(used) > len({file.split for file in used}):
        names = ', '.join(file.path.relative_to(root).as_posix() for file in used)
        raise DatasetError(root, f'several COCO files: {names}.', 'Name them train.json, val.json and test.json.')
    contents = without_groups([load_coco(file.path) for file in used], repairs)
    categories: dict[int, str] = {}
    frames: list[Frame] = []
    for file, content in zip(used, contents, strict=True):
        check_used(file.path, content)
        own = {entry['id']: str(entry['name']) for entry in content['categories']}
        categories = categories or own
        if own != categories:
            what = f'its categories {own} are not those of the other files, {categories}.'
            raise DatasetError(file.path, what, 'Export the files together.')
        order = {number: place for place, number in enumerate(sorted(categories), start=1)}
        label = file.path.relative_to(root).as_posix()
        for image in read_coco(
            file.path, file.images, content, order.get, repairs, choices.skip_missing, label, painted=False
        ):
            name = os.path.splitext(image.place)[0].replace('/', '_')
            frames.append(Frame(name, file.split, image.path, None, image.instances, image.size))
    twice = [name for name, times in Counter(frame.name for frame in frames).items() if times > 1]
    if twice:
        what = f"'{twice[0]}' stands in two COCO files, or twice in one, or two images would be called so."
        raise DatasetError(root, what, 'List each image once, and rename one of two.')
    classes = tuple(categories[number] for number in sorted(categories))
    rule = f'files {", ".join(file.path.relative_to(root).as_posix() for file in by_split)}'
    if not by_split:
        names_of_frames = [frame.name for frame in frames]
        split_of, rule = own_splits(names_of_frames, series(names_of_frames), 'series', 0.2, choices)
        frames = [replace(frame, split=split_of[frame.name]) for frame in frames]
    return Plan('folder', classes, tuple(frames), False, True, rule, None, repairs)


def without_groups(contents: Sequence[dict[str, Any]], repairs: Repairs) -> list[dict[str, Any]]:
    """Return COCO files without the categories that nobody has drawn and that only group others.

    Roboflow's files begin with one, which is often called like a class.
    """
    drawn = {entry['category_id'] for content in contents for entry in content['annotations']}
    cleaned = []
    for content in contents:
        above = [(entry['id'], entry.get('supercategory')) for entry in content['categories']]
        groups = [
            entry
            for entry in content['categories']
            if entry['id'] not in drawn
            and entry.get('supercategory') != entry['name']  # A class that is its own group, as COCO's person is.
            and any(number != entry['id'] and group == entry['name'] for number, group in above)
        ]
        cleaned.append(content | {'categories': [entry for entry in content['categories'] if entry not in groups]})
        for entry in groups:
            repairs.add('categories that only group others left out', f'{entry["id"]}: {entry["name"]}')
    return cleaned
