"""Losses read back once per logging interval instead of at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from vasomim.errors import TrainingError, printable
from vasomim.files import write_whole
from vasomim.registry import HOOKS

FRAMES_SHOWN = 4
CURE = 'Lower optim_wrapper.optimizer.lr or leave out --amp, and continue from the last checkpoint with --resume'


@dataclass(frozen=True)
class Step:
    """The scalars of one training step that have not been read back yet."""

    iteration: int
    epoch: int
    scalars: Mapping[str, Tensor | float]
    frames: list[str]


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook`` without its read-back of every scalar at every step.

    A read-back makes the processor wait for the accelerator. This hook keeps the scalars where they are, reads those of
    all steps back in one transfer where ``LoggerHook`` is about to log (and at the end of an epoch, before validation
    and before a checkpoint), and then enters every step's value into the message hub, so that logs and their smoothing
    windows are those of mmengine's hook. With several processes each logs its own losses, as in mmengine.

    A loss that is NaN or infinite ends the training there, in all processes, before a checkpoint is written.

    Raises:
        TrainingError: From the hook points named above, if a loss or, before a checkpoint, a weight is not finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Step] = []
        self.interval = 1

    def before_train(self, runner: Runner) -> None:
        """Take the interval of the logger."""
        super().before_train(runner)
        self.pending = []
        self.interval = logging_interval(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Tensor | float] | None = None,
    ) -> None:
        """Keep the scalars of this step; read all of them back if they are logged now."""
        scalars = {
            name: value.detach() if isinstance(value, Tensor) else value for name, value in (outputs or {}).items()
        }
        self.pending.append(Step(runner.iter, runner.epoch, scalars, frames_of(data_batch)))
        if self.every_n_inner_iters(batch_idx, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.flush(runner)

    def after_train_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Leave nothing unread behind an epoch."""
        self.flush(runner)

    def before_val(self, runner: Runner) -> None:
        """Find a loss that is not finite before the time of a validation is spent."""
        self.flush(runner)
        super().before_val(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Enter the metrics; a held-out loss that is not finite ends the training, too."""
        super().after_val_epoch(runner, metrics)
        for name, value in (metrics or {}).items():
            if 'loss' in name and isinstance(value, float) and not math.isfinite(value):
                raise TrainingError(
                    f'epoch {runner.epoch}',
                    f'{name} is {value} on the held-out frames, though the losses of the training are finite.',
                    f'{CURE} (an earlier one than that of this epoch).',
                )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save what has gone wrong; the first process alone gets here, so the others are not asked."""
        if self.pending:
            self.stop_if(runner, self.enter(runner))
            checkpoint['message_hub'] = runner.message_hub.state_dict()
        broken = [
            name
            for name, value in checkpoint['state_dict'].items()
            if isinstance(value, Tensor) and not torch.isfinite(value).all()
        ]
        if broken:
            raise TrainingError(
                f'iteration {checkpoint["meta"].get("iter", runner.iter)}',
                f'{len(broken)} of {len(checkpoint["state_dict"])} weights are no longer finite (first: {broken[0]}); '
                'the checkpoint was not written.',
                f'{CURE}.',
            )

    def flush(self, runner: Runner) -> None:
        """Read back and enter all scalars; called at the same steps in every process."""
        problem = self.enter(runner)
        if get_world_size() > 1:
            found = torch.tensor(float(problem is not None))
            all_reduce(found, op='max')
            if found.item():
                problem = next(text for text in all_gather_object(problem) if text is not None)
        self.stop_if(runner, problem)

    def enter(self, runner: Runner) -> Step | None:
        """Enter the pending scalars into the message hub and return the first step with a loss that is not finite."""
        steps, self.pending = self.pending, []
        values = iter(read_back([value for step in steps for value in step.scalars.values()]))
        first = None
        for step in steps:
            read = {name: next(values) for name in step.scalars}
            for name, value in read.items():
                runner.message_hub.update_scalar(f'train/{name}', value)
            if first is None and any(not math.isfinite(read[name]) for name in read if 'loss' in name):
                first = Step(step.iteration, step.epoch, read, step.frames)
        return first

    def stop_if(self, runner: Runner, step: Step | None) -> None:
        """Raise if a step with a loss that is not finite is given; its frames are listed in the work directory."""
        if step is None:
            return
        losses = {name: value for name, value in step.scalars.items() if 'loss' in name}
        bad = ', '.join(f'{name} is {value}' for name, value in losses.items() if not math.isfinite(value))
        listed, frames = Path(runner.work_dir) / 'nonfinite_batch.txt', [printable(frame) for frame in step.frames]
        if runner.rank == 0:
            write_whole(listed, ''.join(f'{frame}\n' for frame in frames))
        shown = ', '.join(frames[:FRAMES_SHOWN]) or 'unknown'
        more = f' and {len(frames) - FRAMES_SHOWN} more' if len(frames) > FRAMES_SHOWN else ''
        raise TrainingError(
            f'iteration {step.iteration + 1} (epoch {step.epoch + 1})',
            f'{bad}. Frames of that batch: {shown}{more}.',
            f'Look at these frames (all are listed in {listed}); if they are sound, lower optim_wrapper.optimizer.lr '
            'or leave out --amp. Continue from the last checkpoint with --resume.',
        )


def read_back(values: Sequence[Tensor | float]) -> list[float]:
    """Return scalars as Python numbers, with one transfer per device.

    Args:
        values: Numbers and tensors of one element, on any devices.
    """
    places: dict[torch.device, list[int]] = {}
    for place, value in enumerate(values):
        if isinstance(value, Tensor):
            places.setdefault(value.device, []).append(place)
    numbers = list(values)
    for indices in places.values():
        stacked = torch.stack([values[index].reshape(()) for index in indices])  # type: ignore[union-attr]
        for index, number in zip(indices, stacked.tolist(), strict=True):
            numbers[index] = number
    return numbers  # type: ignore[return-value]


def logging_interval(runner: Runner) -> int:
    """Return the interval of the runner's ``LoggerHook`` in iterations, or mmengine's default of 10 without one."""
    return next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)


def samples_of(data_batch: Any) -> Sequence[Any]:
    """Return the data samples of a batch, or nothing where a batch holds none."""
    return data_batch.get('data_samples') or () if isinstance(data_batch, Mapping) else ()


def frames_of(data_batch: Any) -> list[str]:
    """Return the paths of a batch's frames, as far as its data samples name them."""
    paths = (sample.metainfo.get('img_path') for sample in samples_of(data_batch))
    return [str(path) for path in paths if path is not None]
