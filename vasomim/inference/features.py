"""Embeddings of frames by a frozen encoder, whatever checkpoint it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vasomim.checkpoints.encoders import (
    MASK_TOKEN,
    backbone_config,
    encoder_tensors,
    heads_of,
    shape_of,
    source_grid,
    usual_heads,
)
from vasomim.checkpoints.loading import NEEDED, load_tensors
from vasomim.checkpoints.reading import Checkpoint, read_checkpoint
from vasomim.checkpoints.runs import best_checkpoint
from vasomim.checkpoints.stored_model import blamed_on_config
from vasomim.data.transforms import resize
from vasomim.errors import CheckpointError, ConfigError, did_you_mean
from vasomim.frames.inputs import Frame
from vasomim.inference.device import chosen_device
from vasomim.models.plain_vit import PlainViT

POOLS = ('mean', 'class')
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # What every method here is pre-trained with.


class FeatureExtractor:
    """Turns frames into vectors by the frozen encoder of a checkpoint.

    Args:
        checkpoint: Of a pre-training, a downstream task, or a plain ViT of another project that
            :func:`vasomim.checkpoints.reading.read_checkpoint` reads; a file or the folder of a run.
        pool: 'mean' of the patch tokens, or the 'class' token, both behind the last normalization.
        size: Side to which frames are resized, in pixels; None for that of the encoder's position embeddings.
        device: Where the encoder runs; a GPU if there is one, else the CPU.

    Raises:
        CheckpointError: If the checkpoint holds no plain ViT.
        ConfigError: If ``pool`` is unknown, the patch does not divide ``size``, or there is no such device.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        pool: str = 'mean',
        size: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if pool not in POOLS:
            raise ConfigError('pool', f"there is no '{pool}'.{did_you_mean(pool, POOLS)}", 'Choose mean or class.')
        self.device = chosen_device(device)
        source = best_checkpoint(checkpoint)
        self.encoder = build_encoder(read_checkpoint(source, find=True), source)
        patch = self.encoder.patch_size
        self.size = self.encoder.patch_resolution[0] * patch if size is None else size
        if self.size < patch or self.size % patch:
            raise ConfigError('size', f'{self.size} does not divide into patches of {patch}.', f'Take {14 * patch}.')
        self.pool = pool
        self.encoder.to(self.device)
        self.mean, self.std = (torch.tensor(value, device=self.device).reshape(1, 3, 1, 1) for value in IMAGENET)

    def __call__(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Embed frames of any size, uint8 (H, W) each.

        Returns:
            float32 (N, C).
        """
        stacked = np.stack([resize(frame, (self.size, self.size), smooth=True) for frame in frames])
        grey = torch.from_numpy(stacked).to(self.device, torch.float32)[:, None]
        with torch.no_grad():
            tokens = self.tokens((grey.expand(-1, 3, -1, -1) - self.mean) / self.std)
        pooled = tokens[:, 1:].mean(dim=1) if self.pool == 'mean' else tokens[:, 0]
        return pooled.cpu().numpy()

    def tokens(self, inputs: Tensor) -> Tensor:
        """Return class token and patch tokens, (B, 1 + L, C), of normalized frames (B, 3, H, W)."""
        return self.encoder(inputs)[-1]


def embed(
    extractor: FeatureExtractor, frames: Iterable[Frame], batch: int = 32
) -> Iterator[tuple[list[Frame], np.ndarray]]:
    """Yield frames in batches with their embeddings, float32 (B, C).

    Raises:
        ConfigError: If ``batch`` is not positive.
    """
    if batch < 1:
        raise ConfigError('batch', f'{batch} is not positive.', 'Take 32.')
    waiting = iter(frames)
    while part := list(islice(waiting, batch)):
        yield part, extractor(frame.pixels for frame in part)


def build_encoder(checkpoint: Checkpoint, source: str | Path) -> PlainViT:
    """Build the encoder that a checkpoint's tensors, and its config where it has one, describe, and load it.

    Raises:
        CheckpointError: If they are not those of a plain ViT, or the number of heads is not known.
    """
    tensors, notes = encoder_tensors(checkpoint, source)
    tensors = {name: tensor for name, tensor in tensors.items() if name != MASK_TOKEN}
    lacking = [name for name in (*NEEDED, 'layers.0.ffn.layers.0.0.weight') if name not in tensors]
    if lacking:
        what = f'it holds no plain ViT: {lacking[0]} is missing.'
        raise CheckpointError(source, what, 'Take a checkpoint with a plain ViT as encoder.')
    patch = tensors['patch_embed.projection.weight'].shape[-1]
    grid = source_grid(checkpoint, tensors['pos_embed'], source)
    if grid[0] != grid[1]:
        raise CheckpointError(
            source, f'its grid of patches, {grid}, is no square.', 'Take an encoder of square frames.'
        )
    shape = shape_of(tensors)
    heads = heads_of(checkpoint, tensors, source)
    if heads is None:
        usual = usual_heads(shape)
        if usual is None:
            what = f'an encoder of {shape["num_layers"]} layers of {shape["embed_dims"]} is of no known size.'
            cure = 'Take a checkpoint with its config, or with the config.json that it was published with beside it.'
            raise CheckpointError(source, what, cure)
        heads = usual, 'nothing'
        notes += (f'nothing says its number of heads: {usual}, as ViTs of its size have, are assumed',)
    config = backbone_config(checkpoint, source)
    options = {key: config[key] for key in ('window_size', 'global_layers') if config.get(key) is not None}
    with blamed_on_config(source):
        arch = {**shape, 'num_heads': heads[0]}
        encoder = PlainViT(arch=arch, patch_size=patch, img_size=grid[0] * patch, **options)
    load_tensors(encoder, tensors, str(source), notes=notes, strict=True)
    encoder.out_type = 'raw'  # All tokens instead of a map.
    encoder.eval()
    return encoder
