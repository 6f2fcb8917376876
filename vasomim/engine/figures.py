"""Pictures of the reconstructions while training."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.fsdp import FSDPModule

from vasomim.drawing.visualization import reconstruction_figure, write_picture
from vasomim.engine.abilities import reconstructs
from vasomim.engine.terminal import tell
from vasomim.errors import printable
from vasomim.registry import HOOKS


@HOOKS.register_module()
class ReconstructionFigureHook(Hook):
    """Draws original, guidance, mask and reconstruction of the same frames every few epochs and after the last.

    The frames are the first held-out ones, or the first of the training where nothing is held out. The pictures go to
    ``figures/epoch_N.png`` in the work directory and to the visualizer's backends (TensorBoard). The random numbers of
    the training are not touched. An algorithm that reconstructs nothing trains without pictures, and a picture that
    fails is a warning: neither ends a training.

    Args:
        interval: Epochs between two pictures.
        num: Number of frames.
        seed: Seed of the masks, the same for every picture.

    Raises:
        ValueError: If ``interval`` or ``num`` is not positive.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 10, num: int = 4, seed: int = 0) -> None:
        if interval < 1 or num < 1:
            raise ValueError(f'interval and num must be positive, not {interval} and {num}')
        self.interval = interval
        self.num = num
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Say so where there will be no pictures."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not reconstructs(model):
            tell(runner.logger, f'no figures: {type(model).__name__} reconstructs nothing')

    def after_train_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw, if it is this epoch's turn: in the first process, to which all others add their shares of the model."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        sharded = isinstance(model, FSDPModule)
        if not reconstructs(model) or (not is_main_process() and not sharded):
            return
        training = model.training
        try:
            self.draw(runner, model)
        except Exception as error:
            if sharded:  # The other processes wait for this one's share of the model.
                raise
            reason = ' '.join(str(error).split()) or type(error).__name__
            runner.logger.warning(printable(f'the picture of epoch {runner.epoch + 1} failed: {reason}'))
        finally:
            model.train(training)

    def draw(self, runner: Runner, model: Any) -> None:
        """Draw into the work directory and to the backends."""
        loader = runner.train_dataloader if runner.val_loop is None else runner.val_dataloader
        with own_randomness(self.seed), torch.no_grad():
            samples = [loader.dataset[index] for index in range(min(self.num, len(loader.dataset)))]
            batch = model.eval().data_preprocessor(loader.collate_fn(samples), False)
            result = model.reconstruct(batch['inputs'], batch['data_samples'])
        if not is_main_process():
            return
        names = [Path(sample.metainfo.get('img_path', '')).name for sample in batch['data_samples']]
        picture = reconstruction_figure(result, model.data_preprocessor.denormalize, names)
        write_picture(Path(runner.work_dir) / 'figures' / f'epoch_{runner.epoch + 1}.png', picture)
        runner.visualizer.add_image('reconstruction', picture, step=runner.epoch + 1)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch, with the GPU of this process, inside, and go on as if nothing had been drawn."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
