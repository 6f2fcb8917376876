"""XCAV, CAXF, the Stenosis set, and anybody's folder: their published layouts, read into plans."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vasomim.errors import ConfigError, DatasetError, did_you_mean
from vasomim.frames.layout import list_images
from vasomim.prepare.coco import check_used, load_coco, read_coco
from vasomim.prepare.grouping import patients, series, split_by_group
from vasomim.prepare.masks import find_grey_values
from vasomim.prepare.plan import SPLITS, Frame, Instance, Plan, Repairs
from vasomim.prepare.published import images_by_stem, refuse_other_sets
from vasomim.prepare.voc import read_voc
from vasomim.synthetic.layouts import BOOKKEEPING

CATHETER = 'CATH'
VESSEL, BACKGROUND = 'vessel', 'background'


@dataclass(frozen=True)
class Choices:
    """What a user may choose where the publisher has not.

    Attributes:
        seed: Of the splits.
        test: Share of the frames for testing, where no list is published; None: the set's own.
        val: Share of the frames for validation, where none is published.
        threshold: Grey levels of a mask above it are foreground; None: masks have two values.
        group: Regular expression whose first group, or whole match, names the patient of a frame.
        skip_missing: Whether listed images that are not on disk are left out.
        label: What the masks of somebody's own folder show; None: vessels.
    """

    seed: int = 0
    test: float | None = None
    val: float = 0.1
    threshold: int | None = None
    group: str | None = None
    skip_missing: bool = False
    label: str | None = None


Report = Callable[[int, int], None]


def own_splits(
    names: list[str], groups: Mapping[str, str], unit: str, test: float, choices: Choices
) -> tuple[dict, str]:
    """Divide frames by their groups; return the split of each, and the rule in words."""
    if choices.group is not None:
        groups, unit = matched(names, choices.group), 'group'
    shares = {'test': test if choices.test is None else choices.test, 'val': choices.val}
    for option, share in shares.items():
        if not 0 <= share < 1 or sum(shares.values()) >= 1:
            raise ConfigError(f'--{option}', f'{share:g} is no share that leaves frames to train on.', 'Try 0.1.')
    number = len(set(groups.values()))
    rule = f'ours: by {unit} ({number} of them), seed {choices.seed}, test {shares["test"]:.3g}, val {choices.val:.3g}'
    if all(name == group for name, group in groups.items()):
        rule += '; neither series nor patients can be told from the names, so leakage cannot be excluded'
    wanted = {split: share for split, share in shares.items() if share}
    return split_by_group(groups, wanted, choices.seed), rule


def matched(names: list[str], pattern: str) -> dict[str, str]:
    """Return the group of each frame by a user's regular expression.

    Raises:
        ConfigError: If it is no regular expression, or does not match a name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError('--group', f"'{pattern}' is no regular expression: {error}.", 'Try ^([^_]+)_ .') from error
    found = {name: compiled.search(name) for name in names}
    wrong = [name for name, match in found.items() if match is None]
    if wrong:
        what = f"'{pattern}' matches no part of {len(wrong)} of {len(names)} names (first: {wrong[0]})."
        raise ConfigError('--group', what, 'Its first group has to find the patient in every name.')
    return {name: match[1] if compiled.groups else match[0] for name, match in found.items() if match}


