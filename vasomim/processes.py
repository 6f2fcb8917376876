"""Many files at once, in a process for each core, of which none outlives the one that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vasomim.cores import cores
from vasomim.errors import ConfigError, DatasetError

AHEAD = 4  # Tasks handed out for each process: it never waits for the next one, and few are lost by a stop.

Task = TypeVar('Task')
Result = TypeVar('Result')


def number_of(jobs: int | None) -> int:
    """Return how many processes work: those that were asked for, or one for each core.

    Raises:
        ConfigError: If the number is not positive.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError('--jobs', f'{jobs} processes cannot work.', 'Name at least 1, or leave it out for all cores.')
    return jobs or cores()


def for_each(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, where: str | Path, isolate: bool = True
) -> Iterator[tuple[int, Result]]:
    """Call a function on each task, in several processes at a time.

    Args:
        work: The function; it and the tasks are pickled. OpenCV computes in one thread there.
        tasks: What it is called on: large enough each to be worth a message, small enough for a progress bar to move.
        jobs: Number of processes, >= 1.
        where: The files that are worked on, which an error names.
        isolate: Whether a single process is another one than this too, so that its death costs no more than its task.

    Yields:
        The place of a task in ``tasks`` and its result, as they come; from a single process in order.

    Raises:
        DatasetError: If a process dies.
        Exception: What ``work`` raises; what has not begun is not begun any more.
    """
    jobs = min(jobs, len(tasks))
    if jobs < 1:
        return
    if jobs == 1 and not isolate:
        yield from enumerate(map(work, tasks))
        return
    # Spawned, not forked: a fork copies the locks of the caller's other threads as they happen to be.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), initializer=prepare_process)
    left = iter(enumerate(tasks))
    running: dict[Future[Result], int] = {}
    try:
        running |= {pool.submit(work, task): place for place, task in islice(left, AHEAD * jobs)}
        while running:
            done = wait(running, return_when=FIRST_COMPLETED).done
            for future in sorted(done, key=running.__getitem__):  # So that one process gives them in order.
                result = future.result()
                running |= {pool.submit(work, task): place for place, task in islice(left, 1)}
                yield running.pop(future), result
    except BrokenProcessPool as error:
        raise DatasetError(
            where,
            'a process that worked on these files died, for lack of memory or on a damaged one.',
            'Run the same command again to continue, with fewer processes if memory was short.',
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_process() -> None:
    """Set up a worker: one thread, deaf to Ctrl-C, which its parent handles, and gone as soon as its parent is."""
    import cv2  # All work on frames needs it, and the command lines that read none do not.

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Wait for the parent to end, for instance by `kill -9`, which leaves it no time to stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
