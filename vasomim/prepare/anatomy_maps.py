"""Make anatomy maps of many frames at once, and record with which settings a folder of them was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from vasomim.anatomy import extract_anatomy
from vasomim.anatomy.extraction import BORDER
from vasomim.anatomy.filters import find_filter
from vasomim.errors import ConfigError, DatasetError
from vasomim.files import read_json, write_whole
from vasomim.frames.images import image_size, read_grey, read_mask
from vasomim.frames.layout import SETTINGS_FILE
from vasomim.processes import for_each

AGAIN = 'Name another DST, or make its maps again: `vasomim extract FRAMES MAPS --filter NAME --overwrite`.'
BATCH = 8  # Frames that a process takes at a time: few enough for a progress bar that moves.


@dataclass(frozen=True)
class Settings:
    """What decides the content of a map; see :func:`vasomim.anatomy.extract_anatomy`."""

    filter: str
    sigmas: list[float]
    percentile: float
    border: int

    @classmethod
    def of(
        cls,
        filter: str | None = None,
        sigmas: list[float] | None = None,
        percentile: float | None = None,
        border: int | None = None,
    ) -> Settings:
        """Return the settings of a filter, 'sato' unless said; what is None is the filter's own.

        Raises:
            ValueError: If there is no such filter.
        """
        filter = filter or 'sato'
        own = find_filter(filter)
        return cls(
            filter,
            list(own.sigmas) if sigmas is None else sigmas,
            own.percentile if percentile is None else percentile,
            BORDER if border is None else border,
        )

    def check(self) -> None:
        """Refuse what would fail on each of thousands of frames.

        Raises:
            ValueError: If a setting is out of range.
        """
        extract_anatomy(np.zeros((1, 1), np.uint8), **asdict(self))


@dataclass(frozen=True)
class Task:
    """One frame: its name, where it lies, and where its map goes."""

    name: str
    frame: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a frame.

    Attributes:
        name: The frame's.
        error: Why there is no map; '' if there is one.
        empty: Whether a new map holds no vessel.
        kept: Whether a sound map was there already.
        broken: What was wrong with the map that the new one replaces; '' if there was none.
    """

    name: str
    error: str = ''
    empty: bool = False
    kept: bool = False
    broken: str = ''


def extract_all(tasks: Sequence[Task], settings: Settings, jobs: int) -> Iterator[Outcome]:
    """Make the maps, PNG files of 0 and 255, and yield the outcomes as they come.

    A map that is there is kept if it is sound: readable, of two values, and of its frame's size.

    Args:
        tasks: The frames; one that cannot be read is an outcome with an error.
        settings: How to extract.
        jobs: Number of processes.

    Raises:
        OSError: If a map cannot be written.
        DatasetError: If a process dies.
    """
    batches = [tasks[start : start + BATCH] for start in range(0, len(tasks), BATCH)]
    where = tasks[0].frame.parent if tasks else ''
    for _, outcomes in for_each(partial(extract_batch, settings=settings), batches, jobs, where):
        yield from outcomes


def extract_batch(tasks: Sequence[Task], settings: Settings) -> list[Outcome]:
    """Make the maps of some frames."""
    return [extract_one(task, settings) for task in tasks]


def extract_one(task: Task, settings: Settings) -> Outcome:
    """Make the map of one frame.

    Raises:
        OSError: If the map cannot be written.
    """
    broken = ''
    if task.target.exists():
        broken = fault_of_map(task)
        if not broken:
            return Outcome(task.name, kept=True)
    try:
        mask = extract_anatomy(read_grey(task.frame), **asdict(settings))
    except DatasetError as error:
        return Outcome(task.name, f'{error.what} {error.cure}', broken=broken)
    write_whole(task.target, cv2.imencode('.png', mask * 255)[1].tobytes(), sync=False)  # Checked when it is used.
    return Outcome(task.name, empty=not mask.any(), broken=broken)


def fault_of_map(task: Task) -> str:
    """Return what is wrong with the map that a frame has; '' if nothing is, or the frame itself cannot be read."""
    try:
        height, width = read_mask(task.target).shape
    except DatasetError as error:
        return error.what
    size = image_size(task.frame)
    if size is None or size == (height, width):
        return ''
    return f'{width} x {height} pixels for a frame of {size[1]} x {size[0]}.'


def recorded(folder: Path) -> Settings | None:
    """Return the settings that the maps of a folder were made with; None where it does not say.

    Raises:
        ConfigError: If what it says cannot be read.
    """
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    content = read_json(path, ConfigError, AGAIN)
    try:
        found = Settings(**content)
        found.check()
    except (ValueError, TypeError) as error:
        raise ConfigError(path, f'no settings of an extraction: {error}.', AGAIN) from error
    return found


def record(folder: Path, settings: Settings, has_maps: bool, overwrite: bool = False) -> bool:
    """Record the settings of a folder's maps, or compare them with those recorded there.

    Where maps lie without a record, as in a published set, they are kept, and nothing is recorded, as the settings of
    the missing ones need not be theirs.

    Args:
        folder: The maps.
        settings: Of those that are to be made.
        has_maps: Whether some are there.
        overwrite: Whether those are made again.

    Returns:
        Whether the folder says now how its maps were made.

    Raises:
        ConfigError: If the maps there were made with other settings.
        StorageError: If they cannot be written.
    """
    path = folder / SETTINGS_FILE
    wanted = asdict(settings)
    if path.exists() and not overwrite:
        found = recorded(folder)
        if found is not None and found != settings:
            there = asdict(found)
            changed = [f'{key} {there[key]} instead of {wanted[key]}' for key in wanted if there[key] != wanted[key]]
            raise ConfigError(folder, f'its maps were made with {", ".join(changed)}.', AGAIN)
    elif has_maps and not overwrite:
        return False
    write_whole(path, json.dumps(wanted, indent=2))
    return True
