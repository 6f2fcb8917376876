"""The one thing of a pre-training that all its cells share: its encoder."""

from __future__ import annotations

import os
from pathlib import Path

from vasomim.checkpoint import read_checkpoint, save_weights
from vasomim.engine.initialize import PREFIX


def save_encoder(work_dir: Path, target: Path) -> None:
    """Write the encoder of a run's last checkpoint, with its config, in one step.

    Raises:
        CheckpointError: If the run has no checkpoint.
    """
    checkpoint = read_checkpoint(work_dir)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(PREFIX)}
    unfinished = target.with_name(f'.{target.name}')
    save_weights(tensors, unfinished, checkpoint.config)
    os.replace(unfinished, target)
