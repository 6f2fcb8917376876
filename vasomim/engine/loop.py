"""The training loop: epochs that can be left and taken up again anywhere, and validations that are never skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from vasomim.engine.seeding import SeededBatches, with_seeds
from vasomim.engine.terminal import count
from vasomim.errors import CheckpointError
from vasomim.files import write_whole
from vasomim.registry import LOOPS

VALIDATED = 'last_validation'  # Beside mmengine's `last_checkpoint`: the epoch after which was validated last.


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, resumed exactly where a checkpoint was saved.

    - A checkpoint from the middle of an epoch continues there: the batches before are neither read nor decoded.
    - A run that was killed after an epoch's checkpoint, but before or in the validation, makes up for that first; the
      best checkpoint is then the one of a run that was never killed.
    - Each item has a seed of its own, so that crops don't depend on the number of loader workers.

    Args:
        runner: The runner.
        dataloader: The training data, or their config.
        **kwargs: See mmengine's ``EpochBasedTrainLoop``.

    Attributes:
        position: Batches of the present epoch that have been taken.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.dataloader: DataLoader = with_seeds(self.dataloader, runner.rank)
        self.position = 0

    def run(self) -> nn.Module:
        """Train."""
        self.runner.call_hook('before_train')
        if self.position == 0 and self._epoch > 0 and validated_epoch(self.runner.work_dir) != self._epoch:
            self.validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def validate(self) -> None:
        """Validate, if it is time to."""
        self._decide_current_val_interval()
        last = self._epoch == self._max_epochs
        if (
            self.runner.val_loop is None
            or self._epoch < self.val_begin
            or (self._epoch % self.val_interval and not last)
        ):
            return
        self.runner.val_loop.run()
        if self.runner.rank == 0:
            write_whole(Path(self.runner.work_dir, VALIDATED), str(self._epoch).encode())

    def run_epoch(self) -> None:
        """Train for what is left of an epoch."""
        batches = cast(SeededBatches, self.dataloader.batch_sampler)
        batches.begin(self.runner.seed, self._epoch, self.position)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(self.dataloader, start=self.position):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.position = 0

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Train on a batch."""
        self.position = idx + 1
        super().run_iter(idx, data_batch)

    def place(self, epoch: int) -> dict[str, int]:
        """Return what a checkpoint says of its place, if it belongs to an epoch (0 is the first) or lies before it."""
        return {'position': self.position if epoch == self._epoch else 0, 'epoch_length': len(self.dataloader)}

    def continue_at(self, meta: Mapping[str, Any], checkpoint: str) -> None:
        """Take up the place of a checkpoint.

        Args:
            meta: What the checkpoint says of itself; without a place it was saved at the end of an epoch.
            checkpoint: Its name, for the error.

        Raises:
            CheckpointError: If it was saved within an epoch of another length.
        """
        self.position = meta.get('position', 0)
        length = meta.get('epoch_length', len(self.dataloader))
        if self.position and length != len(self.dataloader):
            raise CheckpointError(
                checkpoint,
                f'it lies {count(self.position, "iteration")} into an epoch of {length}, but this config makes epochs '
                f'of {len(self.dataloader)}.',
                'Resume with the data, the batch size and the number of processes that it was trained with, or from '
                'a checkpoint at the end of an epoch.',
            )


def validated_epoch(work_dir: str | Path) -> int | None:
    """Return the epoch after which a run was validated last; None where it was not yet."""
    try:
        return int(Path(work_dir, VALIDATED).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
