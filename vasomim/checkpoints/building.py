"""The model that a checkpoint's own config describes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vasomim import models  # noqa: F401  registers what the config names
from vasomim.checkpoints.loading import load_tensors
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.stored_check import buildable
from vasomim.checkpoints.stored_config import look_up, parse_config
from vasomim.checkpoints.stored_model import build_model
from vasomim.errors import CheckpointError

TASKS = {'mmseg': 'segmentation', 'mmdet': 'detection'}  # Downstream tasks by the scope of their configs.


def load_model(source: str | Path, device: str | torch.device = 'cpu', trust_config: bool = False) -> nn.Module:
    """Build the pre-trained model, or the vessel segmentor, that a checkpoint's own config describes, and load it.

    Args:
        source: A checkpoint that carries its config, as mmengine's do.
        device: Where the model goes.
        trust_config: Build whatever the config says, be it code; for files whose source you trust.

    Returns:
        The model, in evaluation mode; ``model.cfg`` is the whole config.

    Raises:
        CheckpointError: If the file carries no config or that of a downstream task, the config holds what
            :mod:`vasomim.checkpoints.allow_list` does not allow, or the tensors do not fit the model in it.
    """
    checkpoint = read_checkpoint(source)
    if checkpoint.config is None:
        raise CheckpointError(
            source, 'it carries no config, so its model is unknown.', 'Take a checkpoint that `vasomim train` wrote.'
        )
    config = parse_config(checkpoint.config, source)
    scope = look_up(config, 'default_scope', str, source, 'mmpretrain')
    if scope in TASKS:
        cure = 'Take a checkpoint of a pre-training. `vasomim test` and `vasomim predict` take this one.'
        raise CheckpointError(source, f'it is of a {TASKS[scope]}, which reconstructs nothing.', cure)
    section = look_up(config, 'model', dict, source)
    if not section:
        raise CheckpointError(source, 'its config describes no model.', 'Take a checkpoint that a training wrote.')
    section = buildable(section, 'model', config, 'mmpretrain', source, trust_config)
    model = build_model(section, 'mmpretrain', checkpoint.tensors, source)
    load_tensors(model, checkpoint.tensors, str(source))
    model.cfg = config
    return model.to(device).eval()
