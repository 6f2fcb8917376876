"""What a person sees of a training on the terminal: a bar, and one line per epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import rich
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from vasomim.engine.runner import frames_per_batch
from vasomim.engine.terminal import count, duration, millions, tell
from vasomim.registry import HOOKS

MACHINERY = ('lr', 'base_lr', 'time', 'data_time', 'grad_norm')  # Logged by mmengine, not by the model.


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a bar on a terminal and short lines elsewhere; after each epoch one line with its mean losses.

    It reads only what has been read back already, and costs the training no transfer of its own.

    Args:
        interval: Seconds between two lines within an epoch where there is no terminal.

    Raises:
        ValueError: If ``interval`` is not positive.
    """

    priority = 'LOW'  # After the scalars were read back and the timer stopped.

    def __init__(self, interval: float = 60.0) -> None:
        if interval <= 0:
            raise ValueError(f'interval must be positive, not {interval}')
        self.interval = interval
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.by_epoch = True
        self.started = self.epoch_started = self.shown = 0.0
        self.first = self.epoch_first = self.resumed = 0
        self.summary: str | None = None

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Say what is trained on what, and start the bar."""
        loop, loader = runner.train_loop, runner.train_dataloader
        self.by_epoch = isinstance(loop, EpochBasedTrainLoop)
        self.started, self.first, self.summary = time.monotonic(), runner.iter, None
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        parameters = list(model.parameters())
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        length = (
            f'{count(loop.max_epochs, "epoch")} of {count(len(loader), "iteration")}'
            if self.by_epoch
            else count(loop.max_iters, 'iteration')
        )
        held_out = f', {len(runner.val_dataloader.dataset):,} held out' if runner.val_loop is not None else ''
        tell(
            runner.logger,
            f'{type(model).__name__}: {millions(trained)} of {millions(sum(map(torch.numel, parameters)))} parameters '
            f'trained on {parameters[0].device.type}',
        )
        tell(runner.logger, f'{count(len(loader.dataset), "frame")}{held_out}; {length}; results in {runner.work_dir}')
        if rich.get_console().is_terminal:
            self.bar = Progress(
                TextColumn('{task.description}'),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn('{task.fields[facts]}'),
                console=rich.get_console(),
                transient=True,
                refresh_per_second=4,
            )
            self.task = self.bar.add_task('', total=None, facts='')
            self.bar.start()

    @master_only
    def before_train_epoch(self, runner: Runner) -> None:
        """Start a new bar."""
        self.print_summary(runner)
        self.epoch_started = self.shown = time.monotonic()
        taken = getattr(runner.train_loop, 'position', 0)  # Before this run went on within the epoch.
        self.resumed, self.epoch_first = runner.iter, runner.iter - taken
        self.show(
            self.title(runner),
            taken if self.by_epoch else runner.iter,
            len(runner.train_dataloader) if self.by_epoch else runner.max_iters,
        )

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping | None = None
    ) -> None:
        """Move the bar; without a terminal, print a line now and then."""
        done = runner.iter + 1 - self.resumed
        total = len(runner.train_dataloader) if self.by_epoch else runner.max_iters
        if self.bar is not None:
            self.show(self.title(runner), batch_idx + 1, total, self.facts(runner, done))
        elif time.monotonic() - self.shown >= self.interval and batch_idx + 1 < total:
            self.shown = time.monotonic()
            tell(runner.logger, f'{self.title(runner)}  {batch_idx + 1}/{total}  {self.facts(runner, done)}')

    @master_only
    def after_train_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Sum the epoch up; the line waits for the held-out loss, if that is measured now."""
        self.summarize(runner)

    @master_only
    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the bar over the held-out frames."""
        self.show('held-out frames', batch_idx + 1, len(runner.val_dataloader))

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Add the held-out metrics to the line and print it."""
        if not self.by_epoch:
            self.summarize(runner)
        measured = '  '.join(
            f'{name.rpartition("/")[2]} {value:.4f}'
            for name, value in (metrics or {}).items()
            if isinstance(value, (int, float))
        )
        if self.summary is not None:
            self.summary += f'  held-out {measured}'
            self.print_summary(runner)
        elif measured:
            tell(runner.logger, f'held-out {measured}')

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Print what is left, and the time that it took."""
        self.print_summary(runner)
        if runner.iter > self.first:
            tell(
                runner.logger,
                f'done in {duration(time.monotonic() - self.started)}: '
                f'{runner.message_hub.get_info("last_ckpt") or runner.work_dir}',
            )

    def close(self, runner: Runner) -> None:
        """Print what is left and give the terminal back, whatever ended the training."""
        self.print_summary(runner)
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def title(self, runner: Runner) -> str:
        """Return 'epoch 3/800', or 'training' where the loop counts iterations."""
        if not self.by_epoch:
            return 'training'
        return f'epoch {runner.epoch + 1:>{len(str(runner.max_epochs))}}/{runner.max_epochs}'

    def facts(self, runner: Runner, done: int) -> str:
        """Return the last loss read back, the speed in this epoch and the time left in the whole training."""
        now = time.monotonic()
        speed = done * frames_per_batch(runner.train_dataloader) * runner.world_size / (now - self.epoch_started)
        left = (now - self.started) / (runner.iter + 1 - self.first) * (runner.max_iters - runner.iter - 1)
        history = runner.message_hub.log_scalars.get('train/loss')
        loss = f'loss {history.current():.4f}  ' if history is not None else ''
        return f'{loss}{speed:,.{int(speed < 10)}f} frames/s  {duration(left)} left'

    def summarize(self, runner: Runner) -> None:
        """Write the line of an epoch (or, in a loop of iterations, of those since the last validation)."""
        scalars = runner.message_hub.log_scalars
        by_iteration = not self.by_epoch
        steps = runner.iter - self.epoch_first
        if not steps:
            return
        mean = {
            name[len('train/') :]: float(history.mean(min(steps, len(history.data[0]))))
            for name, history in scalars.items()
            if name.startswith('train/')
        }
        losses = {name: value for name, value in mean.items() if 'loss' in name and name != 'loss'}
        parts = ', '.join(f'{name.removeprefix("loss_")} {value:.4f}' for name, value in losses.items())
        others = ''.join(
            f'  {name} {value:.3f}' for name, value in mean.items() if 'loss' not in name and name not in MACHINERY
        )
        rate = scalars.get('train/base_lr', scalars.get('train/lr'))
        title = f'iteration {runner.iter}/{runner.max_iters}' if by_iteration else self.title(runner)
        self.summary = (
            f'{title}  loss {mean.get("loss", float("nan")):.4f}'
            + (f' ({parts})' if len(losses) > 1 else '')
            + others
            + (f'  lr {rate.current():.1e}' if rate is not None else '')
            + (f'  data {mean["data_time"] / mean["time"]:.0%}' if mean.get('time') else '')
            + f'  {duration(time.monotonic() - self.epoch_started)}'
        )
        if by_iteration:
            self.epoch_first = self.resumed = runner.iter
            self.epoch_started = time.monotonic()

    def print_summary(self, runner: Runner) -> None:
        """Print the line that waits, if one does."""
        if self.summary is not None:
            tell(runner.logger, self.summary)
            self.summary = None

    def show(self, title: str, done: int, total: int, facts: str = '') -> None:
        """Set the bar, if there is one."""
        if self.bar is not None:
            self.bar.update(self.task, description=title, completed=done, total=total, facts=facts)
