"""Corrupt frames that a dataset was told to skip: counted and listed, never lost sight of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from vasomim.engine.scalars import samples_of
from vasomim.engine.terminal import count, tell
from vasomim.errors import printable
from vasomim.files import write_whole
from vasomim.registry import HOOKS


@HOOKS.register_module()
class SkippedFramesHook(Hook):
    """Collects the ``skipped`` paths of the samples and lists them in ``skipped_frames.txt`` of the work directory.

    A dataset with ``skip_corrupt=True`` names, in a sample's ``skipped``, the corrupt frames in whose place the sample
    stands. It enters the list at once, so that a run that is killed loses none; after each epoch the list is sorted,
    and its length told. A resumed run adds to it. All processes' frames are in it.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self.skipped: set[str] = set()
        self.listed: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Take up the list of the run that is resumed."""
        path = self.path(runner)
        if runner.iter == 0 and runner.rank == 0:
            path.unlink(missing_ok=True)
        resumed = runner.iter > 0 and path.is_file()
        self.listed = set(path.read_text(encoding='utf-8', errors='replace').split('\n')) - {''} if resumed else set()
        self.skipped = set(self.listed)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Collect from a batch."""
        self.collect(runner, data_batch)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Collect from a batch of held-out frames."""
        self.collect(runner, data_batch)

    def after_train_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the list."""
        self.write(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the list."""
        self.write(runner)

    def collect(self, runner: Runner, data_batch: Any) -> None:
        """Add what the samples of a batch report, to the file as well."""
        names = [name for sample in samples_of(data_batch) for name in sample.metainfo.get('skipped') or ()]
        if new := sorted({printable(name) for name in names} - self.skipped):
            self.skipped.update(new)
            with open(self.path(runner), 'a', encoding='utf-8') as file:
                file.write(''.join(f'{name}\n' for name in new))

    def write(self, runner: Runner) -> None:
        """Write the list of all processes if it has grown, and say how long it is; called in every process."""
        found = set().union(*all_gather_object(self.skipped))
        if found == self.listed:
            return
        self.listed = found
        if runner.rank == 0:
            write_whole(self.path(runner), ''.join(f'{name}\n' for name in sorted(found)))
            tell(runner.logger, f'{count(len(found), "corrupt frame")} skipped so far: {self.path(runner)}')

    @staticmethod
    def path(runner: Runner) -> Path:
        """Return where the list stands."""
        return Path(runner.work_dir) / 'skipped_frames.txt'
