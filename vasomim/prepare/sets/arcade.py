"""ARCADE (Popov et al., Scientific Data 2024; Zenodo 10390295): three sets from its two tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from vasomim.errors import DatasetError
from vasomim.prepare.coco import CocoImage, check_categories, load_coco, read_coco
from vasomim.prepare.plan import SPLITS, Frame, Instance, Plan, Repairs
from vasomim.prepare.published import PreparedSet, PublishedDataset, Report, is_simulated
from vasomim.prepare.splitting import Choices
from vasomim.synthetic import layouts
from vasomim.synthetic.config import SimulatorConfig

SEGMENTS = (
    *('1', '2', '3', '4', '5', '6', '7', '8', '9', '9a', '10', '10a', '11', '12', '12a', '13', '14', '14a', '15'),
    *('16', '16a', '16b', '16c', '12b', '14b'),
)
"""ARCADE's names of the SYNTAX segments, in the order of their category ids 1 to 25."""

STENOSIS_ID = 26
CATEGORIES = {**dict(enumerate(SEGMENTS, start=1)), STENOSIS_ID: 'stenosis'}

RIGHT_SEGMENTS = frozenset(('1', '2', '3', '4', '16', '16a', '16b', '16c'))
"""Segments of the right coronary artery; all others belong to the left one (SYNTAX score, segments 1-4 and 16)."""

SPLIT_RULE = 'as published; no patient ids exist, so patients may lie on both sides'
FRAMES = {'train': 1000, 'val': 200, 'test': 300}

VESSELS = PreparedSet(
    'arcade_v',
    'ARCADE-V: all SYNTAX segments united; small side branches count as background.',
    ('vessel',),
    palette=((230, 60, 60),),
    mask_reader='ARCADEVessels',
    frames=FRAMES,
    series=False,  # The names hold the split, and tell nothing of series.
)
BY_SEGMENT = PreparedSet(
    'arcade_vs',
    'ARCADE-VS: 25 SYNTAX segments and the background.',
    SEGMENTS,
    mask_reader='ARCADESegments',
    frames=FRAMES,
    objects={'train': 4976, 'val': 1168, 'test': 1672},
    series=False,
)
STENOSES = PreparedSet(
    'arcade_s',
    'ARCADE-S: stenosed stretches of vessels, as masks or boxes.',
    ('stenosis',),
    palette=((250, 190, 40),),
    mask_reader='ARCADEStenosis',
    box_reader='ARCADEStenosisBoxes',
    frames=FRAMES,
    objects={'train': 1625, 'val': 406, 'test': 386},
    series=False,
)


def recognize(root: Path) -> str:
    """Tell the tree of the two tasks, or the folder of one of them."""
    if any((root / task / split / 'annotations').is_dir() for task in ('syntax', 'stenosis') for split in SPLITS):
        return 'ARCADE'
    if any((root / split / 'annotations' / f'{split}.json').is_file() for split in SPLITS):
        task = root.resolve().name
        return f'ARCADE {task}' if task in ('syntax', 'stenosis') else 'one task of ARCADE'
    return ''


