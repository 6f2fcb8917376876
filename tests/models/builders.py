"""Small models and batches for the tests of this folder."""

from __future__ import annotations

import torch
from mmpretrain.structures import DataSample

from vasomim import models  # noqa: F401  registers the models
from vasomim.registry import MODELS

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
BACKBONE = dict(type='MaskedViT', arch=ARCH, img_size=64)
NECK = dict(type='MAEPretrainDecoder', decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
HEAD = dict(type='ReconstructionHead', norm_pix=True)


def vasomim_config(**changes) -> dict:
    config = dict(
        type='MaskedImageModeling',
        backbone=BACKBONE,
        neck=NECK,
        head=HEAD,
        guidance=dict(type='VesselGuidance'),
        masking=dict(type='AnatomyMasking'),
        segmentor=dict(type='UNeXt'),
        losses=dict(cons=dict(type='AnatomicalConsistencyLoss')),
    )
    return {**config, **changes}


def build(config: dict, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = MODELS.build(config)
    model.init_weights()
    model.progress = 1.0
    return model


def batch(size: int = 3, side: int = 64, seed: int = 0) -> tuple[torch.Tensor, list[DataSample]]:
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(size):
        sample = DataSample(metainfo=dict(sample_idx=index, img_path=f'frame_{index}.png'))
        anatomy = (torch.rand(1, side, side, generator=generator) > 0.9).to(torch.uint8)
        sample.set_field(anatomy, 'anatomy', field_type='data')
        samples.append(sample)
    return torch.randn(size, 3, side, side, generator=generator), samples
