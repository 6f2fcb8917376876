"""Annotations of pictures that EXIF turns: made as the picture is shown, or as it is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vasomim.frames.headers import Header, turned_point
from vasomim.frames.images import image_header
from vasomim.prepare.plan import Frame, Instance


def as_shown(frame: Frame) -> Frame:
    """Return a frame with its objects where they lie in the picture as it is shown, which is how it is read.

    Some annotation tools heed EXIF, others do not. The size that the annotation names tells which it was, unless the
    turned picture has the size of the stored one: then the annotation is taken for one of the picture as it is shown.

    Args:
        frame: With the size that its annotation names. One of neither size stays as it is, and is refused later.
    """
    if frame.size is None:
        return frame
    header = image_header(frame.image)
    if header is None or header.orientation == 1 or frame.size == header.size[::-1]:
        return frame
    if frame.size != (header.width, header.height):
        return frame
    instances = tuple(turned_instance(instance, header) for instance in frame.instances)
    return replace(frame, instances=instances, size=header.size[::-1])


def turned_instance(instance: Instance, header: Header) -> Instance:
    """Return an object of the stored picture in the one that is shown."""
    left, top, width, height = instance.box
    x, y = turned_point(left, top, header)
    other_x, other_y = turned_point(left + width, top + height, header)
    box = min(x, other_x), min(y, other_y), abs(other_x - x), abs(other_y - y)
    polygons = tuple(
        np.array([turned_point(x, y, header) for x, y in polygon.tolist()]) for polygon in instance.polygons
    )
    return replace(instance, box=box, polygons=polygons)
