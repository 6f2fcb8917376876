"""Objects of a COCO file: a box and outlines that belong together, upright and inside their image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vasomim.errors import DatasetError
from vasomim.prepare.plan import Box, Instance, Repairs
from vasomim.prepare.polygons import ROUNDING, Points, area, box_of, finite, read_box, read_polygons

LEAST_OVERLAP = 0.5
"""IoU of a box with its polygons; those of ARCADE agree to the last decimal."""


def read_instance(
    entry: dict[str, Any],
    category: int,
    width: int,
    height: int,
    place: str,
    repairs: Repairs,
    painted: bool = True,
) -> Instance | None:
    """Turn one COCO annotation into an instance inside its image.

    Args:
        entry: The annotation, with ``segmentation`` (polygons), ``bbox``, or both.
        category: Its class, 1 to K.
        width: Of the image.
        height: Of the image.
        place: Names the annotation in errors and repairs.
        repairs: Gets what was changed.
        painted: Whether masks are made of the outlines. If not, a sound box is enough, whatever its outline.

    Returns:
        The instance, or None if nothing of it lies inside the image; ``repairs`` says why.

    Raises:
        DatasetError: If what is needed is no list of polygons, or coordinates are no finite numbers.
    """
    published = entry.get('segmentation') or []
    upright, published = turn_upright(entry, published, place, repairs)
    fault = None
    polygons: tuple[Points, ...] = ()
    try:
        polygons = read_polygons(published, width, height, place, repairs)
    except DatasetError as error:
        if painted:
            raise
        fault = error
    if painted and published and not polygons:
        repairs.add('instances without a usable polygon left out', place)
        return None
    given = read_box(upright, width, height, place, repairs)
    if fault is not None:
        if given is None:
            raise fault
        repairs.add('outlines that are no polygons left out, their boxes kept', place)
    around = box_of(polygons) if polygons else None
    if around is not None and (given is None or iou(given, around) < LEAST_OVERLAP):
        repairs.add('boxes made again from their polygons', place)
        given = read_box(around, width, height, place, repairs)
    if given is None:
        repairs.add('instances without a usable box left out', place)
        return None
    return Instance(category, given, polygons)


def turn_upright(entry: dict[str, Any], published: Any, place: str, repairs: Repairs) -> tuple[Any, Any]:
    """Return the box of a COCO annotation and its outlines as they lie in the image.

    CVAT stores a box that was turned as it was before, with the turn in ``attributes.rotation``: in degrees, clockwise
    about the box's center. The box around the turned one is taken.

    Raises:
        DatasetError: If a turn is told in another way, whose center is not known, or is no number.
    """
    box = entry.get('bbox')
    for key in ('rotation', 'angle'):
        if degrees_of(entry.get(key), place):
            what = f"its box is turned by '{key}' {entry[key]}, about a point that the file does not name."
            raise DatasetError(place, what, 'Export upright boxes, or polygons.')
    degrees = degrees_of(attribute(entry.get('attributes'), 'rotation'), place)
    if not degrees or not box:
        return box, published
    numbers = finite(box, place)
    if numbers.size != 4 or min(numbers[2:]) <= 0:
        return box, published  # For :func:`read_box` to tell.
    corners = turned_corners(numbers.tolist(), degrees)
    if same_as_box(published, numbers):
        published = [corners.ravel().tolist()]
    repairs.add('boxes that are turned: the box around each taken', place)
    return box_of([corners]), published


def attribute(attributes: Any, name: str) -> Any:
    """Return an attribute of an annotation, from an object or a list of named values; None if it is not there."""
    if isinstance(attributes, dict):
        return attributes.get(name)
    entries = attributes if isinstance(attributes, list) else []
    return next((each.get('value') for each in entries if isinstance(each, dict) and each.get('name') == name), None)


def degrees_of(value: Any, place: str) -> float:
    """Return the turn of a box in degrees; 0 where none is given.

    Raises:
        DatasetError: If it is given, but no finite number.
    """
    if value is None or value == '':
        return 0.0
    try:
        degrees = float(value)
    except (TypeError, ValueError, OverflowError):
        degrees = math.nan
    if not math.isfinite(degrees):
        raise DatasetError(place, f'its rotation {value!r} is no number of degrees.', 'Correct it, or export it again.')
    return degrees


def turned_corners(box: Sequence[float], degrees: float) -> Points:
    """Return the corners (4, 2) of a box that was turned clockwise about its center."""
    left, top, wide, high = box
    across, down = np.array([-1, 1, 1, -1]) * wide / 2, np.array([-1, -1, 1, 1]) * high / 2
    # Quarter turns are exact: the cosine of 90 degrees is not quite 0.
    cosine, sine = (round(function(math.radians(degrees)), 15) for function in (math.cos, math.sin))
    x, y = across * cosine - down * sine, across * sine + down * cosine
    return np.stack([left + wide / 2 + x, top + high / 2 + y], axis=1)


def same_as_box(published: Any, box: Points) -> bool:
    """Return whether an outline is no more than the four corners of a box."""
    if not isinstance(published, list) or len(published) != 1 or not isinstance(published[0], list):
        return False
    try:
        points = finite(published[0], '')
    except DatasetError:  # :func:`read_polygons` tells what is wrong.
        return False
    if points.size not in (8, 10):  # Some exporters repeat the first corner.
        return False
    points = points.reshape(-1, 2)
    _, _, wide, high = box.tolist()
    filled = abs(area(points) - wide * high) <= ROUNDING * (wide + high)
    return filled and np.allclose(box_of([points]), box, atol=ROUNDING)


def iou(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes of positive size, in [0, 1]."""
    sides = (
        min(first[axis] + first[axis + 2], second[axis] + second[axis + 2]) - max(first[axis], second[axis])
        for axis in (0, 1)
    )
    common = np.prod([max(side, 0.0) for side in sides])
    return float(common / (first[2] * first[3] + second[2] * second[3] - common))
