"""Polygons and boxes of an annotation: cut at the image's edge, checked, painted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.prepare.plan import Box, Instance, Repairs

ROUNDING = 0.05
"""Pixels that a coordinate may lie outside the image without being counted: published ones have two decimals."""

LEAST_AREA = 1e-6
"""Square pixels; what lies on a line has less, though rounding seldom leaves it at exactly 0."""

Points = NDArray[np.float64]


def read_polygons(
    published: Any, width: int, height: int, place: str, repairs: Repairs
) -> tuple[NDArray[np.float64], ...]:
    """Return those published polygons that have an area inside the image, cut at its edge.

    Raises:
        DatasetError: If they are run-length codes, or coordinates are no finite numbers.
    """
    if not isinstance(published, list) or not all(isinstance(part, list) for part in published):
        raise DatasetError(
            place,
            'its segmentation is no list of polygons; run-length codes are not read.',
            'Export polygons [[x, y, x, y, ...], ...] from the annotation tool.',
        )
    polygons = []
    for part in published:
        numbers = finite(part, place)
        points: Points = numbers[: numbers.size // 2 * 2].reshape(-1, 2)
        if numbers.size % 2:
            repairs.add('polygons with an odd number of coordinates: the last one left out', place)
        if area(points) < LEAST_AREA:
            repairs.add('polygons without an area left out', place)
            continue
        outside = max(-points.min(), (points - (width, height)).max())
        if outside > 0:
            points = clip(points, width, height)
            if area(points) < LEAST_AREA:
                repairs.add('polygons outside the image left out', place)
                continue
            if outside > ROUNDING:
                repairs.add("polygons cut at the image's edge", place)
        polygons.append(points)
    return tuple(polygons)


def read_box(box: Any, width: int, height: int, place: str, repairs: Repairs) -> Box | None:
    """Return a box cut at the image's edge; None if it is missing, has no size or lies outside.

    Raises:
        DatasetError: If it is given, but not as four finite numbers.
    """
    if not box:
        return None
    numbers = finite(box, place)
    if numbers.size != 4:
        what, cure = f'its box has {numbers.size} numbers.', 'Give left, top, width and height of upright boxes.'
        raise DatasetError(place, what, cure)
    left, top, wide, high = numbers.tolist()
    if wide <= 0 or high <= 0:
        repairs.add('boxes without a size', place)
        return None
    right, bottom = min(left + wide, width), min(top + high, height)
    outside = max(-left, -top, left + wide - width, top + high - height)
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top:
        repairs.add('boxes outside the image', place)
        return None
    if right - left < 1 or bottom - top < 1:  # mmdet drops them in silence.
        repairs.add('boxes thinner than a pixel', place)
        return None
    if outside > ROUNDING:
        repairs.add("boxes cut at the image's edge", place)
    return left, top, right - left, bottom - top


def finite(values: Any, place: str) -> NDArray[np.float64]:
    """Return coordinates as an array.

    Raises:
        DatasetError: If they are no finite numbers.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array([np.nan])
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise DatasetError(place, 'a coordinate is no finite number.', 'Correct it in the annotation file.')
    return numbers


def area(points: Points) -> float:
    """Return the area of a polygon (N, 2) in square pixels: 0 for fewer than three points."""
    if len(points) < 3:
        return 0.0
    x, y = (points - points[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def box_of(polygons: Sequence[Points]) -> Box:
    """Return the smallest box around polygons."""
    points = np.concatenate(polygons)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return left, top, right - left, bottom - top


def clip(points: Points, width: int, height: int) -> Points:
    """Cut a polygon at the edges of an image, one after the other (the method of Sutherland and Hodgman).

    Args:
        points: (N, 2).
        width: Of the image.
        height: Of the image.

    Returns:
        (M, 2), empty if nothing is left. A polygon that leaves and comes back keeps a seam along the edge, of no area.
    """
    for axis, bound, sign in ((0, 0, 1), (1, 0, 1), (0, width, -1), (1, height, -1)):
        if not len(points):
            break
        depth = sign * (points[:, axis] - bound)  # Negative outside.
        kept = []
        for here, following, inside, next_inside in zip(
            points, np.roll(points, -1, axis=0), depth, np.roll(depth, -1), strict=True
        ):
            if inside >= 0:
                kept.append(here)
            if (inside < 0) != (next_inside < 0):
                kept.append(here + (following - here) * (inside / (inside - next_inside)))
        points = np.array(kept).reshape(-1, 2)
    return np.clip(points, 0, (width, height))  # Crossings are off by a rounding error.


def fill(points: Points, height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels whose center lies inside a polygon.

    The center of pixel (row, column) is (column + 0.5, row + 0.5). Where a polygon crosses itself, the even-odd rule
    decides. OpenCV's own filling would add the pixels that the outline touches, which widens a thin vessel by a third.

    Args:
        points: x and y, (N, 2).
        height: Of the image.
        width: Of the image.
    """
    rows = np.arange(height)[:, None] + 0.5
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    row, edge = np.nonzero((y <= rows) != (next_y <= rows))
    share = (row + 0.5 - y[edge]) / (next_y[edge] - y[edge])
    crossing = x[edge] + share * (next_x[edge] - x[edge])
    turns = np.zeros((height, width + 1), np.int32)
    np.add.at(turns, (row, np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)), 1)
    return np.cumsum(turns, axis=1)[:, :width] % 2 == 1


def paint(instances: Sequence[Instance], height: int, width: int) -> NDArray[np.uint8]:
    """Paint instances into a mask of class indices, large ones first.

    Segments overlap at bifurcations. There the smaller one shows, so that none vanishes under its parent; of equal
    areas, the higher class shows. The order in the file plays no role.

    Args:
        instances: With polygons, whose union is filled.
        height: Of the image.
        width: Of the image.

    Returns:
        uint8 (H, W), 0 where no instance lies.
    """
    mask = np.zeros((height, width), np.uint8)
    for instance in sorted(instances, key=lambda each: (-sum(map(area, each.polygons)), each.category)):
        for polygon in instance.polygons:
            mask[fill(polygon, height, width)] = instance.category
    return mask
