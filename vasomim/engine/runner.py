"""mmengine's runner with a learning rate that fits the true global batch, and an exact continuation."""

from __future__ import annotations

import atexit
import itertools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_distributed, is_main_process, master_only
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from vasomim.cores import cores
from vasomim.engine.abilities import check_anatomy, validates
from vasomim.engine.allocator import keep_freed_memory
from vasomim.engine.backends import guard_files, guard_visualizer
from vasomim.engine.compilation import compile_parts
from vasomim.engine.loop import ResumableTrainLoop
from vasomim.engine.resuming import check_training_state
from vasomim.engine.schedule import stretch
from vasomim.engine.seeding import start_worker
from vasomim.engine.sizes import check_built
from vasomim.engine.terminal import count, replace_terminal_handler, tell
from vasomim.engine.workers import check_shared_memory
from vasomim.errors import CheckpointError, ConfigError, StorageError
from vasomim.files import in_one_step, write_whole
from vasomim.registry import RUNNERS

MISFITS_SHOWN = 3
# Seconds before Python ends, in which gloo's threads let go of the tensors of the last exchange: one that does so later
# aborts the process. They say nowhere that they are done, and another exchange would wait for processes that failed.
GLOO_PAUSE = 0.5


@dataclass(frozen=True)
class ScaledRate:
    """A learning rate given for a reference batch, scaled linearly to the batch that a step of the optimizer sees.

    Attributes:
        base: Learning rate at the reference batch.
        reference: Frames of the reference batch.
        batch: Frames per process and iteration.
        processes: Number of processes.
        accumulation: Iterations per step of the optimizer.
    """

    base: float
    reference: int
    batch: int
    processes: int
    accumulation: int

    @property
    def total(self) -> int:
        """Frames per step of the optimizer."""
        return self.batch * self.processes * self.accumulation

    @property
    def factor(self) -> float:
        """What the base rate is multiplied by."""
        return self.total / self.reference

    def __str__(self) -> str:
        return (
            f'learning rate {self.base:.1e} x {self.total}/{self.reference} = {self.base * self.factor:.2e} '
            f'(batch {self.batch} x {count(self.processes, "process")} x '
            f'{count(self.accumulation, "accumulation step")})'
        )