def read(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read the published tree, ``{syntax,stenosis}/{train,val,test}/{images,annotations}``.

    Returns:
        Plans of ``arcade_v`` (vessels) and ``arcade_vs`` (25 segments) from the task syntax, and of ``arcade_s``
        (stenoses, as masks and boxes) from the task stenosis. Frames are named ``syntax_train_1``: the tasks and their
        splits count from 1 each.

    Raises:
        DatasetError: If a split of a task is missing, or its annotations are not the published kind.
    """
    plans = []
    synthetic = is_simulated(root)
    if (root / 'syntax').is_dir():
        frames, repairs = read_task(root / 'syntax', choices.skip_missing)
        vessels = (replace(frame, instances=as_class(1, frame.instances)) for frame in frames)
        plans += [
            plan_of(VESSELS, vessels, repairs, synthetic),
            plan_of(BY_SEGMENT, frames, repairs, synthetic),
        ]
    if (root / 'stenosis').is_dir():
        frames, repairs = read_task(root / 'stenosis', choices.skip_missing)
        stenoses = (replace(frame, instances=as_class(1, frame.instances), side=None) for frame in frames)
        plans.append(plan_of(STENOSES, stenoses, repairs, synthetic))
    return plans


def plan_of(chosen: PreparedSet, frames: Iterable[Frame], repairs: Repairs, synthetic: bool) -> Plan:
    """Return the plan of one of the sets."""
    boxes = bool(chosen.box_reader)
    return Plan(chosen.name, chosen.classes, tuple(frames), True, boxes, SPLIT_RULE, None, repairs, synthetic)


def as_class(category: int, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the instances as members of one class."""
    return tuple(replace(instance, category=category) for instance in instances)


def read_task(folder: Path, skip_missing: bool) -> tuple[list[Frame], Repairs]:
    """Read the splits of one task; the classes are still the published category ids."""
    repairs = Repairs()
    frames: list[Frame] = []
    task = folder.name
    wanted = {STENOSIS_ID} if task == 'stenosis' else set(CATEGORIES) - {STENOSIS_ID}
    for split in SPLITS:
        path = folder / split / 'annotations' / f'{split}.json'
        if not path.is_file():
            raise DatasetError(path, f'the annotations of {task}/{split} are missing.', 'Unpack the archive again.')
        content = load_coco(path)
        check_categories(path, content, CATEGORIES)
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
    sides = {'right' if CATEGORIES[instance.category] in RIGHT_SEGMENTS else 'left' for instance in image.instances}
    return sides.pop() if len(sides) == 1 else None


def simulate(frames: int, seed: int, config: SimulatorConfig) -> layouts.Plan:
    """ARCADE: ``{syntax,stenosis}/{train,val,test}/{images,annotations}``; ids in neither order nor line with names."""
    shots, coco = [], []
    for task, total in layouts.divided(frames, {'syntax': 0.5, 'stenosis': 0.5}).items():
        chosen = replace(config, stenoses=(1, 3)) if task == 'stenosis' else config
        for split, count in layouts.divided(total, {'train': 1000, 'val': 200, 'test': 300}).items():
            folder = f'{task}/{split}'
            rng = np.random.default_rng(layouts.derive_seed(seed, 'arcade ids', folder))
            ids, order = (rng.permutation(count) + 1).tolist(), rng.permutation(count).tolist()
            images = []
            for k in range(count):
                name = f'{k + 1}.png'
                own = f'{layouts.BOOKKEEPING}/{folder}/{k + 1}.json'
                outputs = ((f'{folder}/images/{name}', 'image'), (own, f'coco {task}'))
                own_seed = layouts.derive_seed(seed, 'arcade', folder, k)
                shots.append(layouts.Shot(own_seed, chosen, (outputs,), stenosis=task == 'stenosis'))
                images.append((ids[k], name, own))
            coco.append(layouts.CocoFile(f'{folder}/annotations/{split}.json', tuple(images[k] for k in order)))
    return layouts.Plan(tuple(shots), tuple(coco))


DATASET = PublishedDataset(
    name='arcade',
    title='ARCADE',
    layout='the published tree, {syntax,stenosis}/{train,val,test}/{images,annotations}; DST gets three sets: '
    'arcade_v (vessels), arcade_vs (25 segments), arcade_s (stenoses: masks and boxes)',
    cure='Name the folder that holds syntax/ and stenosis/, with {train,val,test}/{images,annotations} each.',
    recognize=recognize,
    read=read,
    sets=(VESSELS, BY_SEGMENT, STENOSES),
    options=('skip_missing',),
    simulate=simulate,
    exclusions=Path(__file__).with_name('arcade_near_duplicates.json'),
)
