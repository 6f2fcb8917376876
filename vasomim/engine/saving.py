"""Checkpoints of a run: within epochs, when the run is told to end, and an old one goes when the new one is there."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from vasomim.engine.loop import ResumableTrainLoop
from vasomim.engine.scalars import logging_interval
from vasomim.engine.terminal import tell
from vasomim.files import write_whole
from vasomim.registry import HOOKS

STOPPED = 128 + signal.SIGTERM  # The exit status that shells and schedulers know for SIGTERM.
SAME_SIGNAL = 10.0  # Seconds: Slurm signals torchrun and what it started, and torchrun hands the signal on at once.


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that loses nothing.

    - It saves first, and then deletes what ``max_keep_ckpts`` no longer keeps, and the checkpoint that was best before.
      A run that is killed, or a disk that fills, while mmengine's hook saves leaves neither the old nor the new one.
    - It also saves within an epoch, to ``iter_N.pth``, which goes when the next checkpoint is there.
    - SIGTERM, by which schedulers announce the end, saves and leaves with exit status 143. Repeats within ten seconds
      count as the same one; a later one ends at once.

    Several processes agree on both once in a logging interval; one acts after any iteration. While gradients
    accumulate, neither happens.

    Args:
        *args: See mmengine's hook.
        minutes: Save within an epoch when this time has passed since the last checkpoint; None: only as it ends.
        **kwargs: See mmengine's hook.

    Raises:
        ValueError: If ``minutes`` is not positive.
    """

    def __init__(self, *args: Any, minutes: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if minutes is not None and minutes <= 0:
            raise ValueError(f'minutes must be positive, not {minutes}.')
        self.minutes = minutes
        self.asked_at: float | None = None  # When SIGTERM came first.
        self.saved_at = 0.0
        self.saved_iteration = 0
        self.within: list[Path] = []  # Checkpoints within an epoch, which the next one replaces.
        self.handler: Any = None

    def before_train(self, runner: Runner) -> None:
        """Listen for SIGTERM, where something can be saved at it."""
        super().before_train(runner)
        self.asked_at, self.saved_at, self.saved_iteration = None, time.monotonic(), runner.iter
        self.within = list(Path(self.out_dir).glob('iter_*.pth')) if self.by_epoch else []
        if runner.iter > 0:  # So that a best score, found by a validation that is made up for, is saved with its epoch.
            self.last_ckpt = runner.message_hub.get_info('last_ckpt')
        if not isinstance(runner.train_loop, ResumableTrainLoop):
            name = type(runner.train_loop).__name__
            tell(runner.logger, f'{name} saves nothing at SIGTERM, nor by minutes; ResumableTrainLoop does')
        elif threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGTERM, self.ask_to_stop) or signal.SIG_DFL

    def close(self, runner: Runner) -> None:
        """Give the signal back, whatever ended the training; the runner calls this."""
        if self.handler is not None:
            signal.signal(signal.SIGTERM, self.handler)
            self.handler = None

    def ask_to_stop(self, number: int, frame: Any) -> None:
        """Note the signal for the next place at which everything can be saved; a second one ends at once."""
        if self.asked_at is None:
            self.asked_at = time.monotonic()
        elif time.monotonic() - self.asked_at > SAME_SIGNAL:
            signal.signal(signal.SIGTERM, self.handler)
            signal.raise_signal(signal.SIGTERM)

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave if asked to."""
        self.act(runner, runner.epoch, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save or leave, if it is time to and this is not the end of an epoch, which has a checkpoint of its own."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if batch_idx + 1 < len(runner.train_dataloader) and (runner.iter + 1) % iterations_between(runner) == 0:
            self.act(runner, runner.epoch, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Leave if asked to; the validation is made up for by the run that continues."""
        if get_world_size() == 1 and self.handler is not None:
            self.act(runner, runner.epoch, runner.iter)

    def act(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Save if it is time to, and leave if asked to; all processes come here at the same place.

        Args:
            runner: The runner.
            epoch: Epochs that are complete.
            iteration: Iterations that are.

        Raises:
            SystemExit: To leave.
        """
        if not isinstance(runner.train_loop, ResumableTrainLoop):
            return
        due = self.minutes is not None and time.monotonic() - self.saved_at >= 60 * self.minutes
        stop, due = agree(self.asked_at is not None, due)
        if (stop or due) and iteration != self.saved_iteration:
            self.save_within(runner, epoch, iteration)
        if stop:
            where = f'in epoch {epoch + 1}' if runner.train_loop.position else f'after epoch {epoch}'
            tell(
                runner.logger,
                f'stopped (SIGTERM) {where}, after iteration {iteration} of {runner.max_iters}: --resume goes on there',
            )
            raise SystemExit(STOPPED)

    def save_within(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Save at a place that has no checkpoint of its own."""
        path = Path(self.out_dir, f'iter_{iteration}.pth')
        self.last_ckpt = str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir, path.name, meta=dict(epoch=epoch, iter=iteration), by_epoch=False, **self.args
        )
        if is_main_process():
            write_whole(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt.encode())
        self.replaced(iteration, path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        kept: deque = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else deque()
        full = 0 < self.max_keep_ckpts == len(kept) and kept[-1] != step
        outdated = kept.popleft() if full else None  # With a free place mmengine's hook deletes nothing.
        super()._save_checkpoint_with_step(runner, step, meta)
        if outdated is not None and is_main_process():
            Path(self.out_dir, self.filename_tmpl.format(outdated)).unlink(missing_ok=True)
        self.replaced(meta['iter'])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        before = self.best
        self.best = dict.fromkeys(before)  # mmengine's hook then has nothing to delete before it saves.
        super()._save_best_checkpoint(runner, metrics)
        now = self.best
        self.best = {metric: path or before[metric] for metric, path in now.items()}
        for metric, old in before.items():
            new = now[metric]
            if old and new and Path(old).name != Path(new).name and is_main_process():
                Path(self.out_dir, Path(old).name).unlink(missing_ok=True)  # Not that of the run this is a copy of.

    @property
    def best(self) -> dict[str, str | None]:
        """The best checkpoint by each metric of ``save_best``; a single one goes without its name."""
        return {'': self.best_ckpt_path} if len(self.key_indicators) == 1 else dict(self.best_ckpt_path_dict)

    @best.setter
    def best(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = dict(paths)

    def replaced(self, iteration: int, path: Path | None = None) -> None:
        """Drop the checkpoints within an epoch that a newer one, perhaps another of them, replaces."""
        self.saved_at, self.saved_iteration = time.monotonic(), iteration
        for old in self.within:
            if old != path and is_main_process():
                old.unlink(missing_ok=True)
        self.within = [path] if path is not None else []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the place within the epoch."""
        if isinstance(runner.train_loop, ResumableTrainLoop):
            checkpoint['meta'].update(runner.train_loop.place(checkpoint['meta']['epoch']))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Continue at the place of a checkpoint that is resumed from."""
        if runner._resume and isinstance(runner.train_loop, ResumableTrainLoop):
            runner.train_loop.continue_at(checkpoint['meta'], str(runner._load_from or runner.work_dir))


def iterations_between(runner: Runner) -> int:
    """Return after how many iterations, counted from the start of the training, everything can be saved again.

    One process: after each step of the optimizer. Several: after as many steps as fit a logging interval, at least one.
    """
    step: int = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    return step if get_world_size() == 1 else step * max(1, logging_interval(runner) // step)


def agree(*flags: bool) -> list[bool]:
    """Return for each flag whether any process has it."""
    if get_world_size() == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.float32)
    all_reduce(values, op='max')
    return [bool(value) for value in values.tolist()]
