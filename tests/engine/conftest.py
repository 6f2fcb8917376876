"""A model and a data set of a few numbers, with all that the engine asks of them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import Dataset

import vasomim.engine  # noqa: F401 - registers

SIDE = 8
NUMBERS = itertools.count()


class ToyFrames(Dataset):
    """Frames of 8 x 8 pixels; each is brightened at random, as a crop would change it."""

    metainfo: dict = {}  # noqa: RUF012 - mmengine warns of data sets without it

    def __init__(self, length: int = 12, skipped: dict[int, list[str]] | None = None, side: int = SIDE) -> None:
        self.frames = torch.from_numpy(np.random.RandomState(0).randint(0, 200, (length, 1, side, side)))
        self.skipped = skipped or {}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict:
        sample = DataSample(
            metainfo={'img_path': f'frames/{index:03}.png', 'sample_idx': index, 'skipped': self.skipped.get(index, [])}
        )
        sample.set_field((self.frames[index] < 50).to(torch.uint8), 'anatomy', field_type='data')
        return {'inputs': (self.frames[index] + np.random.randint(50)).to(torch.uint8), 'data_samples': sample}


class ToyPreprocessor(BaseDataPreprocessor):
    def forward(self, data: dict, training: bool = False) -> dict:
        frames = torch.stack(list(data['inputs'])).float() / 255
        return {'inputs': frames.expand(-1, 3, -1, -1), 'data_samples': data['data_samples']}

    def denormalize(self, frames: torch.Tensor) -> torch.Tensor:
        return (frames.mean(1) * 255).round().clamp(0, 255).to(torch.uint8)


class ToyModel(BaseModel):
    """Predicts each pixel from the visible ones; masks are drawn from PyTorch's generator."""

    def __init__(self, broken_frame: str | None = None) -> None:
        super().__init__(data_preprocessor=ToyPreprocessor())
        self.backbone = nn.Linear(SIDE * SIDE, SIDE * SIDE)
        self.frozen = nn.Parameter(torch.full((3, 3), 0.5), requires_grad=False)
        self.broken_frame = broken_frame

    def init_weights(self) -> None:
        nn.init.eye_(self.backbone.weight)
        nn.init.zeros_(self.backbone.bias)

    def forward(self, inputs: torch.Tensor, data_samples: list, mode: str = 'loss') -> dict | list:
        frames = inputs[:, 0].flatten(1)
        if mode == 'predict':
            for sample, error in zip(data_samples, (self.backbone(frames) - frames).pow(2).mean(1), strict=True):
                sample.set_field(error, 'loss_rec', field_type='data')
            return data_samples
        mask = torch.rand_like(frames) < 0.5
        loss = (self.backbone(frames * ~mask) - frames).pow(2).mean()
        if any(sample.metainfo['img_path'] == self.broken_frame for sample in data_samples):
            loss = loss * float('nan')
        return {'loss_rec': loss, 'loss_cons': 0.1 * loss, 'vessel_masked': mask.float().mean()}

    @torch.no_grad()
    def reconstruct(self, frames: torch.Tensor, samples: list) -> SimpleNamespace:
        mask = (torch.rand_like(frames[:, :1]) < 0.5).float()
        return SimpleNamespace(
            original=frames, guidance=None, mask=mask, reconstruction=torch.where(mask > 0, 1 - frames, frames)
        )


def runner_config(work_dir: object, epochs: int = 2, batch: int = 4, **changes: object) -> dict:
    """A config for ``PretrainRunner``; the model and the frames are objects, all else as in a config file."""
    config = {
        'model': ToyModel(),
        'work_dir': str(work_dir),
        'default_scope': 'mmpretrain',
        'experiment_name': f'toy{next(NUMBERS)}',  # mmengine shares loggers and histories by name and second
        'train_dataloader': {
            'dataset': ToyFrames(),
            'batch_size': batch,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        },
        'train_cfg': {'type': 'ResumableTrainLoop', 'max_epochs': epochs},
        'optim_wrapper': {
            'type': 'OptimWrapper',
            'constructor': 'LayerDecayOptimWrapperConstructor',
            'optimizer': {'type': 'SGD', 'lr': 0.1},
        },
        'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 4, 'end': 4, 'by_epoch': True}],
        'default_hooks': {
            'runtime_info': {'type': 'DeferredRuntimeInfoHook'},
            'logger': {'type': 'LoggerHook', 'interval': 2, 'ignore_last': False},
            'iteration_seed': {'type': 'IterationSeedHook'},
            'checkpoint': {'type': 'SafeCheckpointHook', 'interval': 1},
            'progress': {'type': 'ProgressHook'},
        },
        'randomness': {'seed': 0},
    }
    config['default_hooks'].update(changes.pop('hooks', {}))
    return {**config, 'cfg': {'default_hooks': config['default_hooks']}, **changes}


def sharding_config(work_dir: object, **changes: object) -> dict:
    """A config with a very small VasoMIM in place of the toy, built here, clipped gradients and pictures."""
    import vasomim.models  # noqa: F401 - registers
    from vasomim.registry import MODELS

    torch.manual_seed(0)
    size = {'embed_dims': 48, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}
    model = MODELS.build(
        {
            'type': 'VasoMIM',
            'backbone': {'type': 'MaskedViT', 'arch': size, 'img_size': 32, 'patch_size': 8},
            'neck': {
                'type': 'MAEPretrainDecoder',
                'in_chans': 3,
                'decoder_embed_dim': 32,
                'decoder_depth': 1,
                'decoder_num_heads': 2,
            },
            'head': {'type': 'ReconstructionHead'},
            'masking': {'type': 'AnatomyMasking', 'ratio': 0.5, 'start': 0.0, 'end': 0.5},
            'segmentor': {'type': 'UNeXt'},
            'consistency': {'type': 'AnatomicalConsistencyLoss'},
        }
    )
    config = runner_config(work_dir, batch=2, model=model, **changes)
    config['train_dataloader']['dataset'] = ToyFrames(8, side=32)
    # With AdamW's own eps of 1e-8 the rounding of gradients that are zero (biases of keys) becomes whole steps.
    config['optim_wrapper'].update(
        optimizer={'type': 'AdamW', 'lr': 1e-3, 'eps': 1e-4, 'fused': True},
        clip_grad={'max_norm': 1.0},
        accumulative_counts=2,
    )
    config['custom_hooks'] = [{'type': 'ReconstructionFigureHook', 'interval': 2, 'num': 2}]
    return config


def random_batch(size: int, side: int = 32) -> tuple[torch.Tensor, list]:
    """Normalized frames and samples with anatomy, from PyTorch's generator."""
    return torch.randn(size, 3, side, side), samples_of([torch.rand(1, side, side) < 0.1 for _ in range(size)])


def samples_of(anatomy: list) -> list:
    """Samples with these anatomy maps."""
    samples = [DataSample(metainfo={'sample_idx': index}) for index in range(len(anatomy))]
    for sample, own in zip(samples, anatomy, strict=True):
        sample.set_field(own.to(torch.uint8), 'anatomy', field_type='data')
    return samples


@pytest.fixture
def toy() -> SimpleNamespace:
    """The pieces of this module, for tests."""
    return SimpleNamespace(
        Frames=ToyFrames,
        Model=ToyModel,
        config=runner_config,
        sharding=sharding_config,
        samples=samples_of,
        collate=pseudo_collate,
    )
