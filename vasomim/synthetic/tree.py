"""Grow a coronary tree in space: named vessels from a template, side branches by rule, radii by Murray's law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vasomim.synthetic.anatomy import CATEGORY_IDS, Vessel, template
from vasomim.synthetic.curves import arc_length, resample, smooth_curve, tangents, waves
from vasomim.synthetic.heart import USUAL_SEMI_AXES, Heart, draw_heart
from vasomim.synthetic.imaging import Array, Flags

STEP = 0.2  # mm between samples of a centerline: under a pixel in every field of view
_OSTIUM = {'LM': (1.95, 2.5), 'RCA': (1.55, 2.25)}  # mm of radius; arteries are up to 5 mm wide
_THINNEST = 0.15  # mm; thinner vessels leave no trace on a detector
# Unlabelled branches per mm of a named vessel, and the range of their share of its flow.
_SPROUTING = {'LM': (0.0, 0.01, 0.02), 'LAD': (0.16, 0.01, 0.05), 'RCA': (0.1, 0.01, 0.05)}
_SPROUTING_ELSEWHERE = (0.1, 0.03, 0.14)


@dataclass(frozen=True)
class Branch:
    """A vessel between its origin and its end.

    Attributes:
        name: The vessel's name; '' for a side branch made by rule.
        parent: Index of the branch it leaves, -1 for the aorta.
        origin: The parent's sample at which it leaves.
        points: Centerline in heart coordinates, mm, (N, 3), every 0.2 mm.
        radii: Radius of the lumen, mm, (N,).
        labels: ARCADE category id of the SYNTAX segment at each sample, 0 = not a segment, (N,).
        distance: Way from the ostium along the vessels, mm, (N,).
    """

    name: str
    parent: int
    origin: int
    points: Array
    radii: Array
    labels: NDArray[np.int64]
    distance: Array


@dataclass(frozen=True)
class CoronaryTree:
    """One coronary artery with its branches; parents stand before their children."""

    side: str
    dominance: str
    heart: Heart
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class _Bud:
    """A branch that is going to leave a vessel: where, with which share of the flow, and what it becomes."""

    at: float
    share: float
    vessel: Vessel | None


def grow_tree(rng: np.random.Generator, side: str, dominance: str) -> CoronaryTree:
    """Grow one coronary artery.

    At each branching the cubes of the daughters' radii sum to the cube of the parent's (Murray's law): a branch with
    the share f of the flow has the radius r f^(1/3), and the parent goes on with r (1 - f)^(1/3).

    Args:
        rng: Where all variation comes from.
        side: 'left' or 'right'.
        dominance: 'left' or 'right'.
    """
    heart = draw_heart(rng)
    buds = _draw_buds(rng, template(side, dominance))
    tortuosity = float(rng.lognormal(0.0, 0.45))
    branches: list[Branch] = []
    sprouts: list[tuple[int, int, float]] = []  # parent, sample, share
    index_of: dict[str, int] = {}
    children: dict[str, list[tuple[_Bud, int]]] = {}
    for vessel in template(side, dominance):
        if vessel.parent is None:
            parent, origin, radius = -1, 0, float(rng.uniform(*_OSTIUM[vessel.name]))
            points = _trunk(rng, heart, vessel, tortuosity)
        else:
            found = [(b, k) for b, k in children.get(vessel.parent, []) if b.vessel is vessel]
            if not found:
                continue
            bud, origin = found[0]
            parent = index_of[vessel.parent]
            radius = branches[parent].radii[origin] * bud.share ** (1 / 3)
            points = _course(rng, heart, vessel, branches[parent].points[origin], tortuosity)
        own = [(bud, _sample(len(points), bud.at)) for bud in buds.get(vessel.name, [])]
        taken = {k for _, k in own}
        extra = [(k, share) for k, share in _draw_sprouts(rng, vessel.name, len(points)) if k not in taken]
        index_of[vessel.name] = len(branches)
        children[vessel.name] = own
        sites = [(k, bud.share) for bud, k in own] + extra
        sprouts += [(len(branches), k, share) for k, share in extra]
        ends = any(bud.at == 1.0 for bud, _ in own)
        start = branches[parent].distance[origin] if parent >= 0 else 0.0
        branches.append(
            Branch(
                name=vessel.name,
                parent=parent,
                origin=origin,
                points=points,
                radii=_radii(rng, radius, len(points), sites, terminal=not ends),
                labels=_labels(rng, vessel, own, len(points)),
                distance=start + STEP * np.arange(len(points)),
            )
        )
    for generation in range(3):
        sprouts = _grow_sprouts(rng, heart, branches, sprouts, generation, tortuosity)
    return CoronaryTree(side, dominance, heart, tuple(branches))


def _sample(count: int, at: float) -> int:
    return count - 1 if at == 1.0 else int(np.clip(round(at * (count - 1)), 1, count - 2))


def _draw_buds(rng: np.random.Generator, vessels: Sequence[Vessel]) -> dict[str, list[_Bud]]:
    """Decide which named branches exist, where they leave and how much flow they take."""
    buds: dict[str, list[_Bud]] = {}
    for vessel in vessels:
        exists, at, share = rng.random() < vessel.probability, rng.uniform(*vessel.at), rng.uniform(*vessel.share)
        if exists and vessel.parent is not None:
            buds.setdefault(vessel.parent, []).append(_Bud(float(at), float(share), vessel))
    for name, own in buds.items():
        total = sum(bud.share for bud in own if bud.at == 1.0)
        # What leaves at the end of a vessel shares all of its flow.
        buds[name] = [_Bud(b.at, b.share / total if b.at == 1.0 else b.share, b.vessel) for b in own]
    return buds


def _draw_sprouts(rng: np.random.Generator, name: str, count: int) -> list[tuple[int, float]]:
    density, lowest, highest = _SPROUTING.get(name, _SPROUTING_ELSEWHERE)
    number = rng.poisson(density * count * STEP)
    at = rng.uniform(0.05, 0.97, number)
    shares = np.exp(rng.uniform(np.log(lowest), np.log(highest), number))
    # One branch a sample: the cubes of the radii at a branching are those of two daughters.
    return list({_sample(count, float(a)): float(share) for a, share in zip(at, shares, strict=True)}.items())


def _labels(rng: np.random.Generator, vessel: Vessel, own: Sequence[tuple[_Bud, int]], count: int) -> NDArray[np.int64]:
    """Return the SYNTAX category along a vessel; segments end where a branch leaves, if one leaves nearby."""
    labels = np.zeros(count, np.int64)
    start = 0
    for name, span in vessel.segments:
        share = float(rng.uniform(*span))
        near = [k for bud, k in own if span[0] <= bud.at <= span[1] and bud.at < 1.0]
        end = count if span == (1.0, 1.0) else (min(near) if near else _sample(count, share))
        labels[start:end] = CATEGORY_IDS[name]
        start = end
    return labels


def _radii(
    rng: np.random.Generator, radius: float, count: int, sites: Sequence[tuple[int, float]], terminal: bool
) -> Array:
    """Return the radius along a vessel: Murray's law at its branches, taper and slight unevenness between."""
    lost = np.zeros(count)
    for sample, share in sites:
        if sample < count - 1:
            lost[sample + 1] += share
    way = np.linspace(0, 1, count)
    taper = 1 - rng.uniform(0.02, 0.15) * way
    if terminal:
        taper *= 1 - 0.45 * way**4
    if radius > 0.5:  # mm; in thinner vessels nobody sees it
        uneven = 1 + rng.uniform(0.0, 0.04) * waves(rng, STEP * np.arange(count), (5.0, 25.0))
        taper *= uneven / uneven[0]
    return radius * np.cumprod((1 - np.minimum(lost, 0.9)) ** (1 / 3)) * taper


def _trunk(rng: np.random.Generator, heart: Heart, vessel: Vessel, tortuosity: float) -> Array:
    """Return the centerline of a vessel that leaves the aorta, in heart coordinates."""
    scale = heart.semi_axes / USUAL_SEMI_AXES
    if vessel.name == 'LM':
        end = np.array([-2, 32, 22]) + rng.normal(0, 2.0, 3)
        controls = np.array([[-9, 22, 9], [-8, 27, 15], end]) + rng.normal(0, 1.2, 3)
        return smooth_curve(controls * scale, STEP)
    # The course says where, the ostium's height and the bend behind it vary most between people.
    start = np.array([[-7, 20, -11], [-3, 27, -22]]) + rng.normal(0, 1.5, 3)
    surface = _surface(rng, heart, np.array(vessel.course), vessel.reach, spread=4.0)
    return _wind(rng, heart, smooth_curve(np.concatenate([start * scale, surface]), STEP), 1.4 * tortuosity)


def _course(rng: np.random.Generator, heart: Heart, vessel: Vessel, origin: Array, tortuosity: float) -> Array:
    """Return the centerline of a named branch from its origin (3,) on the parent."""
    angles = np.array(vessel.course, float)
    if vessel.relative:
        angles = angles * rng.uniform(0.8, 1.2, 2) + heart.angles(origin)
    controls = _surface(rng, heart, angles, vessel.reach, spread=2.5)
    return _wind(rng, heart, smooth_curve(np.concatenate([origin[None], controls]), STEP), tortuosity)


def _surface(rng: np.random.Generator, heart: Heart, angles: Array, reach: tuple[float, float], spread: float) -> Array:
    """Return jittered control points on the heart, (K, 3); the last is pulled back to shorten the vessel."""
    angles = angles + rng.normal(0, spread, 2) + rng.normal(0, spread / 2, angles.shape)
    keep = rng.uniform(*reach) * (len(angles) - 1)
    whole = int(np.ceil(keep))
    if whole >= 1:
        last = angles[whole - 1] + (keep - (whole - 1)) * (angles[whole] - angles[whole - 1])
        angles = np.concatenate([angles[:whole], last[None]])
    return heart.surface(angles[:, 0], angles[:, 1])


def _wind(rng: np.random.Generator, heart: Heart, points: Array, tortuosity: float) -> Array:
    """Add bends along the heart's surface, and smaller ones across it, that fade in from the origin."""
    distance = arc_length(points)
    normal = heart.normals(points)
    lateral = np.cross(normal, tangents(points))
    fade = np.clip(distance / 18.0, 0, 1)[:, None] ** 2
    strength = 1.5 * tortuosity
    bend = strength * waves(rng, distance, (16.0, 60.0), terms=4)[:, None] * lateral
    bend += 0.5 * strength * waves(rng, distance, (18.0, 40.0))[:, None] * normal
    # Thin vessels show short kinks as well.
    kinks = rng.uniform(0.1, 0.5) * tortuosity * (0.3 + 0.7 * distance / distance[-1])
    bend += (kinks * waves(rng, distance, (6.0, 15.0), terms=4))[:, None] * lateral
    if rng.random() < 0.4:
        # Corkscrews, mostly in the distal half.
        screw = 0.7 * rng.uniform(0.5, 1.5) * tortuosity * (distance / distance[-1])[:, None]
        bend += screw * waves(rng, distance, (8.0, 16.0), terms=2)[:, None] * lateral
    return resample(points + fade * bend, STEP)


def _grow_sprouts(
    rng: np.random.Generator,
    heart: Heart,
    branches: list[Branch],
    sites: Sequence[tuple[int, int, float]],
    generation: int,
    tortuosity: float,
) -> list[tuple[int, int, float]]:
    """Append the side branches of ``sites`` to ``branches`` and return where the next generation leaves them."""
    starts = [(p, k, branches[p].radii[k] * share ** (1 / 3)) for p, k, share in sites]
    starts = [start for start in starts if start[2] > _THINNEST]
    if not starts:
        return []
    radius = np.array([r for _, _, r in starts])
    point = np.array([branches[p].points[k] for p, k, _ in starts])
    ahead = np.array([_direction(branches[p].points, k) for p, k, _ in starts])
    septal = np.array([branches[p].name == 'LAD' for p, _, _ in starts]) & (rng.random(len(starts)) < 0.6)
    length = np.clip(32.0 * (radius / 0.5) ** 0.8 * rng.uniform(0.5, 1.4, len(starts)), 5.0, 55.0)
    curves = _walk(rng, heart, point, ahead, septal, float(length.max()), tortuosity)
    following: list[tuple[int, int, float]] = []
    for (parent, origin, first), way, curve in zip(starts, length, curves, strict=True):
        count = max(int(way / STEP), 8)
        number = rng.poisson(0.09 * way) if generation < 2 and first > 0.22 else 0
        places, shares = rng.uniform(0.1, 0.9, number), rng.uniform(0.12, 0.45, number)
        buds = list({_sample(count, float(a)): float(f) for a, f in zip(places, shares, strict=True)}.items())
        following += [(len(branches), k, share) for k, share in buds]
        branches.append(
            Branch(
                name='',
                parent=parent,
                origin=origin,
                points=curve[:count],
                radii=_radii(rng, first, count, buds, terminal=True),
                labels=np.zeros(count, np.int64),
                distance=branches[parent].distance[origin] + STEP * np.arange(count),
            )
        )
    return following


def _direction(points: Array, sample: int) -> Array:
    """Return the unit direction of a centerline around a sample, (3,)."""
    step = points[min(sample + 3, len(points) - 1)] - points[max(sample - 3, 0)]
    return step / max(float(np.linalg.norm(step)), 1e-9)


def _walk(
    rng: np.random.Generator,
    heart: Heart,
    start: Array,
    ahead: Array,
    septal: Flags,
    length: float,
    tortuosity: float,
) -> Array:
    """Return side branches (K, N, 3) of one length: walks in the surface, or straight into the septum.

    Args:
        rng: Where all variation comes from.
        heart: Whose surface the branches follow.
        start: Origins in heart coordinates, (K, 3).
        ahead: Directions of the parents there, (K, 3).
        septal: Which of them dive into the septum, (K,).
        length: mm; shorter branches are cut from it.
        tortuosity: Strength of the bends, about 1.
    """
    number = len(start)
    normal = heart.normals(start)
    lateral = np.cross(normal, ahead)
    lateral /= np.maximum(np.linalg.norm(lateral, axis=1, keepdims=True), 1e-9)
    coarse = 2.0  # mm between the walk's turns
    steps = int(np.ceil(length / coarse)) + 2
    side = rng.choice([-1.0, 1.0], (number, 1))
    angle = np.radians(rng.uniform(35, 80, (number, 1)))
    way = coarse * np.arange(steps)
    # Branches leave at an angle, swing towards the parent's direction, and wander.
    wander = 0.5 * tortuosity * np.cumsum(rng.normal(0, 0.4, (number, steps)), axis=1)
    wander -= wander[:, :1]
    wander = np.tanh(wander) * 0.9
    heading = side * angle * np.exp(-way / rng.uniform(15, 50, (number, 1))) + wander
    heading += rng.normal(0, 0.28 * tortuosity, (number, steps))
    forward = np.cumsum(np.cos(heading), axis=1) * coarse
    aside = np.cumsum(np.sin(heading), axis=1) * coarse
    across = np.where(septal[:, None], -normal, lateral)
    path = forward[:, :, None] * ahead[:, None] + aside[:, :, None] * np.where(
        septal[:, None, None], side[:, :, None] * across[:, None], across[:, None]
    )
    path = np.concatenate([np.zeros((number, 1, 3)), path], axis=1) + start[:, None]
    # Back onto the surface on which the branch began; septal branches stay inside.
    level = heart.level(start)[:, None]
    lift = np.where(septal[:, None], 1.0, level / np.maximum(heart.level(path), 1e-3))
    path = path * lift[:, :, None]
    return _refine(path, round(coarse / STEP))


def _refine(paths: Array, factor: int) -> Array:
    """Return paths (K, M, 3) as smooth curves with ``factor`` samples between neighbors (Catmull-Rom)."""
    padded = np.concatenate([2 * paths[:, :1] - paths[:, 1:2], paths, 2 * paths[:, -1:] - paths[:, -2:-1]], axis=1)
    t = (np.arange(factor) / factor)[None, None, :, None]
    a, b, c, d = (padded[:, k : k + paths.shape[1] - 1, None] for k in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(len(paths), -1, 3)
