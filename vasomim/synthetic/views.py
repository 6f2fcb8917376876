"""The views in which coronary arteries are filmed."""

from __future__ import annotations

import numpy as np

from vasomim.synthetic.imaging import Array
from vasomim.synthetic.projection import CArm

# (primary, secondary, how often): LAO and cranial positive. Each view shows its target with little foreshortening.
STANDARD_VIEWS = {
    'LAD': ((-20, 30, 3), (-5, 35, 3), (35, 25, 2), (-30, 5, 2), (-35, 20, 1), (30, 0, 0.5)),
    'LCx': ((-25, -25, 4), (-5, -30, 3), (-30, -5, 1), (45, -30, 1), (-10, -20, 2)),
    'RCA': ((40, 0, 4), (30, 22, 3), (45, 15, 1), (-30, 0, 2), (0, 30, 2)),
}
_LIMIT = 45.0


def draw_target(rng: np.random.Generator) -> str:
    """Draw what a run shows, 'LAD', 'LCx' or 'RCA', as often as ARCADE's syntax training split does."""
    return str(rng.choice(['LAD', 'LCx', 'RCA'], p=[0.33, 0.29, 0.38]))


def draw_angles(rng: np.random.Generator, target: str) -> tuple[float, float]:
    """Draw the C-arm's angles for a target ('LAD', 'LCx' or 'RCA'), degrees: a standard view, varied."""
    views = np.array(STANDARD_VIEWS[target])
    primary, secondary = views[rng.choice(len(views), p=views[:, 2] / views[:, 2].sum()), :2]
    primary, secondary = primary + rng.normal(0, 5), secondary + rng.normal(0, 4)
    return float(np.clip(primary, -_LIMIT, _LIMIT)), float(np.clip(secondary, -_LIMIT, _LIMIT))


def center_view(rng: np.random.Generator, arm: CArm, points: Array, ostium: Array) -> CArm:
    """Move the table so that the target lies in the field.

    Args:
        rng: Draws how well the operator aimed.
        arm: The view; its isocenter lies anywhere near the heart.
        points: The target's centerlines, patient coordinates, mm, (N, 3).
        ostium: Where the artery begins, (3,); it stays in the field.
    """
    right, up, beam = arm.axes
    field = arm.size * arm.spacing
    center = np.zeros(3)
    for axis in (right, up):
        along = points @ axis
        aim = (along.min() + along.max()) / 2 + rng.normal(0, 0.045) * field
        reach = 0.45 * field
        aim = float(np.clip(aim, ostium @ axis - reach, ostium @ axis + reach))
        center += aim * axis
    center += (points @ beam).mean() * beam
    return CArm(
        arm.primary,
        arm.secondary,
        arm.spacing,
        arm.size,
        arm.source_detector,
        arm.source_isocenter,
        (float(center[0]), float(center[1]), float(center[2])),
    )
