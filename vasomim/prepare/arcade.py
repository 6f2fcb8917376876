"""ARCADE (Popov et al., Scientific Data 2024; Zenodo 10390295): three sets from its two tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.prepare.coco import CocoImage, check_categories, load_coco, read_coco
from vasomim.prepare.plan import SPLITS, Frame, Instance, Plan, Repairs
from vasomim.prepare.published import ARCADE_CATEGORIES, RIGHT_SEGMENTS, SEGMENTS, STENOSIS_ID
from vasomim.synthetic.layouts import BOOKKEEPING

SPLIT_RULE = 'as published; no patient ids exist, so patients may lie on both sides'


def read_arcade(root: Path, skip_missing: bool = False) -> list[Plan]:
    """Read the published tree, ``{syntax,stenosis}/{train,val,test}/{images,annotations}``.

    Args:
        root: The folder of the tasks; one of them may be missing.
        skip_missing: Whether images that are not on disk are left out instead of being an error.

    Returns:
        Plans of ``arcade_v`` (vessels) and ``arcade_vs`` (25 segments) from the task syntax, and of ``arcade_s``
        (stenoses, as masks and boxes) from the task stenosis. Frames are named ``syntax_train_1``: the tasks and their
        splits count from 1 each.

    Raises:
        DatasetError: If a split of a task is missing, or its annotations are not the published kind.
    """
    plans = []
    synthetic = (root / BOOKKEEPING).is_dir()
    if (root / 'syntax').is_dir():
        frames, repairs = read_task(root / 'syntax', skip_missing)
        vessels = (replace(frame, instances=as_class(1, frame.instances)) for frame in frames)
        plans += [
            Plan('arcade_v', ('vessel',), tuple(vessels), True, False, SPLIT_RULE, None, repairs, synthetic),
            Plan('arcade_vs', SEGMENTS, tuple(frames), True, False, SPLIT_RULE, None, repairs, synthetic),
        ]
    if (root / 'stenosis').is_dir():
        frames, repairs = read_task(root / 'stenosis', skip_missing)
        stenoses = (replace(frame, instances=as_class(1, frame.instances), side=None) for frame in frames)
        plans.append(Plan('arcade_s', ('stenosis',), tuple(stenoses), True, True, SPLIT_RULE, None, repairs, synthetic))
    return plans


def as_class(category: int, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the instances as members of one class."""
    return tuple(replace(instance, category=category) for instance in instances)


def read_task(folder: Path, skip_missing: bool) -> tuple[list[Frame], Repairs]:
    """Read the splits of one task; the classes are still the published category ids."""
    repairs = Repairs()
    frames: list[Frame] = []
    task = folder.name
    wanted = {STENOSIS_ID} if task == 'stenosis' else set(ARCADE_CATEGORIES) - {STENOSIS_ID}
    for split in SPLITS:
        path = folder / split / 'annotations' / f'{split}.json'
        if not path.is_file():
            raise DatasetError(path, f'the annotations of {task}/{split} are missing.', 'Unpack the archive again.')
        content = load_coco(path)
        check_categories(path, content, ARCADE_CATEGORIES)
        images = read_coco(
            path,
            folder / split / 'images',
            content,
            lambda number: number if number in wanted else None,
            repairs,
            skip_missing,
            f'{task}/{split}',
        )
        # Neither the ids nor the order of the list follow the file names.
        for image in sorted(images, key=lambda image: (len(image.path.stem), image.path.stem)):
            name = f'{task}_{split}_{image.path.stem}'
            frames.append(Frame(name, split, image.path, None, image.instances, image.size, side_of(image)))
    return frames, repairs


def side_of(image: CocoImage) -> str | None:
    """Return which coronary tree the segments of an image belong to: 'left', 'right', or None if neither or both."""
    sides = {
        'right' if ARCADE_CATEGORIES[instance.category] in RIGHT_SEGMENTS else 'left' for instance in image.instances
    }
    return sides.pop() if len(sides) == 1 else None
