"""A learning-rate schedule that follows the length of the training by itself."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from vasomim.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up from 0, then a cosine down to 0, over the whole training.

    Both ends follow from the number of epochs, so that changing it is one option. At step t of T, with w = warm-up
    share x T: lr x (t + 1) / w while t < w, else lr / 2 x (1 + cos(pi (t - w) / (T - w))).

    Args:
        optimizer: What is scheduled.
        warmup: Share of the training that warms up, in [0, 1).
        begin, end, by_epoch, last_step, verbose: As in mmengine's schedulers; ``end`` is the runner's
            number of epochs where a config leaves it out.

    Raises:
        ValueError: If ``warmup`` is not in [0, 1), or the end is unknown.

    Source: arXiv 2602.11536 (40 warm-up epochs of 800, cosine to 0).
    """

    def __init__(
        self,
        optimizer: Any,
        warmup: float = 0.05,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f'WarmupCosineLR: warmup must lie in [0, 1), not {warmup}.')
        if end == INF:
            raise ValueError('WarmupCosineLR: the end of the training is unknown; set `end`.')
        self.warmup_steps = warmup * (end - begin)
        super().__init__(
            optimizer,
            begin=begin,
            end=end,
            last_step=last_step,
            by_epoch=by_epoch,
            verbose=verbose,
        )

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Any,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        epoch_length: int | None = None,
        **kwargs: Any,
    ) -> WarmupCosineLR:
        """Build the schedule in steps from one in epochs."""
        if not by_epoch or not epoch_length:
            raise ValueError('WarmupCosineLR: convert_to_iter_based needs by_epoch=True and the length of an epoch.')
        return cls(optimizer, begin=int(begin * epoch_length), end=int(end * epoch_length), by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        step, total = self.last_step, self.end - self.begin
        if step < self.warmup_steps:
            factor = min(1.0, (step + 1) / self.warmup_steps)
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - self.warmup_steps) / (total - self.warmup_steps)))
        return [base * factor for base in self.base_values]


@PARAM_SCHEDULERS.register_module()
class PolynomialLR(LRSchedulerMixin, _ParamScheduler):
    """Polynomial decay to 0 over the whole training: lr x (1 - t / T) ** power in step t = 0, ..., T - 1.

    The rate is 0 after the last step, not in it; mmengine's ``PolyLR`` spends its last epoch at ``eta_min``.

    Args:
        optimizer: What is scheduled.
        power: Exponent, > 0.
        begin, end, by_epoch, last_step, verbose: As in mmengine's schedulers; ``end`` is the runner's
            number of epochs where a config leaves it out.

    Raises:
        ValueError: If ``power`` is not positive, or the end is unknown.

    Source: arXiv 2602.11536 (power 0.9, per epoch, for the vessel segmentor).
    """

    def __init__(
        self,
        optimizer: Any,
        power: float = 0.9,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if power <= 0:
            raise ValueError(f'PolynomialLR: power must be positive, not {power}.')
        if end == INF:
            raise ValueError('PolynomialLR: the end of the training is unknown; set `end`.')
        self.power = power
        super().__init__(optimizer, begin=begin, end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose)

    def _get_value(self) -> list[float]:
        factor = (1 - self.last_step / (self.end - self.begin)) ** self.power
        return [base * factor for base in self.base_values]


def stretch(scheduler: _ParamScheduler, factor: float) -> None:
    """Let a schedule in iterations, of mmengine or ours, take another number of them and stand at the same share.

    Args:
        scheduler: Changed in place.
        factor: New over old iterations, > 0.
    """
    for name in ('begin', 'end', 'T_max', 'total_iters', 'step_size', '_global_step'):
        steps = getattr(scheduler, name, None)
        if steps is not None and steps < INF:
            setattr(scheduler, name, round(steps * factor))
    if hasattr(scheduler, 'milestones'):
        scheduler.milestones = Counter({round(step * factor): times for step, times in scheduler.milestones.items()})
    if isinstance(scheduler, WarmupCosineLR):
        scheduler.warmup_steps *= factor
    taken = scheduler._global_step - scheduler.begin
    scheduler.last_step = max(-1, min(taken, scheduler.end - scheduler.begin - 1))
