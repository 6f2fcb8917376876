"""CAXF: images, masks and the lists of its owners, who pass it on by request."""

from __future__ import annotations

from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.prepare.pairs import read_pairs
from vasomim.prepare.plan import Plan
from vasomim.prepare.published import PreparedSet, PublishedDataset, Report
from vasomim.prepare.splitting import Choices
from vasomim.synthetic import layouts
from vasomim.synthetic.config import SimulatorConfig

VESSELS = PreparedSet(
    'caxf',
    "CAXF: vessels, by its owners' lists.",
    ('vessel',),
    palette=((230, 60, 60),),
    mask_reader='CAXF',
    frames={'train and val': 337, 'test': 201},
)


def recognize(root: Path) -> str:
    """Tell the folder of images, masks and lists."""
    folders = (root / 'images').is_dir() and (root / 'masks').is_dir()
    return 'CAXF' if folders and (root / 'test.txt').is_file() else ''


def read(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read ``images/``, ``masks/`` and the owners' lists ``train.txt``, ``test.txt`` and maybe ``val.txt``.

    Raises:
        DatasetError: If a list is missing, or as :func:`read_pairs`.
    """
    for split in ('train', 'test'):
        if not (root / f'{split}.txt').is_file():
            raise DatasetError(
                root / f'{split}.txt', "the owners' list is missing.", 'Ask them for it, or use `folder`.'
            )
    return [read_pairs(VESSELS.name, VESSELS.classes, root, choices, report)]


def simulate(frames: int, seed: int, config: SimulatorConfig) -> layouts.Plan:
    """CAXF: ``images/``, ``masks/`` and the lists ``train.txt`` and ``test.txt``, one file name a line."""
    shots, names = [], []
    for k in range(frames):
        name = f'{k + 1:04d}.png'
        names.append(name)
        outputs = ((f'images/{name}', 'image'), (f'masks/{name}', 'vessels'))
        shots.append(layouts.Shot(layouts.derive_seed(seed, 'caxf', k), config, (outputs,)))
    train = layouts.divided(frames, {'train': 337, 'test': 201})['train']
    lists = {'train.txt': names[:train], 'test.txt': names[train:]}
    return layouts.Plan(
        tuple(shots), texts={path: ''.join(f'{name}\n' for name in part) for path, part in lists.items()}
    )


DATASET = PublishedDataset(
    name='caxf',
    title='CAXF',
    layout='images/, masks/, train.txt, test.txt and, if there is one, val.txt',
    cure='Name the folder that holds images/, masks/, train.txt and test.txt.',
    recognize=recognize,
    read=read,
    sets=(VESSELS,),
    common=True,
    options=('seed', 'val', 'group', 'threshold'),
    simulate=simulate,
)
