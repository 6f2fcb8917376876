"""Which files a simulated layout holds: plans that the writer carries out; published datasets bring their own.

A plan names every file before anything is simulated, so that a run that stopped knows what is left to do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.views import draw_target

Output = tuple[str, str]  # (path in the layout, what it holds: one of WRITERS in writer.py)


@dataclass(frozen=True)
class Shot:
    """A frame, or a cine, and the files that come of it.

    Attributes:
        seed: Seed of the simulation.
        config: Ranges of the simulation.
        frames: For each frame the files to write.
        rate: Frames per second of a cine.
        start: Frames of the cine before the first one that is kept.
        stenosis: Whether a frame without a narrowing is simulated again from another seed.
    """

    seed: int
    config: SimulatorConfig
    frames: tuple[tuple[Output, ...], ...]
    rate: float = 15.0
    start: int = 0
    stenosis: bool = False


@dataclass(frozen=True)
class CocoFile:
    """A COCO file that is put together when all its frames are there.

    Attributes:
        path: Where it goes.
        images: (image id, file name, path of the frame's own annotations), in the order of the file's list.
    """

    path: str
    images: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class Plan:
    """All files of a layout: those that come of shots, COCO files, and plain text files by path."""

    shots: tuple[Shot, ...]
    coco: tuple[CocoFile, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)


# Annotations of single frames, from which COCO files are put together, and the settings of the run.
BOOKKEEPING = '.synthesis'


def derive_seed(seed: int, *parts: int | str) -> int:
    """Return a seed in [0, 2^32) for one part of a dataset; parts do not collide by arithmetic."""
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in parts]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def divided(frames: int, shares: dict[str, float]) -> dict[str, int]:
    """Split a number of frames by shares; every part gets one frame as long as there are enough."""
    whole = {name: int(frames * share / sum(shares.values())) for name, share in shares.items()}
    order = sorted(shares, key=lambda name: (whole[name] > 0, -shares[name]))
    for k in range(frames - sum(whole.values())):
        whole[order[k % len(order)]] += 1
    return whole


def cine_lengths(frames: int, length: int) -> list[int]:
    """Split a number of frames into cines of a length; the last is shorter where needed."""
    return [length] * (frames // length) + ([frames % length] if frames % length else [])


def plan_folder(frames: int, seed: int, config: SimulatorConfig) -> Plan:
    """A folder of images, each of another patient: ``patient00001_01.png``."""
    shots = [
        Shot(derive_seed(seed, 'folder', k), config, (((f'patient{k + 1:05d}_01.png', 'image'),),))
        for k in range(frames)
    ]
    return Plan(tuple(shots))


def plan_xa170k(frames: int, seed: int, config: SimulatorConfig) -> Plan:
    """The merged pre-training set: ``{cadica,syntax,xcad,coronarydominance}/*.png``; two sources hold cines."""
    counts = divided(frames, {'cadica': 0.2, 'syntax': 0.15, 'xcad': 0.1, 'coronarydominance': 0.55})
    shots = []
    for source, count in counts.items():
        cine = source in ('cadica', 'coronarydominance')
        for k, length in enumerate(cine_lengths(count, 4 if cine else 1)):
            own = derive_seed(seed, 'xa170k', source, k)
            target = draw_target(np.random.default_rng(own))
            artery = 'RCA' if target == 'RCA' else 'LCA'
            prefix = {
                'cadica': f'p{k // 2 + 1}_v{k % 2 + 1}_',
                'syntax': f'{k + 1:04d}_',
                'xcad': f'{k + 1:05d}_',
                'coronarydominance': f'{k // 2 + 1:04d}_{artery}_{k % 2 + 1}_',
            }[source]
            names = tuple(((f'{source}/{prefix}{n + 1:05d}.png', 'image'),) for n in range(length))
            # A few frames a second: neighbors of a real cine differ less than a small set can afford.
            shots.append(Shot(own, replace(config, target=target), names, rate=4.0))
    return Plan(tuple(shots))


Layout = Callable[[int, int, SimulatorConfig], Plan]
"""Returns the plan of (frames in all, seed, ranges of the simulation)."""

LAYOUTS: dict[str, Layout] = {
    'folder': plan_folder,
    'xa170k': plan_xa170k,
}


def with_truth(shots: Sequence[Shot]) -> tuple[Shot, ...]:
    """Add the mask of all vessels to each frame, in a tree of the same names beside the layout's root."""
    return tuple(
        replace(shot, frames=tuple((*outputs, (outputs[0][0], 'truth')) for outputs in shot.frames)) for shot in shots
    )
