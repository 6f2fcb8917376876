"""Smooth curves in space: splines through control points, even sampling, tortuosity."""

from __future__ import annotations

import numpy as np

from vasomim.synthetic.imaging import Array


def natural_spline(knots: Array, values: Array, at: Array) -> Array:
    """Interpolate with a natural cubic spline.

    Args:
        knots: Increasing parameters, (K,), K >= 2.
        values: Values at the knots, (K, D).
        at: Parameters between the first and the last knot, (N,).

    Returns:
        Interpolated values, (N, D).
    """
    steps = np.diff(knots)
    count = len(knots)
    system = np.eye(count)
    target = np.zeros_like(values)
    for k in range(1, count - 1):
        system[k, k - 1 : k + 2] = steps[k - 1], 2 * (steps[k - 1] + steps[k]), steps[k]
        target[k] = 6 * ((values[k + 1] - values[k]) / steps[k] - (values[k] - values[k - 1]) / steps[k - 1])
    curvature = np.linalg.solve(system, target)
    left = np.clip(np.searchsorted(knots, at, side='right') - 1, 0, count - 2)
    width = steps[left][:, None]
    b = (at - knots[left])[:, None] / width
    a = 1 - b
    return (
        a * values[left]
        + b * values[left + 1]
        + ((a**3 - a) * curvature[left] + (b**3 - b) * curvature[left + 1]) * width**2 / 6
    )


def resample(points: Array, step: float) -> Array:
    """Return points (N, 3) that lie ``step`` apart along the polyline ``points`` (M, 3), its end included."""
    distance = arc_length(points)
    count = max(round(float(distance[-1]) / step) + 1, 4)
    at = np.linspace(0.0, distance[-1], count)
    return np.stack([np.interp(at, distance, points[:, axis]) for axis in range(points.shape[1])], axis=1)


def arc_length(points: Array) -> Array:
    """Return the distance along a polyline (N, D) from its first point to each point, (N,)."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def smooth_curve(controls: Array, step: float) -> Array:
    """Return a smooth curve through control points (K, 3), sampled every ``step``: (N, 3)."""
    knots = arc_length(controls)
    fine = natural_spline(knots, controls, np.linspace(0.0, knots[-1], max(int(knots[-1] / 1.0), 8)))
    return resample(fine, step)


def waves(rng: np.random.Generator, distance: Array, wavelength: tuple[float, float], terms: int = 3) -> Array:
    """Return a random smooth function of ``distance`` (N,) with values of order 1, as a sum of sine waves, (N,)."""
    lengths = rng.uniform(*wavelength, (terms, 1))
    phases = rng.uniform(0, 2 * np.pi, (terms, 1))
    amplitudes = rng.uniform(0.3, 1.0, (terms, 1))
    return (amplitudes * np.sin(2 * np.pi * distance / lengths + phases)).sum(axis=0) / np.sqrt(terms)


def tangents(points: Array) -> Array:
    """Return unit tangents, (N, 3), of a curve (N, 3)."""
    direction = np.gradient(points, axis=0)
    return direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
