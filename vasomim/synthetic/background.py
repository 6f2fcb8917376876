"""The chest behind the vessels: lungs, heart, diaphragm, spine and ribs, as attenuation in the C-arm's view."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vasomim.synthetic.attenuation import ellipsoid_path_length
from vasomim.synthetic.bones import bone_attenuation
from vasomim.synthetic.heart import Heart
from vasomim.synthetic.imaging import Image, blur, enlarge
from vasomim.synthetic.projection import CArm

_UPRIGHT = np.eye(3)


def chest_attenuation(rng: np.random.Generator, heart: Heart, arm: CArm, gamma: float) -> Image:
    """Return the attenuation (log of the beam's loss, up to a constant) of the chest, (size, size).

    Everything is drawn at half the frame's resolution: nothing in a chest is sharper.

    Args:
        rng: Where all variation comes from.
        heart: Casts its shadow.
        arm: The view.
        gamma: Exponent of the display. Voltage and filters are chosen so that a chest, thick or thin, fills the range.
    """
    half = arm.size // 2
    coarse = replace(arm, size=half, spacing=arm.spacing * arm.size / half)
    image = blur(_warp(rng, _organs(rng, heart, coarse)), rng.uniform(0.4, 1.1) * half / 256)
    image *= np.float32(np.clip(rng.uniform(0.1, 0.3) / max(float(image.std()), 1e-6), 0.3, 2.5))
    bones = bone_attenuation(rng, coarse)
    bones *= 1 + 0.35 * _texture(rng, half) / 0.05
    image += blur(bones, rng.uniform(0.35, 1.0) * half / 256)
    image += _texture(rng, half) + _markings(rng, half)
    image *= np.float32(1 / gamma)
    return enlarge(image, arm.size)


def _organs(rng: np.random.Generator, heart: Heart, arm: CArm) -> Image:
    """Return the attenuation of lungs (negative), heart, great vessels and what lies under the diaphragm."""
    source, rays = arm.rays(arm.size)
    deep = rng.normal(-48, 16)  # top of the diaphragm, by breathing depth
    lungs, organs = rng.uniform(0.004, 0.009), rng.uniform(0.004, 0.009)
    shapes = [
        (-lungs, (72, 18, 25), (48, 72, 112), _UPRIGHT),
        (-lungs, (-76, 18, 20), (52, 78, 116), _UPRIGHT),
        (1.6 * organs, (-58, 0, deep - 92), (78, 92, 96), _UPRIGHT),
        (1.6 * organs, (66, 5, deep - 102), (72, 84, 98), _UPRIGHT),
        (0.8 * organs, (0, 20, 70), (27, 45, 190), _UPRIGHT),
        (1.1 * organs, heart.frame[0] * 22, heart.semi_axes * (0.95, 1.25, 1.25), heart.frame),
    ]
    if rng.random() < 0.3:  # air in the stomach
        shapes.append((-organs, (60, -10, deep - 30), (28, 25, 18), _UPRIGHT))
    total = np.zeros((arm.size, arm.size), np.float32)
    for coefficient, center, semi_axes, frame in shapes:
        where = np.asarray(center, float) + rng.normal(0, 7, 3)
        size = np.asarray(semi_axes, float) * rng.uniform(0.9, 1.1, 3)
        total += np.float32(coefficient * rng.uniform(0.7, 1.3)) * ellipsoid_path_length(
            source, rays, where, size, frame
        )
    return total


def _warp(rng: np.random.Generator, image: Image) -> Image:
    """Bend an image slightly: organs are no ellipsoids."""
    size = image.shape[0]
    base = np.arange(size, dtype=np.float32)
    maps = []
    for start in (base[None, :], base[:, None]):
        coarse = rng.standard_normal((7, 7), dtype=np.float32) * np.float32(rng.uniform(0.008, 0.024) * size)
        maps.append(start + enlarge(coarse, size))
    return cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _markings(rng: np.random.Generator, size: int) -> Image:
    """Return the lungs' own vessels and folds: faint soft lines of all directions."""
    canvas = np.zeros((size, size), np.float32)
    number = int(rng.integers(15, 90))
    start = rng.uniform(-0.1, 1.1, (number, 1, 2))
    heading = rng.normal(rng.uniform(0, np.pi), 0.8, (number, 1)) + np.cumsum(rng.normal(0, 0.25, (number, 12)), axis=1)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=2) * rng.uniform(0.008, 0.03, (number, 1, 1))
    lines = np.round((start + np.cumsum(steps, axis=1)) * size * 16).astype(np.int32)
    for line, width in zip(lines, rng.integers(1, 6, number).tolist(), strict=True):
        layer = np.zeros_like(canvas)
        width = max(round(width * size / 256), 1)
        cv2.polylines(layer, [line], False, float(rng.normal(0, 0.035)), width, cv2.LINE_8, 4)
        canvas += layer
    return blur(canvas, rng.uniform(0.8, 2.0) * size / 256)


def _texture(rng: np.random.Generator, size: int) -> Image:
    """Return cloudy structure: noise of all scales, and streaks of muscle and skin folds."""
    image: Image = np.zeros((size, size), np.float32)
    strength, slope = rng.uniform(0.015, 0.04), rng.uniform(0.3, 0.8)
    for cells in (4, 7, 13, 25, 49, 97, 193):
        if cells > size:
            break
        noise = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32)
        amplitude = np.float32(strength * min(cells / 13, (13 / cells) ** slope))
        layer = enlarge(noise, size)
        # Fine structure has the ridges of folds, airways and small vessels rather than the blobs of clouds.
        image += amplitude * (layer if cells < 13 else 0.8 - 1.3 * np.abs(layer))
    # Lungs are mottled where the heart is smooth.
    patches = enlarge(rng.random((4, 4), dtype=np.float32), size)
    image *= 0.35 + 1.2 * patches
    if rng.random() < 0.6:
        noise = rng.standard_normal((48, 5), dtype=np.float32) * np.float32(rng.uniform(0.01, 0.05))
        streaks = enlarge(noise, 2 * size)
        turn = cv2.getRotationMatrix2D((size, size), float(rng.uniform(-70, 70)), 1.0)
        turn = turn - np.array([[0, 0, size / 2], [0, 0, size / 2]])
        turned: Image = cv2.warpAffine(streaks, turn, (size, size), flags=cv2.INTER_LINEAR)
        image += turned
    return image
