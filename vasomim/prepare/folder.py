"""Anybody's own labels: images with masks, or with boxes in Pascal VOC or COCO files."""

from __future__ import annotations

from pathlib import Path

from vasomim.errors import ConfigError, DatasetError
from vasomim.prepare.boxes import coco_files, read_coco_folder, read_voc_folder
from vasomim.prepare.pairs import read_pairs
from vasomim.prepare.plan import Plan, fault_of_name
from vasomim.prepare.published import CHOICES, PublishedDataset, Report
from vasomim.prepare.recognition import recognize_folder, refuse_other_sets
from vasomim.prepare.splitting import Choices

VESSEL, BACKGROUND = 'vessel', 'background'


def label_of(choices: Choices) -> str:
    """Return the class that masks show: vessels, unless a user names another.

    Raises:
        ConfigError: If that is no name.
    """
    label = VESSEL if choices.label is None else choices.label.strip()
    if label in ('', BACKGROUND):
        what = f"'{BACKGROUND}' is what no class covers." if label else 'a class needs a name.'
        raise ConfigError('--class', what, 'Name what the masks show, such as stenosis.')
    if fault := fault_of_name(label):
        raise ConfigError('--class', f'the name {fault}.', 'Name what the masks show, such as stenosis.')
    return label


def read_folder(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read anybody's folder: images and masks, images with Pascal VOC files, or images with COCO files.

    See :func:`vasomim.prepare.pairs.read_pairs`, :func:`vasomim.prepare.boxes.read_voc_folder` and
    :func:`vasomim.prepare.boxes.coco_files` for what lies where.

    Raises:
        DatasetError: If it is none of these, or a set that has a layout of its own.
        ConfigError: If a class is named although the files do that.
    """
    refuse_other_sets(root)
    if (root / 'masks').is_dir() and (root / 'images').is_dir():
        return [read_pairs('folder', (label_of(choices),), root, choices, report)]
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


FOLDER = PublishedDataset(
    name='folder',
    title='a folder of your own',
    layout='your own: images/ and masks/ of any two grey values; or images with Pascal VOC .xml; or images/ and '
    'COCO .json files',
    cure='Name the folder that holds the images.',
    recognize=recognize_folder,
    read=read_folder,
    sets=(),  # Their classes are in their dataset.json only.
    options=CHOICES,
)
"""Your own labels, which are prepared as if they were published."""