def read_xcav(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read ``CVAI-NNNN/images/<view>/NNNNN.png`` with ``CVAI-NNNN/ground_truth/<view>/NNNNN.png``.

    Only few frames of a cine have a mask. Masks of vessel and catheter, ``<view>CATH``, are not used.

    Raises:
        DatasetError: If there is no mask, or one without its frame.
    """
    repairs = Repairs()
    found: dict[str, tuple[Path, Path]] = {}
    patient_of: dict[str, str] = {}
    for patient in sorted(root.glob('CVAI-*')):
        truth = patient / 'ground_truth'
        views = sorted(view for view in truth.iterdir() if view.is_dir()) if truth.is_dir() else []
        for view in views:
            masks = images_by_stem(view)
            if view.name.endswith(CATHETER):
                vessels = view.with_name(view.name.removesuffix(CATHETER))
                lone = set(masks) - set(images_by_stem(vessels) if vessels.is_dir() else ())
                for stem in sorted(lone):
                    place = f'{patient.name}/{view.name}/{stem}'
                    repairs.add('frames whose only mask shows vessel and catheter left out', place)
                continue
            images = images_by_stem(patient / 'images' / view.name)
            for stem, mask in masks.items():
                if stem not in images:
                    raise DatasetError(mask, 'this mask has no frame of its name.', 'Unpack the archive again.')
                name = f'{patient.name}_{view.name}_{stem}'
                found[name] = images[stem], mask
                patient_of[name] = patient.name
    if not found:
        raise DatasetError(root, 'no mask of vessels in CVAI-*/ground_truth/<view>.', 'Unpack the archive again.')
    split_of, rule = own_splits(list(found), patient_of, 'patient', 46 / 221, choices)
    frames = tuple(Frame(name, split_of[name], image, mask) for name, (image, mask) in found.items())
    return [mask_plan('xcav', root, frames, rule, repairs, choices, report)]


def mask_plan(
    name: str,
    root: Path,
    frames: tuple[Frame, ...],
    rule: str,
    repairs: Repairs,
    choices: Choices,
    report: Report | None,
) -> Plan:
    """Return the plan of a set with a mask for each frame.

    Raises:
        ConfigError: If ``choices.label`` cannot name what the masks show.
        DatasetError: If they have other than two grey values.
    """
    label = VESSEL if choices.label is None else choices.label.strip()
    if label in ('', BACKGROUND):
        what = f"'{BACKGROUND}' is what no class covers." if label else 'a class needs a name.'
        raise ConfigError('--class', what, 'Name what the masks show, such as stenosis.')
    masks = [frame.mask for frame in frames if frame.mask]
    grey_values = find_grey_values(masks, choices.threshold, report, repairs)
    synthetic = (root / BOOKKEEPING).is_dir()
    return Plan(name, (label,), frames, True, False, rule, grey_values, repairs, synthetic)


def read_caxf(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read ``images/``, ``masks/`` and the owners' lists ``train.txt``, ``test.txt`` and maybe ``val.txt``.

    Raises:
        DatasetError: If a list is missing, or as :func:`read_pairs`.
    """
    for split in ('train', 'test'):
        if not (root / f'{split}.txt').is_file():
            raise DatasetError(
                root / f'{split}.txt', "the owners' list is missing.", 'Ask them for it, or use `folder`.'
            )
    return [read_pairs('caxf', root, choices, report)]


def read_pairs(name: str, root: Path, choices: Choices, report: Report | None = None) -> Plan:
    """Read images and masks of the same names, divided by lists where there are some.

    Raises:
        DatasetError: If an image has no mask or the reverse, or a list names what is not there.
    """
    repairs = Repairs()
    images, masks = images_by_stem(root / 'images'), images_by_stem(root / 'masks')
    for here, there, what in ((images, masks, 'image has no mask'), (masks, images, 'mask has no image')):
        lone = [stem for stem in here if stem not in there]
        if lone:
            kind = what.partition(' ')[0]
            raise DatasetError(
                here[lone[0]],
                f'this {what} of its name, one of {len(lone)} such {kind}s in {len(here)}.',
                f'Add what is missing, or take the {kind} away.',
            )
    split_of, rule = listed_splits(root, list(images), repairs, choices)
    frames = tuple(Frame(stem, split_of[stem], path, masks[stem]) for stem, path in images.items() if stem in split_of)
    return mask_plan(name, root, frames, rule, repairs, choices, report)


def listed_splits(root: Path, names: list[str], repairs: Repairs, choices: Choices) -> tuple[dict[str, str], str]:
    """Return the split of each frame by ``{train,val,test}.txt`` in ``root``, or by our own rule without them.

    Raises:
        DatasetError: If a list cannot be read, or names a frame that is not there or stands in another list.
    """
    paths = {split: root / f'{split}.txt' for split in SPLITS if (root / f'{split}.txt').is_file()}
    if not paths:
        return own_splits(names, series(names), 'series', 0.2, choices)
    split_of: dict[str, str] = {}
    here = set(names)
    for split, path in paths.items():
        try:
            lines = path.read_text(encoding='utf-8-sig').splitlines()  # Windows tools mark UTF-8.
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                path, f'this list cannot be read: {error}.', 'Save it as text, a name a line.'
            ) from error
        for line in lines:
            file = Path(line.strip().replace('\\', '/'))
            stem = file.name if file.name in here else file.stem  # A name may hold dots, as 1.2.840.7 does.
            if not stem or line.startswith('#'):
                continue
            if stem not in here:
                hint = did_you_mean(stem, here)
                raise DatasetError(path, f"lists '{line.strip()}', which is not there.{hint}", 'Correct the list.')
            if split_of.setdefault(stem, split) != split:
                what = f"lists '{line.strip()}', and so does {split_of[stem]}.txt."
                raise DatasetError(path, what, 'A frame belongs to one split.')
    for name in names:
        if name not in split_of:
            repairs.add('frames in no list left out', name)
    rule = f'lists {", ".join(path.name for path in paths.values())}'
    training = [name for name, split in split_of.items() if split == 'train']
    if 'val' not in paths and choices.val and training:
        groups = matched(training, choices.group) if choices.group else series(training)
        split_of |= split_by_group(groups, {'val': choices.val}, choices.seed)
        rule += f'; val is ours: {choices.val:.3g} of train, whole series where names tell them, seed {choices.seed}'
    return split_of, rule


