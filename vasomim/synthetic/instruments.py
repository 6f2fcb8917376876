"""What people put into the chest: the catheter in the ostium, leads of a pacemaker, wires in the sternum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vasomim.synthetic.curves import smooth_curve
from vasomim.synthetic.imaging import Array

_FRENCH = 1 / 3  # mm of diameter


@dataclass(frozen=True)
class Tube:
    """A tube in patient coordinates.

    Attributes:
        points: Centerline, mm, (N, 3).
        radii: Radius, mm, (N,).
        density: Attenuation relative to the filled lumen, (N,), >= 0.
        step: Way between two points, mm.
    """

    points: Array
    radii: Array
    density: Array
    step: float


def draw_catheter(rng: np.random.Generator, ostium: Array, inward: Array) -> Tube:
    """Return a filled catheter of 5 to 7 French that comes down the aorta into the ostium.

    Args:
        rng: Where all variation comes from.
        ostium: Patient coordinates, mm, (3,).
        inward: Unit direction of the vessel at the ostium, (3,).
    """
    radius = rng.uniform(5.0, 7.0) * _FRENCH / 2
    tip = ostium + 2.0 * inward
    # The shaft leans on the wall of the aortic root opposite to the ostium, then climbs to the arch.
    wide, low = rng.uniform(12, 24), rng.uniform(-9, 9)
    bottom = ostium - 0.6 * wide * inward + np.array([0, 0, low])
    opposite = ostium - wide * inward + np.array([0, 0, low + rng.uniform(7, 13)])
    climb = (
        ostium
        - inward * rng.uniform(0.8, 1.3) * wide
        + np.array([rng.normal(0, 5), rng.normal(0, 5), rng.uniform(38, 55)])
    )
    arch = climb + np.array([rng.normal(-14, 10), rng.normal(6, 6), rng.uniform(45, 60)])
    out = arch + np.array([rng.normal(-22, 16), rng.normal(10, 8), 70])
    points = smooth_curve(np.stack([tip, ostium - 3.0 * inward, bottom, opposite, climb, arch, out]), 0.25)
    density = np.full(len(points), rng.uniform(0.8, 1.15))
    return Tube(points, np.full(len(points), radius), density, 0.25)


def draw_reflux(rng: np.random.Generator, ostium: Array, inward: Array) -> Tube:
    """Return a puff of contrast that runs back into the aortic root, thinned by the blood there."""
    number = 40
    spread = np.cumsum(rng.normal(0, 1.1, (number, 3)), axis=0) * 0.6
    points = ostium - inward * np.linspace(1, 9, number)[:, None] + spread
    return Tube(points, rng.uniform(2.0, 5.0, number), np.full(number, rng.uniform(0.1, 0.5)), 0.5)


def draw_lead(rng: np.random.Generator) -> Tube:
    """Return a pacemaker's lead from the upper left vein into the right ventricle, its electrode at the tip."""
    controls = np.array([(95, -20, 170), (20, -10, 140), (-28, 0, 80), (-36, -12, 15), (0, -45, -35), (42, -62, -48)])
    points = smooth_curve(controls + rng.normal(0, 8, controls.shape), 0.25)
    radii = np.full(len(points), rng.uniform(0.7, 1.1))
    density = np.full(len(points), rng.uniform(0.8, 1.4))
    density[-24:] = density[-70:-55] = 6.0
    return Tube(points, radii, density, 0.25)


def draw_sternal_wires(rng: np.random.Generator) -> list[Tube]:
    """Return the wire loops that close a sternum after surgery."""
    turns = np.linspace(0, 2 * np.pi, 90)
    wires = []
    for z in np.arange(60, -60, -rng.uniform(22, 30)):
        loop = np.stack([9 * np.cos(turns), -92 + 5 * np.sin(turns), z + 2.5 * np.sin(turns + 1)], axis=1)
        loop = loop + rng.normal(0, 1.5, 3) + np.cumsum(rng.normal(0, 0.12, loop.shape), axis=0)
        wires.append(Tube(loop, np.full(len(loop), 0.4), np.full(len(loop), 12.0), 0.6))
    return wires
