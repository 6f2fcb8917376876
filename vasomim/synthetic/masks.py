"""Masks and polygons of projected vessels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.synthetic.imaging import Array, Mask

_FRACTION_BITS = 4
_THIN = 2.0  # px; in thinner tubes each pixel's distance is computed


def tube_mask(points: Array, radii: Array, size: int, breaks: NDArray[np.int64] | None = None) -> Mask:
    """Return the pixels that projected tubes cover.

    Args:
        points: Projected samples of the axes, pixels, (N, 2).
        radii: Radii, pixels, (N,).
        size: The square mask's height and width.
        breaks: Indices at which a new tube begins; the first, 0, may be left out.

    Returns:
        Mask, (size, size), in {0, 1}.
    """
    mask = np.zeros((size, size), np.uint8)
    if not len(points):
        return mask
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    # Discs half a radius apart leave no visible notches between them; thin vessels need one per pixel.
    spacing = np.maximum(0.35 * radii, 0.8)
    slot = np.cumsum(np.concatenate([[0.0], np.diff(way) / spacing[1:]])).astype(np.int64)
    keep = np.concatenate([[True], np.diff(slot) > 0])
    if breaks is not None:
        keep[np.minimum(breaks, len(points) - 1)] = True
    x, y, reach = points[:, 0], points[:, 1], radii + 1
    keep &= (x > -reach) & (x < size - 1 + reach) & (y > -reach) & (y < size - 1 + reach)
    points, radii = points[keep], radii[keep]
    thin = radii <= _THIN
    _cover_thin(mask, points[thin], radii[thin])
    fine = 1 << _FRACTION_BITS
    centers = np.rint(points[~thin] * fine).astype(np.int64).tolist()
    # OpenCV fills the pixels that the outline touches, which is about 0.4 px beyond it.
    widths = np.rint((radii[~thin] - 0.4) * fine).astype(np.int64).tolist()
    for center, width in zip(centers, widths, strict=True):
        cv2.circle(mask, center, width, 1, -1, cv2.LINE_8, _FRACTION_BITS)
    return mask


def _cover_thin(mask: Mask, points: Array, radii: Array) -> None:
    """Set the pixels within thin tubes, and at least the one below each sample."""
    size = len(mask)
    near = np.rint(points).astype(np.int64)
    for down in range(-2, 3):
        for right in range(-2, 3):
            x, y = near[:, 0] + right, near[:, 1] + down
            covered = (x - points[:, 0]) ** 2 + (y - points[:, 1]) ** 2 < radii**2
            if right == down == 0:
                covered[:] = True
            covered &= (x >= 0) & (x < size) & (y >= 0) & (y < size)
            mask[y[covered], x[covered]] = 1


def outline(mask: Mask, smallest: float = 12.0) -> list[list[float]]:
    """Return a mask's outer contours as COCO polygons, [[x1, y1, x2, y2, ...], ...].

    Args:
        mask: (H, W), in {0, 1}.
        smallest: Contours that enclose less are left out, pixels.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for contour in contours:
        if len(contour) >= 3 and cv2.contourArea(contour) >= smallest:
            polygons.append([float(value) for value in contour.reshape(-1)])
    return polygons


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of a mask's pixels; (0, 0, 0, 0) where there are none."""
    x, y, width, height = cv2.boundingRect(mask)
    return int(x), int(y), int(width), int(height)
