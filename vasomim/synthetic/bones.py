"""The spine and the ribs, as attenuation in the C-arm's view."""

from __future__ import annotations

import cv2
import numpy as np

from vasomim.synthetic.curves import natural_spline, waves
from vasomim.synthetic.imaging import Array, Image, blur
from vasomim.synthetic.projection import CArm


def bone_attenuation(rng: np.random.Generator, arm: CArm) -> Image:
    """Return the attenuation of the bones behind the heart, (size, size)."""
    return _spine(rng, arm) + _ribs(rng, arm)


def _spine(rng: np.random.Generator, arm: CArm) -> Image:
    """Return the attenuation of the thoracic spine: bodies with endplates, pedicles, spinous processes."""
    canvas = np.zeros((arm.size, arm.size), np.float32)
    pitch, behind, wide = rng.uniform(24, 29), rng.uniform(66, 90), rng.uniform(15, 20)
    tall, lean, start = 0.42 * pitch, rng.normal(0, 0.05), rng.uniform(-0.5, 0.5)
    right = arm.axes[0] * (1, 1, 0)
    right /= np.linalg.norm(right)
    body, plates, arches = rng.uniform(0.02, 0.1), rng.uniform(0.03, 0.13), rng.uniform(0.03, 0.13)
    for k in range(-7, 8):
        middle = np.array([lean * pitch * k, behind, (k + start) * pitch]) + rng.normal(0, 0.7, 3)
        center, magnification = arm.project(middle[None])
        scale = float(magnification[0])
        if (np.abs(center[0] - arm.size / 2) > arm.size / 2 + 25 * scale).any():
            continue
        rings = [_endplate(rng, arm, middle + np.array([0, 0, end * tall]), wide) for end in (-1, 1)]
        # The waist of a body is narrower than its ends.
        waist, _ = arm.project(middle + np.array([[-0.88 * wide], [0.88 * wide]]) * right)
        corners = [ring[np.argsort(ring[:, 0])[[0, -1]]] for ring in rings]
        for side in (0, 1):
            edge = np.stack([corners[0][side], waist[side] + rng.normal(0, 0.8, 2), corners[1][side]])
            _stroke(canvas, edge, plates * rng.uniform(0.2, 0.8), 1.1 * scale)
        hull = cv2.convexHull(np.concatenate(rings).astype(np.float32))[:, 0]
        _fill(canvas, hull.astype(np.float64), body)
        for ring in rings:
            _stroke(canvas, ring, plates * rng.uniform(0.4, 1.1), rng.uniform(0.8, 1.5) * scale)
        for side in (-1, 1):
            pedicle, _ = arm.project(middle[None] + (side * 0.72 * wide, 22, 0.2 * tall) + rng.normal(0, 1.0, 3))
            _arc(rng, canvas, pedicle[0], scale * np.array([2.6, 4.2]), arches * rng.uniform(0.2, 1.1), 1.2 * scale)
        process, _ = arm.project(middle[None] + (0, 42, -0.6 * tall) + rng.normal(0, 1.5, 3))
        _arc(rng, canvas, process[0], scale * np.array([1.6, 6.0]), arches * rng.uniform(0.2, 1.1), 1.4 * scale)
    return canvas + _column(rng, arm, behind, 1.15 * wide, lean)


def _endplate(rng: np.random.Generator, arm: CArm, center: Array, wide: float) -> Array:
    """Return the projected rim of a vertebral body's end, (25, 2): an ellipse in space, a line in frontal views."""
    turns = np.linspace(0, 2 * np.pi, 25)
    reach = 1 + 0.05 * np.sin(2 * turns + rng.uniform(0, 6)) + 0.03 * np.sin(3 * turns + rng.uniform(0, 6))
    tilt = rng.normal(0, 0.06) * np.cos(turns) + rng.normal(0, 0.06) * np.sin(turns)
    rim = np.stack([wide * reach * np.cos(turns), 0.75 * wide * reach * np.sin(turns), wide * tilt], axis=1)
    rim[:, 2] += rng.normal(0, 0.5, 25)
    rim[-1] = rim[0]
    return arm.project(center + rim)[0]