@RUNNERS.register_module()
class PretrainRunner(Runner):
    """Runner for pre-training, selected by ``runner_type = 'PretrainRunner'``.

    It differs from mmengine's runner in this:

    - ``auto_scale_lr = dict(enable=True, base_batch_size=256)`` counts processes and accumulated iterations.
    - A checkpoint to resume from must fit the model completely. The learning rate, the schedule and the seed in it win
      over those of the config, and the frames are drawn in the order in which the interrupted run would have.
    - Checkpoints are written whole or not at all. A loader gets no more workers than there are cores.
    - An algorithm that gives no held-out loss, such as mmpretrain's own, trains without validation.
    - With ``ProgressHook`` the terminal shows what a person reads, and the log file everything.
    - Several processes also run without GPUs (``--launcher pytorch``, gloo), and freed memory is kept there for reuse.
    """

    _val_loop: Any  # mmengine's: a loop, its config, or None.

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the processes; mmengine starts them on GPUs only.

        Raises:
            ConfigError: If a launcher other than 'pytorch' is to start processes on a machine without GPU.
        """
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            if self.launcher != 'pytorch':
                raise ConfigError(
                    f'--launcher {self.launcher}',
                    'PyTorch sees no GPU on this machine.',
                    'Without GPUs, start the processes by `torchrun` and pass --launcher pytorch.',
                )
            torch.distributed.init_process_group('gloo')
            atexit.register(time.sleep, GLOO_PAUSE)
        if not torch.cuda.is_available():
            keep_freed_memory()
        super().setup_env(env_cfg)

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Build the logger, and leave the terminal to ``ProgressHook`` where the config has one."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        hooks = [*(self.cfg.get('default_hooks') or {}).values(), *(self.cfg.get('custom_hooks') or [])]
        if any(isinstance(hook, dict) and str(hook.get('type')).endswith('ProgressHook') for hook in hooks):
            replace_terminal_handler(logger)
        guard_files(logger)
        return logger

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer; what it cannot write is a warning."""
        built = super().build_visualizer(visualizer)
        guard_visualizer(built, self.logger)
        return built

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, and check what its parts do not check themselves.

        Raises:
            ConfigError: As :func:`vasomim.engine.sizes.check_built`.
        """
        built = super().build_model(model)
        check_built(built)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes; mmengine always names a GPU for it."""
        if self.distributed and model_wrapper_cfg is None and not torch.cuda.is_available():
            model_wrapper_cfg = {
                'type': 'MMDistributedDataParallel',
                'device_ids': None,
                'broadcast_buffers': False,
                'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
            }
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader with no more workers than cores, started by :func:`start_worker`, in pinned memory for GPUs.

        Items become a batch as their data set says (``collate``), else as mmengine does it. What the config says of
        ``worker_init_fn``, ``pin_memory`` and ``collate_fn`` stays.

        Raises:
            TrainingError: If workers could not hand a single frame over.
        """
        if not isinstance(dataloader, dict):
            return dataloader
        asked = dataloader.get('num_workers', 0)
        free = max(1, cores() // int(os.environ.get('LOCAL_WORLD_SIZE', '1')))
        if asked > free:
            tell(
                MMLogger.get_current_instance(),
                f'{count(free, "loader worker")} instead of {asked}, as many as there are cores for each process',
            )
        settings = {
            'worker_init_fn': {'type': start_worker},
            'pin_memory': torch.cuda.is_available(),
            **dataloader,
            'num_workers': min(asked, free),
        }
        if settings['num_workers']:
            check_shared_memory()
        loader = Runner.build_dataloader(settings, seed, diff_rank_seed)
        if 'collate_fn' not in dataloader:
            loader.collate_fn = getattr(loader.dataset, 'collate', loader.collate_fn)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, with frames for at least one iteration an epoch, and with what the model needs of them.

        Raises:
            ConfigError: If all frames together do not fill one batch, and smaller batches are dropped; or the model
                needs anatomy that the data does not give.
        """
        built = super().build_train_loop(loop)
        check_anatomy(unwrapped(self.model), built.dataloader.dataset)
        loader = built.dataloader
        if len(loader) == 0:
            raise ConfigError(
                'train_dataloader',
                f'{count(len(loader.dataset), "frame")} do not fill one batch of {frames_per_batch(loader)} in each of '
                f'{count(self.world_size, "process")}, and incomplete batches are dropped.',
                'Lower train_dataloader.batch_size, or set train_dataloader.drop_last=False.',
            )
        return built

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rate of every parameter group to the global batch, and say so.

        Args:
            optim_wrapper: The optimizer, before its schedulers are built.
            auto_scale_lr: ``enable``, and ``base_batch_size``: the batch that the config's rate is meant for.

        Raises:
            ConfigError: If scaling is enabled without ``base_batch_size``.
        """
        wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
        enabled = bool(auto_scale_lr and auto_scale_lr.get('enable', False))
        if enabled and 'base_batch_size' not in auto_scale_lr:  # type: ignore[operator]
            raise ConfigError(
                'auto_scale_lr',
                'base_batch_size is missing.',
                'Set the batch that optim_wrapper.optimizer.lr is meant for, such as 256.',
            )
        for wrapper in wrappers:
            rate = self.scaled_rate(wrapper, auto_scale_lr['base_batch_size'] if enabled else None)  # type: ignore
            for group in wrapper.optimizer.param_groups:
                group['lr'] *= rate.factor
            if wrapper.base_param_settings is not None:  # What the log shows as base_lr.
                wrapper.base_param_settings['lr'] *= rate.factor
            fixed = f'learning rate {rate.base:.2e} as in the config (auto_scale_lr is off; global batch {rate.total})'
            tell(self.logger, str(rate) if enabled else fixed)

    def scaled_rate(self, wrapper: OptimWrapper, reference: int | None) -> ScaledRate:
        """Return the learning rate of an optimizer for this run's global batch; None: for that batch already."""
        batch = frames_per_batch(self.train_dataloader)
        accumulation = wrapper._accumulative_counts
        return ScaledRate(
            base=wrapper.optimizer.defaults['lr'],
            batch=batch,
            processes=self.world_size,
            accumulation=accumulation,
            reference=reference or batch * self.world_size * accumulation,
        )

    def load_or_resume(self) -> None:
        """Load or resume, and say from where the run continues."""
        resumes = self._resume and not self._has_loaded
        planned = _peak_rate(self.optim_wrapper)
        super().load_or_resume()
        if not resumes:
            return
        if not self._has_loaded:
            tell(self.logger, f'no checkpoint in {self.work_dir} yet: starting from the beginning')
            return
        by_epoch = isinstance(self.train_loop, EpochBasedTrainLoop)
        done, total = (self.epoch, self.max_epochs) if by_epoch else (self.iter, self.max_iters)
        unit = 'epoch' if by_epoch else 'iteration'
        if done >= total:
            tell(
                self.logger,
                f'this run is finished: {done} of {count(total, unit)}. Its schedule has ended; to train longer, start '
                'a new run with more epochs in another --work-dir.',
            )
            return
        position = getattr(self.train_loop, 'position', 0)
        if position:
            length = len(self.train_dataloader)
            tell(self.logger, f'continuing in epoch {done + 1} of {total}, after iteration {position} of {length}')
        else:
            tell(self.logger, f'continuing after {unit} {done} of {total}')
        resumed = _peak_rate(self.optim_wrapper)
        if resumed is not None and planned is not None and abs(resumed - planned) > 1e-9 * planned:
            tell(self.logger, f'the learning rate of the resumed run is kept: {resumed:.2e}')

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume from a checkpoint, with its seed for the order of the frames as well.

        Raises:
            CheckpointError: If the optimizer's state belongs to other parameters, or a part of the state is damaged.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except ValueError as error:
            raise CheckpointError(
                filename,
                f'the state of its optimizer does not fit: {error}.',
                'Resume with the config that it was trained with, or start from its weights: '
                '--cfg-options load_from=CHECKPOINT.',
            ) from error
        except (LookupError, TypeError, AttributeError, AssertionError) as error:
            raise CheckpointError(
                filename,
                f'its training state does not fit: {type(error).__name__}: {str(error)[:200]}.',
                'Take an earlier checkpoint, or start from its weights: --cfg-options load_from=CHECKPOINT.',
            ) from error
        self.count_in_epochs_of(len(self.train_dataloader))
        sampler = self.train_dataloader.batch_sampler.sampler  # Built before the checkpoint's seed was known.
        if hasattr(sampler, 'seed'):
            sampler.seed = self.seed

    def count_in_epochs_of(self, length: int) -> None:
        """Count iterations in epochs of another length than those of the checkpoint, at the end of one of them.

        The batch size, the number of processes or the data may have changed. Schedules that count iterations go on at
        the same share of the training, and end with it.

        Args:
            length: Iterations of an epoch from here on.
        """
        loop = self.train_loop
        if not isinstance(loop, ResumableTrainLoop) or loop.position or not loop.iter:
            return
        before, now = loop.iter, loop.epoch * length
        if before == now:
            return
        loop._iter = now
        built: Any = self.param_schedulers or []
        schedulers = itertools.chain(*built.values()) if isinstance(built, dict) else built
        for scheduler in schedulers:
            if not scheduler.by_epoch:
                stretch(scheduler, now / before)
        tell(self.logger, f'an epoch has {count(length, "iteration")} now, and had {before // loop.epoch}')

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = False, **kwargs: Any) -> dict:
        """Load weights; to resume, they must fit the model completely.

        Raises:
            CheckpointError: If the file is missing, damaged, or of another model.
        """
        try:
            return super().load_checkpoint(filename, map_location, strict or self._resume, **kwargs)
        except (RuntimeError, LookupError, TypeError, AttributeError) as error:
            model = unwrapped(self.model)
            misfits = misfits_in(str(error))
            if misfits:
                more = ', ...' if len(misfits) > MISFITS_SHOWN else ''
                raise CheckpointError(
                    filename,
                    f'it is of another architecture than this {type(model).__name__}: {count(len(misfits), "tensor")} '
                    f'differ ({", ".join(misfits[:MISFITS_SHOWN])}{more}).',
                    'Pass the config and the options that it was trained with; to start another model, leave out '
                    '--resume and take another --work-dir.',
                ) from error
            what = ' '.join(str(error).split())
            raise CheckpointError(
                filename,
                f'it does not load into this {type(model).__name__}: {what[:400]}',
                'If the file is damaged, take an earlier checkpoint of the work directory; if it belongs to another '
                'model, pass the config that it was trained with.',
            ) from error

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call hooks; what is resumed from is checked before they, and the model, see it."""
        if fn_name == 'after_load_checkpoint' and self._resume:
            check_training_state(kwargs['checkpoint'], str(self._load_from or self.work_dir))
        super().call_hook(fn_name, **kwargs)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save so that the file is there in full or not at all: written beside, synced to the disk, then renamed.

        The first process alone does it; the others would take its unfinished file, or that of a killed run, for theirs.

        Raises:
            CheckpointError: If it cannot be written; earlier checkpoints are as they were.
        """
        if not is_main_process():
            return
        target = Path(out_dir) / filename
        for cut_off in Path(out_dir).glob('.*.pth.*.part'):  # Of a run that was killed while it saved.
            cut_off.unlink(missing_ok=True)
        try:
            with in_one_step(target) as unfinished:
                super().save_checkpoint(out_dir, unfinished.name, *args, **kwargs)
        except StorageError as error:
            cure = f'{error.cure} --resume then continues from the checkpoint before, which is whole.'
            raise CheckpointError(target, error.what, cure) from error

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work directory, in full or not at all.

        Raises:
            StorageError: If it cannot be written.
        """
        name = Path(self.cfg.filename or f'{self.timestamp}.py').name
        write_whole(Path(self.work_dir, name).with_suffix('.py'), self.cfg.pretty_text, sync=False)

    def _maybe_compile(self, target: str) -> None:
        """Compile what the config's ``compile`` says: the parts of the model, in place of mmengine's whole step."""
        parts = compile_parts(self.model, self.cfg.get('compile'))
        if parts:
            tell(self.logger, f'{count(parts, "part")} of the model compiled; the first steps take long')

    def train(self) -> nn.Module:
        """Train, and let the hooks close what they hold (``close``), whatever ends the training."""
        model = unwrapped(self.model)
        if self._val_loop is not None and not validates(model):
            self._val_loop = None
            tell(self.logger, f'no validation: {type(model).__name__} gives no held-out loss')
        try:
            return super().train()
        finally:
            self.call_hook('close')


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a model without what wraps it for several processes."""
    inner: Any = model.module if is_model_wrapper(model) else model
    return inner


def frames_per_batch(loader: DataLoader) -> int:
    """Return the frames that one process loads per iteration."""
    return loader.batch_size or loader.batch_sampler.batch_size  # type: ignore[union-attr]


def misfits_in(text: str) -> list[str]:
    """Return the names of the tensors that PyTorch's error about a state dict names: other shapes first."""
    shapes = re.findall(r'size mismatch for ([\w.]+)', text)
    lists = re.findall(r'(?:unexpected|missing) keys? in source state_dict: ([^\n]+)', text)
    names = [name.strip() for listed in lists for name in listed.split(',')]
    return [*shapes, *(name for name in names if name)]


def _peak_rate(optim_wrapper: OptimWrapper | None) -> float | None:
    """Return the learning rate that the schedule is relative to; None where there are several optimizers."""
    if not isinstance(optim_wrapper, OptimWrapper) or isinstance(optim_wrapper, OptimWrapperDict):
        return None
    group = optim_wrapper.optimizer.param_groups[0]
    return group.get('initial_lr', group['lr'])
