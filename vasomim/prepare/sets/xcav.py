"""XCAV (also XACV): cines of which few frames have a mask, by patient and view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vasomim.errors import DatasetError
from vasomim.prepare.pairs import images_by_stem, mask_plan
from vasomim.prepare.plan import Frame, Plan, Repairs
from vasomim.prepare.published import PreparedSet, PublishedDataset, Report
from vasomim.prepare.splitting import Choices, own_splits
from vasomim.synthetic import layouts
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.views import draw_angles, draw_target

CATHETER = 'CATH'

VESSELS = PreparedSet(
    'xcav',
    'XCAV: vessels, split by patient.',
    ('vessel',),
    palette=((230, 60, 60),),
    mask_reader='XCAV',
    frames={'all': 221},
)


def recognize(root: Path) -> str:
    """Tell the folder of the patients."""
    return 'XCAV' if any(root.glob('CVAI-*/images')) else ''


def read(root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
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
    return [mask_plan(VESSELS.name, VESSELS.classes, root, frames, rule, repairs, choices, report)]


def simulate(frames: int, seed: int, config: SimulatorConfig) -> layouts.Plan:
    """XCAV: a cine per view, ground truth of vessels, and of vessels with catheter, for its last frames."""
    shots = []
    for k, length in enumerate(layouts.cine_lengths(frames, 8)):
        own = layouts.derive_seed(seed, 'xcav', k)
        rng = np.random.default_rng(own)
        target = draw_target(rng)
        angles = draw_angles(rng, target)
        primary, secondary = round(angles[0]), round(angles[1])
        view = f'{"LAO" if primary >= 0 else "RAO"}{abs(primary)}_{"CRA" if secondary >= 0 else "CAU"}{abs(secondary)}'
        patient = f'CVAI-{k + 1:04d}'
        outputs = []
        for n in range(length):
            name = f'{n + 1:05d}.png'
            files = [(f'{patient}/images/{view}/{name}', 'image')]
            if n >= length - 2:
                files.append((f'{patient}/ground_truth/{view}/{name}', 'vessels'))
                files.append((f'{patient}/ground_truth/{view}CATH/{name}', 'vessels and catheter'))
            outputs.append(tuple(files))
        shots.append(layouts.Shot(own, replace(config, target=target, angles=angles), tuple(outputs)))
    return layouts.Plan(tuple(shots))


DATASET = PublishedDataset(
    name='xcav',
    title='XCAV',
    layout='CVAI-*/images/<view> and CVAI-*/ground_truth/<view>; splits are ours, by patient',
    cure='Name the folder that holds CVAI-*/images and CVAI-*/ground_truth.',
    recognize=recognize,
    read=read,
    sets=(VESSELS,),
    options=('seed', 'val', 'test', 'group', 'threshold'),
    simulate=simulate,
)