def _column(rng: np.random.Generator, arm: CArm, behind: float, wide: float, lean: float) -> Image:
    """Return the even shadow of discs, muscles and mediastinum along the spine."""
    z = np.arange(-230, 231, 10.0)
    edges = [side * (wide + 1.5 * waves(rng, z, (30.0, 120.0))) + rng.normal(0, 2.0) + lean * z for side in (-1, 1)]
    x = np.concatenate([edges[0], edges[1][::-1]])
    z = np.concatenate([z, z[::-1]])
    outline, _ = arm.project(np.stack([x, np.full(len(x), behind), z], axis=1))
    shadow = np.zeros((arm.size, arm.size), np.float32)
    _fill(shadow, outline, rng.uniform(0.05, 0.3))
    return blur(shadow, rng.uniform(0.7, 4.0) * arm.size / 256)


def _fill(image: Image, outline: Array, value: float) -> None:
    """Add a value inside a polygon (N, 2)."""
    layer = np.zeros_like(image)
    cv2.fillPoly(layer, [np.round(outline * 16).astype(np.int32)], value, cv2.LINE_8, 4)
    image += layer


def _stroke(image: Image, line: Array, value: float, width: float) -> None:
    """Add a value along a polyline (N, 2)."""
    layer = np.zeros_like(image)
    points = np.round(line * 16).astype(np.int32)
    cv2.polylines(layer, [points], False, value, max(round(width), 1), cv2.LINE_8, 4)
    image += layer


def _arc(rng: np.random.Generator, image: Image, center: Array, axes: Array, value: float, width: float) -> None:
    """Add a value along most of a slightly tilted ellipse: rims of bone are seen where the beam grazes them."""
    begin, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.25)
    turns = begin + np.linspace(0, rng.uniform(3.0, 2 * np.pi), 20)
    local = np.stack([np.cos(turns), np.sin(turns)], axis=1) * axes * rng.uniform(0.8, 1.2, 2)
    cos, sin = np.cos(tilt), np.sin(tilt)
    _stroke(image, center + local @ np.array([[cos, sin], [-sin, cos]]), value, width)


def _ribs(rng: np.random.Generator, arm: CArm) -> Image:
    """Return the attenuation of the ribs: bands with dense edges."""
    canvas = np.zeros((arm.size, arm.size), np.float32)
    pitch, wide = rng.uniform(24, 31), rng.uniform(108, 128)
    start, thick = rng.uniform(-0.5, 0.5), rng.uniform(6.0, 9.0)
    front, back = rng.uniform(0.0, 1.0), rng.uniform(0.0, 0.7)
    # From the spine around the side to the front, each rib lower than where it began.
    course = np.array([(18, 88, 0), (0.72 * wide, 84, -12), (wide, 15, -38), (0.72 * wide, -72, -66), (38, -92, -58)])
    ribs = np.array([course * (side, 1, 1) + (0, 0, (k + start) * pitch) for k in range(-4, 8) for side in (-1, 1)])
    ribs += rng.normal(0, 3.0, ribs.shape)
    at = np.linspace(0, 4, 41)
    curves = natural_spline(np.arange(5.0), ribs.swapaxes(0, 1).reshape(5, -1), at).reshape(41, -1, 3).swapaxes(0, 1)
    pixels, scale = arm.project(curves.reshape(-1, 3))
    for points, width in zip(pixels.reshape(-1, 41, 2), thick * scale.reshape(-1, 41), strict=True):
        for part, strength in ((slice(0, 21), back), (slice(20, None), front)):
            x, y = points[part].T
            if ((x > -40) & (x < arm.size + 40) & (y > -40) & (y < arm.size + 40)).any():
                _band(canvas, points[part], float(width[part].mean()), strength * rng.uniform(0.5, 1.0))
    return canvas


def _band(image: Image, line: Array, width: float, strength: float) -> None:
    """Add a band along a polyline (N, 2), its two edges denser than its middle."""
    layer = np.zeros_like(image)
    points = [np.round(line * 16).astype(np.int32)]
    cv2.polylines(layer, points, False, 0.07 * strength, max(round(width), 1), cv2.LINE_8, 4)
    cv2.polylines(layer, points, False, 0.035 * strength, max(round(width * 0.75), 1), cv2.LINE_8, 4)
    image += layer
