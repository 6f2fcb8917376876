"""Errors of a training that come out of PyTorch: a loader's worker process, memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from vasomim import errors

DIED = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)'
)
# What PyTorch says where a worker's tensors, each of them an open file, are more than the limit.
FILES = re.compile(r'received \d+ items of ancdata|Too many open files')
SHARED_MEMORY = '/dev/shm'
LEAST_SHARED = 1 << 20  # Bytes: some frames.
# What it says, or which signal it names, where that is full.
SHARED = re.compile(r'killed by signal: Bus error|shared memory|unable to \w+ to file </torch_')
CAUGHT = re.compile(r'Caught (\w+) in DataLoader worker process')


@contextmanager
def explained(loader: str) -> Iterator[None]:
    """Turn what PyTorch raises for a loader's worker or for memory into an error of ours.

    Args:
        loader: The name of its section in the config.

    Raises:
        VasoMIMError: As :func:`worker_error` returns it; what that does not know passes.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        damage = worker_error(error, loader)
        if damage is None:
            raise
        raise damage from None


def check_shared_memory() -> None:
    """Find out, before workers are started, whether they could hand anything over; with too little they die later.

    Raises:
        TrainingError: If there is hardly any shared memory.
    """
    if os.path.isdir(SHARED_MEMORY):
        status = os.statvfs(SHARED_MEMORY)
        if status.f_bavail * status.f_frsize < LEAST_SHARED:
            raise shared_memory_error('train_dataloader')


def shared_memory_error(loader: str) -> errors.TrainingError:
    """Return the error for shared memory that is full; workers die of it by a bus error."""
    loaders = [loader, 'val_dataloader'] if loader.startswith('train') else [loader]
    return errors.TrainingError(
        SHARED_MEMORY,
        'it is full; worker processes hand frames over by this shared memory, which containers have little of.',
        'Start the container with --shm-size=8g or --ipc=host, or do without workers: --cfg-options '
        f'{" ".join(f"{name}.num_workers=0" for name in loaders)}; --resume continues from the last checkpoint.',
    )


def worker_error(error: RuntimeError | OSError, loader: str = 'train_dataloader') -> errors.VasoMIMError | None:
    """Return the error of ours behind the one that PyTorch raises for a worker or for memory; None where there is none.

    PyTorch rebuilds a worker's error from its traceback as the only argument. Errors of more arguments than that come
    out as a ``RuntimeError`` with the traceback as its text, which nobody wants to read for a damaged file.

    Args:
        error: What iterating over a ``DataLoader`` raised.
        loader: The name of its section in the config.
    """
    if SHARED.search(str(error)):
        return shared_memory_error(loader)
    died = DIED.search(str(error))
    if died:
        return errors.TrainingError(
            loader,
            f'a worker process (pid {died[1]}) died{f" by signal {died[2]}" if died[2] else ""}, most often for lack '
            'of memory.',
            f'Lower {loader}.num_workers or batch_size by --cfg-options; --resume continues from the last checkpoint.',
        )
    if FILES.search(str(error)):
        return errors.TrainingError(
            loader,
            'more files would be open than the system allows: each tensor that a worker process has ready is one.',
            f'Raise the limit (ulimit -n 65536), or lower {loader}.num_workers, batch_size or prefetch_factor '
            'by --cfg-options; --resume continues from the last checkpoint.',
        )
    if type(error).__name__ == 'OutOfMemoryError':
        return errors.TrainingError(
            'the accelerator',
            f'its memory does not suffice: {str(error).partition(". ")[0]}.',
            f'Halve {loader}.batch_size and set optim_wrapper.accumulative_counts=2, or pass --amp; --resume '
            'continues from the last checkpoint.',
        )
    caught = CAUGHT.match(str(error))
    kind = getattr(errors, caught[1], None) if caught else None
    if not (isinstance(kind, type) and issubclass(kind, errors.VasoMIMError)):
        return None
    raised = str(error).rpartition(f'\nvasomim.errors.{kind.__name__}: ')[2]
    head, _, cure = raised.rstrip().partition('\n  ')
    where, _, what = head.partition(': ')
    return kind(where, what, cure)
