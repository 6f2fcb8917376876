"""Start a training from a pre-trained encoder, and keep the report of what was loaded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from vasomim.checkpoints.encoders import MASK_TOKEN, encoder_tensors, heads_of, source_grid
from vasomim.checkpoints.families import resize_positions
from vasomim.checkpoints.loading import LEAST, NEEDED, LoadReport, load_tensors
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.engine.terminal import tell
from vasomim.errors import CheckpointError
from vasomim.files import write_whole
from vasomim.models.rotary_vit import RotaryViT
from vasomim.registry import HOOKS


@HOOKS.register_module()
class EncoderInitHook(Hook):
    """Loads a pre-trained encoder into ``model.backbone`` when a training starts, not when it is resumed.

    It comes after mmengine has initialized the weights, which would overwrite them. The report is printed and written
    to ``encoder_init.json`` in the work directory.

    Args:
        checkpoint: What :func:`vasomim.checkpoints.reading.read_checkpoint` reads.
        least: Share of the encoder's tensors that must match, in [0, 1].
    """

    def __init__(self, checkpoint: str, least: float = LEAST) -> None:
        self.checkpoint = checkpoint
        self.least = least

    def before_train(self, runner: Runner) -> None:
        """Load, unless this training goes on from a checkpoint of its own."""
        if runner.iter > 0 or runner._has_loaded:
            return
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        report = load_encoder(model.backbone, self.checkpoint, self.least)
        if is_main_process():
            path = Path(runner.work_dir) / 'encoder_init.json'
            content = {**asdict(report), 'share': report.share}
            write_whole(path, json.dumps(content, indent=1) + '\n')
        tell(runner.logger, f'encoder from {report}')
        for note in report.notes:
            tell(runner.logger, f'encoder: {note}')


def load_encoder(backbone: nn.Module, source: str | Path, least: float = LEAST) -> LoadReport:
    """Load the encoder of a checkpoint into a plain ViT; its position embeddings are resized to the ViT's grid.

    Args:
        backbone: A :class:`~vasomim.models.plain_vit.PlainViT`, or another module of the same tensor names.
        source: As in :func:`vasomim.checkpoints.reading.read_checkpoint`: of any pre-training method, or of a
            downstream task.
        least: Share of the encoder's tensors that must match, in [0, 1].

    Raises:
        CheckpointError: If fewer match, or not the patch embedding, the class token and the positions; if the encoder
            holds more than the ViT; if one has rotary positions and the other has not; if they are known to have other
            numbers of heads; or if the grid of the positions is not known.
    """
    rotary = isinstance(backbone, RotaryViT)
    checkpoint = read_checkpoint(source, rotary=rotary, find=True)
    tensors, notes = encoder_tensors(checkpoint, source)
    own = backbone.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items() if name != MASK_TOKEN or name in own}
    if rotary != ('register_tokens' in tensors):
        raise CheckpointError(
            source,
            f'it holds {"no register tokens and learned" if rotary else "register tokens and rotary"} positions, '
            f'unlike this {type(backbone).__name__}.',
            f'Pass --cfg-options model.backbone.type=mmpretrain.{"PlainViT" if rotary else "RotaryViT"}.',
        )
    notes += check_heads(backbone, heads_of(checkpoint, tensors, source), source)
    positions, grid = tensors.get('pos_embed'), getattr(backbone, 'patch_resolution', None)
    resized = []
    if positions is not None and grid is not None and positions.shape[1] != 1 + grid[0] * grid[1]:
        from_grid = source_grid(checkpoint, positions, source)
        tensors = {**tensors, 'pos_embed': resize_positions(positions, from_grid, tuple(grid), prefix=1)}
        resized.append('pos_embed')
    return load_tensors(backbone, tensors, str(source), least, resized, NEEDED, notes, strict=True)


def check_heads(backbone: Any, said: tuple[int, str] | None, source: str | Path) -> tuple[str, ...]:
    """Compare the number of heads of an encoder with that of a checkpoint, whose tensors fit any.

    Args:
        backbone: That is loaded into.
        said: As :func:`vasomim.checkpoints.encoders.heads_of` returns it.
        source: The checkpoint.

    Returns:
        What is assumed, in words; empty where it is known.

    Raises:
        CheckpointError: If they differ.
    """
    heads = backbone.layers[0].attn.num_heads if hasattr(backbone, 'layers') else None
    if heads is None:
        return ()
    if said is None:
        return (f'nothing says its number of heads: the {heads} of this model are assumed',)
    if said[0] != heads:
        raise CheckpointError(
            source,
            f'its encoder has {said[0]} heads, as {said[1]} says, and this {type(backbone).__name__} {heads}.',
            'Give model.backbone.arch of your config as a dict with embed_dims, num_layers, num_heads and '
            f'feedforward_channels, and num_heads={said[0]} in it.',
        )
    return ()
