"""The Stenosis set (Danilov et al., Scientific Reports 2021; Mendeley ydrm75xywg): frames of cines with boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vasomim.prepare.boxes import read_voc_folder
from vasomim.prepare.plan import Plan
from vasomim.prepare.published import PreparedSet, PublishedDataset, Report
from vasomim.prepare.splitting import Choices
from vasomim.synthetic import layouts
from vasomim.synthetic.config import SimulatorConfig

STENOSES = PreparedSet(
    'stenosis',
    'The Stenosis set of Danilov et al. (2021), split by patient.',
    ('Stenosis',),
    palette=((250, 190, 40),),
    box_reader='DanilovStenosis',
    frames={'all': 8325},
)


def recognize(root: Path) -> str:
    """Tell the folder of frames with Pascal VOC files beside them."""
    return DATASET.title if any(path.with_suffix('.bmp').is_file() for path in root.glob('*.xml')) else ''


def read(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
    """Read one folder of ``*.bmp`` frames with Pascal VOC ``*.xml`` (Danilov et al. 2021; Mendeley ydrm75xywg)."""
    return [read_voc_folder(STENOSES.name, root, STENOSES.classes, choices, report)]


def simulate(frames: int, seed: int, config: SimulatorConfig) -> layouts.Plan:
    """Danilov's Stenosis set: one folder of cines, ``<patient>_<study>_<series>_<frame>.bmp`` and ``.xml``."""
    shots = []
    chosen = replace(config, stenoses=(1, 2))
    for k, length in enumerate(layouts.cine_lengths(frames, 8)):
        own = layouts.derive_seed(seed, 'stenosis', k)
        first = int(np.random.default_rng(own).integers(5, 40))
        stems = [f'{k // 2 + 1:02d}_{k // 2 + 1:03d}_{k % 2 + 1}_{first + n:04d}' for n in range(length)]
        outputs = tuple(((f'{stem}.bmp', 'image'), (f'{stem}.xml', 'voc')) for stem in stems)
        # The series begin when the artery is filled: a narrowing ahead of the contrast cannot be seen.
        shots.append(layouts.Shot(own, chosen, outputs, start=10, stenosis=True))
    return layouts.Plan(tuple(shots))


DATASET = PublishedDataset(
    name='stenosis',
    title='the Stenosis set',
    layout='one folder of .bmp and .xml (Danilov et al.); splits are ours, by patient',
    cure='Name the folder that holds the .bmp frames with an .xml file for each.',
    recognize=recognize,
    read=read,
    sets=(STENOSES,),
    common=True,
    options=('seed', 'val', 'test', 'group'),
    simulate=simulate,
)
