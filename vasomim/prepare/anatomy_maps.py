"""Make anatomy maps of many frames at once, one process per core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from vasomim.anatomy import extract_anatomy
from vasomim.anatomy.extraction import BORDER
from vasomim.anatomy.filters import find_filter
from vasomim.errors import DatasetError
from vasomim.files import write_whole
from vasomim.frames.images import image_size, read_grey, read_mask

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
    if not batches:
        return
    # Spawned, not forked: a fork copies the locks of the caller's other threads as they happen to be.
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(min(jobs, len(batches)), context, initializer=prepare_process)
    try:
        for future in as_completed([pool.submit(extract_batch, batch, settings) for batch in batches]):
            yield from future.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            tasks[0].frame.parent,
            'a process that worked on these frames died, for lack of memory or on a damaged image.',
            'Run the same command again to continue, with fewer processes if memory was short.',
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_process() -> None:
    """Set up a worker: one thread, deaf to Ctrl-C, which its parent handles, and gone as soon as its parent is."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Wait for the parent to end, for instance by `kill -9`, which leaves it no time to stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


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
