"""What a published set holds, once it has been read: frames with their truth, by split, and what had to be repaired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError, printable

SPLITS = ('train', 'val', 'test')

LONGEST_NAME = 255  # Bytes of a file's name on common file systems.

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels; (0, 0) is the corner of the image, not the center of its first pixel."""


@dataclass(frozen=True)
class Instance:
    """One object of a frame.

    Attributes:
        category: Its class, 1 to K.
        box: Inside the image, of positive size.
        polygons: Outlines (N, 2) of x and y, inside the image; none for sets of boxes.
    """

    category: int
    box: Box
    polygons: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True)
class Frame:
    """One image with its truth.

    Attributes:
        name: Its name in the prepared set, without an ending.
        split: One of ``SPLITS``.
        image: The published file.
        mask: Its published mask, for sets of masks.
        instances: Its objects, for sets of polygons or boxes.
        size: Width and height that the annotation names, if it does; the image must have them.
        side: 'left' or 'right' coronary tree, where the annotation tells.
    """

    name: str
    split: str
    image: Path
    mask: Path | None = None
    instances: tuple[Instance, ...] = ()
    size: tuple[int, int] | None = None
    side: str | None = None

    def __post_init__(self) -> None:
        """Refuse a name before work is spent on the set.

        Raises:
            DatasetError: If it does not fit into a line of a list or into a file's name.
        """
        fault = fault_of_name(self.name)
        if fault:
            raise DatasetError(self.image, f"the frame's name {fault}.", 'Rename the file, and where it is listed.')


def fault_of_name(name: str) -> str:
    """Return why a frame cannot have a name: lists hold one a line, as UTF-8; '' if it can."""
    if name.splitlines() != [name]:
        return 'holds a line break' if name else 'is empty'
    try:
        length = len(f'{name}.png'.encode())
    except UnicodeEncodeError:
        return 'is not UTF-8'
    return f'would have {length} bytes, and a name has {LONGEST_NAME} at most' if length > LONGEST_NAME else ''


class Repairs:
    """What was changed or left out, by kind, each with its place: counted, listed, stored beside the data."""

    def __init__(self) -> None:
        self.places: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, place: str) -> None:
        """Record one repair: ``kind`` is what was done, in words; ``place`` names the file and object."""
        self.places[kind].append(printable(place))  # It is printed, and stored as JSON.

    def update(self, other: Repairs) -> None:
        """Take over the repairs of another record."""
        for kind, places in other.places.items():
            self.places[kind].extend(places)

    def lines(self, shown: int = 3) -> list[str]:
        """Describe the repairs, a line each kind, with the first places."""
        return [
            f'{len(places)} {kind} ({", ".join(places[:shown])}{", ..." if len(places) > shown else ""})'
            for kind, places in self.places.items()
        ]


@dataclass(frozen=True)
class Plan:
    """A prepared set before it is written.

    Attributes:
        name: Which set it is: 'arcade_v', 'xcav', ..., or 'folder'.
        classes: Names of the classes 1 to K; the background is no class here.
        frames: All frames; their names differ.
        masks: Whether masks are written.
        boxes: Whether COCO files are written.
        grey_values: Background and foreground value of the published masks, for sets of masks.
        split_rule: In words, where the splits come from.
        repairs: What was changed on the way.
        synthetic: Whether the frames are simulated, so that published counts do not apply.
    """

    name: str
    classes: tuple[str, ...]
    frames: tuple[Frame, ...]
    masks: bool
    boxes: bool
    split_rule: str
    grey_values: Mapping[int, int] | None = None
    repairs: Repairs = field(default_factory=Repairs)
    synthetic: bool = False
