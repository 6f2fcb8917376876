"""One patient in front of one C-arm: all that stays the same from frame to frame of a cine."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vasomim.synthetic.anatomy import CATEGORY_IDS, OUTLINED
from vasomim.synthetic.background import chest_attenuation
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.curves import waves
from vasomim.synthetic.detector import Detector, draw_detector
from vasomim.synthetic.imaging import Array, Image
from vasomim.synthetic.instruments import Tube, draw_catheter, draw_lead, draw_reflux, draw_sternal_wires
from vasomim.synthetic.projection import CArm
from vasomim.synthetic.stenosis import Narrowing, narrow, place_narrowings
from vasomim.synthetic.tree import STEP, CoronaryTree, grow_tree
from vasomim.synthetic.views import center_view, draw_angles, draw_target

_MARGIN = 12  # px of a 512-pixel frame; narrowings keep away from the border


@dataclass(frozen=True)
class Scene:
    """A patient, a view and a run of contrast.

    Attributes:
        seed: What it was drawn from.
        config: Ranges it was drawn from.
        tree: The coronary artery, narrowed.
        target: 'LAD', 'LCx' or 'RCA': what the view was chosen for.
        outlined: Category ids of the segments that count as labelled in this view.
        narrowings: The lesions in ``tree``.
        arm: The C-arm.
        points: Centerlines of all branches, heart coordinates, mm, (N, 3).
        radii: Radii, mm, (N,).
        healthy: Radii before the lumen was narrowed, mm, (N,).
        labels: Category ids, (N,).
        distance: Way from the ostium, mm, (N,).
        starts: Index of each branch's first sample, (B,).
        contrast: Attenuation of the undiluted contrast, 1/mm.
        dilution: Density of the contrast relative to that in the ostium, (N,), in [0, 1.2].
        catheter: The catheter, or None.
        puff: Contrast that runs back into the aorta, or None.
        devices: Leads and wires.
        background: Attenuation of the chest, (size, size).
        reference: Attenuation at which the display shows its middle grey.
        detector: The imaging chain.
    """

    seed: int
    config: SimulatorConfig
    tree: CoronaryTree
    target: str
    outlined: frozenset[int]
    narrowings: tuple[Narrowing, ...]
    arm: CArm
    points: Array
    radii: Array
    healthy: Array
    labels: NDArray[np.int64]
    distance: Array
    starts: NDArray[np.int64]
    contrast: float
    dilution: Array
    catheter: Tube | None
    puff: Tube | None
    devices: tuple[Tube, ...]
    background: Image
    reference: float
    detector: Detector


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of one part of a scene, so that parts do not disturb each other's draws."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))


def build_scene(seed: int, config: SimulatorConfig) -> Scene:
    """Draw everything that the frames of one cine share.

    Args:
        seed: Any integer >= 0; the same seed and config give the same scene.
        config: Ranges to draw from.
    """
    rng = stream(seed, 'patient')
    target, right_dominant = draw_target(rng), rng.random() < 0.88
    target = config.target or target
    dominance = config.dominance or ('right' if right_dominant else 'left')
    tree = grow_tree(stream(seed, 'tree'), 'right' if target == 'RCA' else 'left', dominance)

    rng = stream(seed, 'view')
    outlined = frozenset(CATEGORY_IDS[name] for name, often in OUTLINED[target].items() if rng.random() < often)
    arm = _aim(rng, config, tree, outlined, target)

    narrowings = _lesions(stream(seed, 'stenosis'), config, tree, arm, outlined)
    healthy = _flatten(tree)[1]
    tree = narrow(tree, narrowings)
    points, radii, labels, distance, starts = _flatten(tree)

    rng = stream(seed, 'contrast')
    contrast = float(rng.uniform(*config.contrast))
    dilution = np.clip(
        1 - rng.uniform(0.0, 0.35) * distance / 160 + 0.05 * waves(rng, distance, (30.0, 90.0)), 0.05, 1.2
    )
    heart_points = tree.branches[0].points
    ostium = tree.heart.to_patient(heart_points[:1])[0]
    inward = tree.heart.to_patient(heart_points[12:13])[0] - ostium
    inward /= np.linalg.norm(inward)
    rng = stream(seed, 'instruments')
    puff = draw_reflux(rng, ostium, inward) if rng.random() < 0.5 else None
    catheter = draw_catheter(rng, ostium, inward) if rng.random() < config.catheter else None
    devices = [draw_lead(rng)] if rng.random() < 0.05 else []
    devices += draw_sternal_wires(rng) if rng.random() < 0.05 else []

    detector = draw_detector(stream(seed, 'detector'), config.noise, config.collimator)
    background = _background(stream(seed, 'background'), config, tree, arm, detector)
    return Scene(
        seed, config, tree, target, outlined, tuple(narrowings), arm, points, radii, healthy, labels, distance, starts,
        contrast, dilution, catheter, puff, tuple(devices), background,
        float(np.median(background)) + 0.04, detector,
    )  # fmt: skip


def _flatten(tree: CoronaryTree) -> tuple[Array, Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    counts = [len(branch.points) for branch in tree.branches]
    return (
        np.concatenate([branch.points for branch in tree.branches]),
        np.concatenate([branch.radii for branch in tree.branches]),
        np.concatenate([branch.labels for branch in tree.branches]),
        np.concatenate([branch.distance for branch in tree.branches]),
        np.concatenate([[0], np.cumsum(counts)[:-1]]),
    )


def _aim(
    rng: np.random.Generator, config: SimulatorConfig, tree: CoronaryTree, outlined: frozenset[int], target: str
) -> CArm:
    low, high = config.spacing
    primary, secondary = draw_angles(rng, target) if config.angles is None else config.angles
    spacing = float(low + (high - low) * rng.beta(1.2, 2.5)) * 512 / config.size
    arm = CArm(primary, secondary, spacing, config.size, source_isocenter=float(rng.uniform(700, 780)))
    points, _, labels, _, _ = _flatten(tree)
    shown = tree.heart.to_patient(points[np.isin(labels, list(outlined))])
    return center_view(rng, arm, shown, tree.heart.to_patient(points[:1])[0])


def _lesions(
    rng: np.random.Generator, config: SimulatorConfig, tree: CoronaryTree, arm: CArm, outlined: frozenset[int]
) -> list[Narrowing]:
    """Place narrowings in the outlined segments where they are wide, in the field and not seen end-on."""
    low, high = config.stenoses
    number = int(rng.integers(low, high + 1))
    margin = _MARGIN * arm.size / 512
    visible = []
    for branch in tree.branches:
        if not branch.name:
            visible.append(np.zeros(len(branch.points), bool))
            continue
        pixels, scale = arm.project(tree.heart.to_patient(branch.points))
        moved = np.hypot(*np.gradient(pixels, axis=0).T)
        inside = ((pixels > margin) & (pixels < arm.size - margin)).all(axis=1)
        visible.append(
            inside & np.isin(branch.labels, list(outlined)) & (branch.radii > 0.55) & (moved > 0.5 * STEP * scale)
        )
    return place_narrowings(rng, tree.branches, visible, number)


def _background(
    rng: np.random.Generator, config: SimulatorConfig, tree: CoronaryTree, arm: CArm, detector: Detector
) -> Image:
    if not config.background:
        return np.zeros((config.size, config.size), np.float32)
    return chest_attenuation(rng, tree.heart, arm, detector.gamma)