def read_stenosis(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read one folder of ``*.bmp`` frames with Pascal VOC ``*.xml`` (Danilov et al. 2021; Mendeley ydrm75xywg)."""
    return [read_voc_folder('stenosis', root, ('Stenosis',), choices, report)]


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
        stem = Path(relative).stem
        if stem in images:
            raise DatasetError(root / relative, f'{images[stem]} has the same name.', 'Rename one of them.')
        images[stem] = root / relative
    files = {path.stem: path for path in sorted(root.rglob('*.xml')) if not path.name.startswith('.')}
    lone = sorted(set(files) - set(images))
    if lone:
        what = f'this annotation has no image of its name, one of {len(lone)} such files in {len(files)}.'
        raise DatasetError(files[lone[0]], what, 'Unpack the archive again, or take the file away.')
    for stem in sorted(set(images) - set(files)):
        repairs.add('images without an annotation file left out', stem)
    read = {}
    for number, (stem, path) in enumerate(files.items(), start=1):
        read[stem] = read_voc(path, repairs)
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
        raise DatasetError(root, 'no annotation file holds a box.', 'Unpack the archive again.')
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
    synthetic = (root / BOOKKEEPING).is_dir()
    return Plan(name, classes, frames, False, True, rule, None, repairs, synthetic)


def read_folder(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read anybody's folder: ``images/`` and ``masks/``; images with VOC files; or ``images/`` and COCO files.

    COCO files that are named train.json, val.json and test.json, in the folder or in ``annotations/``, are the splits;
    a single file of another name is divided by series.

    Raises:
        DatasetError: If it is none of these, or a set that has a layout of its own.
        ConfigError: If a class is named although the files do that.
    """
    refuse_other_sets(root)
    if (root / 'masks').is_dir() and (root / 'images').is_dir():
        return [read_pairs('folder', root, choices, report)]
    files = sorted([*root.glob('*.json'), *root.glob('annotations/*.json')])
    boxes = bool(files) or any(root.rglob('*.xml'))
    if choices.label is not None and boxes:
        what = 'it names what masks show; here are boxes, and their files name the classes.'
        raise ConfigError('--class', what, 'Leave it out.')
    if files:
        return [read_coco_folder(root, files, choices)]
    if boxes:
        return [read_voc_folder('folder', root, None, choices, report)]
    what = 'neither masks nor boxes were found.'
    cure = 'Put images/ and masks/ there; or images with Pascal VOC .xml files; or images/ and COCO .json files.'
    raise DatasetError(root, what, cure)


def read_coco_folder(root: Path, files: list[Path], choices: Choices) -> Plan:
    """Read ``images/`` with COCO files; their categories, which have to agree, become classes in the order of the ids.

    Raises:
        DatasetError: If categories differ between files, or an image stands in two of them.
    """
    repairs = Repairs()
    by_split = {path.stem: path for path in files if path.stem in SPLITS}
    if not by_split and len(files) > 1:
        names = ', '.join(path.name for path in files)
        raise DatasetError(root, f'several COCO files: {names}.', 'Name them train.json, val.json and test.json.')
    contents = {path: load_coco(path) for path in by_split.values() or files}
    categories: dict[int, str] = {}
    frames: list[Frame] = []
    for path, content in contents.items():
        check_used(path, content)
        own = {entry['id']: str(entry['name']) for entry in content['categories']}
        categories = categories or own
        if own != categories:
            what = f'its categories {own} are not those of the other files, {categories}.'
            raise DatasetError(path, what, 'Export the files together.')
        order = {number: place for place, number in enumerate(sorted(categories), start=1)}
        for image in read_coco(path, root / 'images', content, order.get, repairs, choices.skip_missing):
            split = path.stem if by_split else ''
            name = os.path.splitext(image.place)[0].replace('/', '_')
            frames.append(Frame(name, split, image.path, None, image.instances, image.size))
    twice = [name for name, times in Counter(frame.name for frame in frames).items() if times > 1]
    if twice:
        what = f"'{twice[0]}' stands in two COCO files, or twice in one, or two images would be called so."
        raise DatasetError(root, what, 'List each image once, and rename one of two.')
    classes = tuple(categories[number] for number in sorted(categories))
    rule = f'files {", ".join(path.name for path in by_split.values())}'
    if not by_split:
        names_of_frames = [frame.name for frame in frames]
        split_of, rule = own_splits(names_of_frames, series(names_of_frames), 'series', 0.2, choices)
        frames = [Frame(f.name, split_of[f.name], f.image, None, f.instances, f.size) for f in frames]
    return Plan('folder', classes, tuple(frames), False, True, rule, None, repairs)
