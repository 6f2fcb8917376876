"""Checkpoints of a run: an old one goes when the new one is on the disk."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from vasomim.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that saves first, and then deletes what ``max_keep_ckpts`` no longer keeps.

    With ``max_keep_ckpts=1`` a run that is killed, or a disk that fills, while mmengine's hook saves leaves nothing.
    Takes the arguments of mmengine's hook.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        kept: deque = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else deque()
        full = len(kept) == self.max_keep_ckpts and kept[-1] != step
        outdated = kept.popleft() if full else None  # With a free place mmengine's hook deletes nothing.
        super()._save_checkpoint_with_step(runner, step, meta)
        if outdated is not None and is_main_process():
            Path(self.out_dir, self.filename_tmpl.format(outdated)).unlink(missing_ok=True)
