"""Random numbers that depend on the seed and on how far the training is, not on what ran before."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from vasomim.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds Python, NumPy and PyTorch at the start of every epoch from (seed, iteration, rank).

    An epoch then draws the same crops and masks whether the run came there in one go or was resumed, and each process
    draws its own masks; mmengine seeds once, at the start, and all processes alike.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process; the loader's workers follow through :func:`seed_worker`."""
        words = np.random.SeedSequence([runner.seed, runner.iter, runner.rank]).generate_state(2)
        random.seed(int(words[0]))
        np.random.seed(int(words[0]))
        torch.manual_seed(int(words[1]))


def seed_worker(worker_id: int) -> None:
    """Seed Python and NumPy in a loader's worker from the seed that PyTorch gave it for this epoch.

    mmengine's own function gives a worker the same numbers in every epoch.

    Args:
        worker_id: Number of the worker; its seed differs already.
    """
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
