"""XCAV, CAXF, the Stenosis set, and anybody's folder: their published layouts, read into plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vasomim.errors import ConfigError, DatasetError
from vasomim.prepare.boxes import coco_files, read_coco_folder, read_voc_folder
from vasomim.prepare.masks import find_grey_values
from vasomim.prepare.plan import Frame, Plan, Repairs, fault_of_name
from vasomim.prepare.published import images_by_stem, refuse_other_sets
from vasomim.prepare.splitting import Choices, listed_splits, own_splits
from vasomim.synthetic.layouts import BOOKKEEPING

CATHETER = 'CATH'
VESSEL, BACKGROUND = 'vessel', 'background'

Report = Callable[[int, int], None]


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
    if fault := fault_of_name(label):
        raise ConfigError('--class', f'the name {fault}.', 'Name what the masks show, such as stenosis.')
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


def read_stenosis(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read one folder of ``*.bmp`` frames with Pascal VOC ``*.xml`` (Danilov et al. 2021; Mendeley ydrm75xywg)."""
    return [read_voc_folder('stenosis', root, ('Stenosis',), choices, report)]


def read_folder(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read anybody's folder: images and masks, images with Pascal VOC files, or images with COCO files.

    See :func:`read_pairs`, :func:`vasomim.prepare.boxes.read_voc_folder` and
    :func:`vasomim.prepare.boxes.coco_files` for what lies where.

    Raises:
        DatasetError: If it is none of these, or a set that has a layout of its own.
        ConfigError: If a class is named although the files do that.
    """
    refuse_other_sets(root)
    if (root / 'masks').is_dir() and (root / 'images').is_dir():
        return [read_pairs('folder', root, choices, report)]
    files = coco_files(root)
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
