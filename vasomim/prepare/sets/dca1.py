"""DCA1 (Cervantes-Sanchez et al., Applied Sciences 2019): 134 angiograms of 300 x 300, each with a mask of vessels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey
from vasomim.prepare.pairs import mask_plan
from vasomim.prepare.plan import Frame, Plan, Repairs
from vasomim.prepare.published import PreparedSet, PublishedDataset, Report
from vasomim.prepare.splitting import Choices, own_validation
from vasomim.synthetic import layouts
from vasomim.synthetic.config import SimulatorConfig

TRUTH = '_gt'
LAST_TO_TRAIN = 100
MIDDLE = 127  # Of 0 to 255: masks are of these two values, but some have others at the vessels' edges.
UNPACK_AGAIN = 'Unpack the archive again.'

VESSELS = PreparedSet(
    'dca1',
    'DCA1: vessels; frames 1 to 100 are for training, 101 to 134 for testing.',
    ('vessel',),
    palette=((230, 60, 60),),
    mask_reader='DCA1',
    frames={'train and val': 100, 'test': 34},
)


def recognize(root: Path) -> str:
    """Tell the folder of ``N.pgm`` and ``N_gt.pgm``."""
    return 'DCA1' if any(root.glob(f'[0-9]*{TRUTH}.pgm')) else ''


def read(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read ``N.pgm`` with ``N_gt.pgm``.

    Raises:
        DatasetError: If one of the two is missing, a file has another name, or a mask is damaged.
    """
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    for path in sorted(root.glob('*.pgm')):
        stem = path.stem.removesuffix(TRUTH)
        if not stem.isdecimal() or stem != str(int(stem)):
            raise DatasetError(path, f'it is called neither N.pgm nor N{TRUTH}.pgm.', 'Take it out of the folder.')
        (images if path.stem == stem else masks)[int(stem)] = path
    for number in sorted(images.keys() ^ masks.keys()):
        path = images.get(number) or masks[number]
        lacking = f'its mask {number}{TRUTH}.pgm' if number in images else f'its frame {number}.pgm'
        raise DatasetError(path, f'{lacking} is missing.', UNPACK_AGAIN)
    threshold = MIDDLE if choices.threshold is None else choices.threshold
    repairs = Repairs()
    for done, path in enumerate(masks.values(), start=1):
        grey = read_grey(path, mask=True)
        if grey.max() <= threshold:
            raise DatasetError(path, f'no pixel of this mask is above {threshold}.', f'{UNPACK_AGAIN} Masks are 0/255.')
        between = int(np.count_nonzero(~np.isin(grey, (0, 255))))
        if between:
            what = f'masks with other grey values than 0 and 255 divided above {threshold}'
            repairs.add(what, f'{path.name}: {between} pixels')
        if report:
            report(done, len(masks))
    split_of = {str(number): 'train' if number <= LAST_TO_TRAIN else 'test' for number in sorted(images)}
    rule = f'by number: 1 to {LAST_TO_TRAIN} are for training, the others for testing'
    split_of, rule = own_validation(split_of, rule, choices)
    frames = tuple(Frame(name, split, images[int(name)], masks[int(name)]) for name, split in split_of.items())
    chosen = replace(choices, threshold=threshold)
    return [mask_plan(VESSELS.name, VESSELS.classes, root, frames, rule, repairs, chosen, report)]


def simulate(frames: int, seed: int, config: SimulatorConfig) -> layouts.Plan:
    """DCA1: ``N.pgm`` and ``N_gt.pgm``, numbered such that both splits have frames."""
    share = layouts.divided(frames, {'train': 100, 'test': 34})
    numbers = [*range(1, share['train'] + 1), *range(LAST_TO_TRAIN + 1, LAST_TO_TRAIN + 1 + share['test'])]
    shots = [
        layouts.Shot(
            layouts.derive_seed(seed, 'dca1', number),
            config,
            (((f'{number}.pgm', 'image'), (f'{number}{TRUTH}.pgm', 'vessels')),),
        )
        for number in numbers
    ]
    return layouts.Plan(tuple(shots))


DATASET = PublishedDataset(
    name='dca1',
    title='DCA1',
    layout='one folder of N.pgm and N_gt.pgm; frames up to 100 are for training, the others for testing',
    cure='Name the folder that holds N.pgm and N_gt.pgm.',
    recognize=recognize,
    read=read,
    sets=(VESSELS,),
    options=('seed', 'val', 'threshold'),
    simulate=simulate,
)
