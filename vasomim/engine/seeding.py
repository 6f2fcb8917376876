"""Random numbers that depend on the seed and on the place in a training, not on what ran before.

A training that is resumed in the middle of an epoch then draws what the interrupted one would have drawn, and it is the
same with any number of loader processes.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from vasomim.registry import HOOKS


@dataclass(frozen=True)
class Draw:
    """An item of a data set, and the seed of its random transforms."""

    index: int
    seed: int


class SeededItems(Dataset):
    """A data set whose items are asked for by :class:`Draw`; in all else, the data set inside.

    An item that is asked for by its number alone is drawn as it would be without seeds.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: Draw | int) -> Any:
        if not isinstance(item, Draw):
            return self.dataset[item]
        random.seed(item.seed)
        np.random.seed(item.seed)
        torch.default_generator.manual_seed(item.seed)  # Not the accelerators': a worker has none.
        return self.dataset[item.index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # Not there yet while it is unpickled.
            raise AttributeError(name)
        return getattr(self.dataset, name)


class SeededBatches(Sampler):
    """Batches of :class:`Draw` for one epoch, from any place in it on; what lies before is not read.

    Args:
        batches: Yields lists of indices, the same ones for the same epoch.
        rank: Number of this process, which draws other numbers than the rest.
    """

    def __init__(self, batches: BatchSampler, rank: int = 0) -> None:
        self.batches = batches
        self.rank = rank
        self.seed = self.epoch = self.start = 0

    @property
    def sampler(self) -> Any:
        """Orders the items; mmengine tells it the epoch."""
        return self.batches.sampler

    @property
    def batch_size(self) -> int:
        """Items of a batch."""
        return self.batches.batch_size

    def begin(self, seed: int, epoch: int, start: int) -> None:
        """Say which epoch comes next, and how many of its batches are to be left out."""
        self.seed, self.epoch, self.start = seed, epoch, start

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        for number, batch in islice(enumerate(self.batches), self.start, None):
            seeds = np.random.default_rng([self.seed, self.epoch, self.rank, number]).integers(2**32, size=len(batch))
            yield [Draw(index, seed) for index, seed in zip(batch, seeds.tolist(), strict=True)]


def with_seeds(loader: DataLoader, rank: int = 0) -> DataLoader:
    """Return a loader of the same items in the same order, each with a seed of its own."""
    return DataLoader(
        SeededItems(loader.dataset),
        batch_sampler=SeededBatches(cast(BatchSampler, loader.batch_sampler), rank),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds Python, NumPy and PyTorch before every training iteration from (seed, iteration, rank).

    Masks and dropped paths are then the same whether a training came there in one go or was resumed, and each process
    draws its own; mmengine seeds once, at the start, and all processes alike.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed this process; the loader's items have seeds of their own."""
        words = np.random.SeedSequence([runner.seed, runner.iter, runner.rank]).generate_state(2)
        random.seed(int(words[0]))
        np.random.seed(int(words[0]))
        torch.manual_seed(int(words[1]))


def start_worker(worker_id: int) -> None:
    """Prepare a loader's worker process: which signals end it, and its random numbers.

    Items without a seed of their own get other random numbers in each epoch, where mmengine's own function repeats
    those of a worker.

    Args:
        worker_id: Number of the worker; PyTorch's seed for it differs already.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None and hasattr(signal, 'sigwaitinfo'):
        end_for(parent.pid)
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


def end_for(parent: int) -> None:
    """Let SIGTERM end this process only if its parent sends it.

    A scheduler sends SIGTERM to all processes of a job at once, and a worker that obeyed would take the training down
    while it still wants to save. A handler does not learn who sends a signal; a thread that waits for it does.

    Args:
        parent: Number of the process that ends its workers this way when it exits, and waits for them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
