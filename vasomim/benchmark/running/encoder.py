"""The one thing of a pre-training that all its cells share: its encoder."""

from __future__ import annotations

from pathlib import Path

from vasomim.checkpoints.families import PREFIX
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.writing import save_weights


def save_encoder(work_dir: Path, target: Path) -> None:
    """Write the encoder of a run's last checkpoint, with its config, in one step.

    The same pre-training gives the same file wherever it runs: the config's folder of the run is left out.

    Raises:
        CheckpointError: If the run has no checkpoint.
    """
    checkpoint = read_checkpoint(work_dir)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(PREFIX)}
    lines = (checkpoint.config or '').splitlines(keepends=True)
    save_weights(tensors, target, ''.join(line for line in lines if not line.startswith('work_dir = ')))
