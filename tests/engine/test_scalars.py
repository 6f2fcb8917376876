"""Losses are read back once per logging interval, and nothing about the logs changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from torch.utils._python_dispatch import TorchDispatchMode

import vasomim.models  # noqa: F401 - registers
from vasomim.engine import PretrainRunner
from vasomim.engine.scalars import read_back
from vasomim.errors import TrainingError
from vasomim.registry import MODELS

STANDARD = {'runtime_info': {'type': 'RuntimeInfoHook'}}


class CountReads(TorchDispatchMode):
    """Counts how often a value moves from a tensor to Python, per iteration of the training."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.reads += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


class ReadsPerStep(Hook):
    """Notes the reads between the start of one iteration and the end of its last hook."""

    priority = 'LOWEST'

    def __init__(self, counter: CountReads) -> None:
        self.counter = counter
        self.before = 0
        self.reads: list[int] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = self.counter.reads

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.reads.append(self.counter.reads - self.before)


def reads_per_step(config: dict) -> list[int]:
    counter = CountReads()
    hook = ReadsPerStep(counter)
    runner = PretrainRunner(**config)
    runner.register_hook(hook)
    with counter:
        runner.train()
    return hook.reads


def test_a_step_reads_nothing_back(toy, tmp_path):
    # tolist() of a stack is one transfer and calls no scalar read at all.
    assert reads_per_step(toy.config(tmp_path / 'ours', batch=2)) == [0] * 12
    # The counter does count: mmengine's hook reads four scalars at every step.
    assert reads_per_step(toy.config(tmp_path / 'standard', batch=2, hooks=STANDARD)) == [4] * 12


def test_a_step_of_vasomim_reads_nothing_back(toy, tmp_path):
    """Model, masking, losses, optimizer and hooks together."""
    arch = {'embed_dims': 24, 'num_layers': 1, 'num_heads': 3, 'feedforward_channels': 48}
    model = {
        'type': 'VasoMIM',
        'backbone': {'type': 'MaskedViT', 'arch': arch, 'img_size': 64},
        'neck': {'type': 'MAEPretrainDecoder', 'decoder_embed_dim': 16, 'decoder_depth': 1, 'decoder_num_heads': 2},
        'head': {'type': 'ReconstructionHead'},
        'masking': {'type': 'AnatomyMasking', 'ratio': 0.5, 'start': 0.0, 'end': 0.5},
        'segmentor': {'type': 'UNeXt'},
        'consistency': {'type': 'AnatomicalConsistencyLoss'},
    }
    config = toy.config(tmp_path, model=MODELS.build(model))
    config['train_dataloader']['dataset'] = toy.Frames(side=64)
    config['optim_wrapper']['optimizer'] = {'type': 'AdamW', 'lr': 1e-4, 'fused': True}
    assert reads_per_step(config) == [0] * 6


def scalars(work_dir: Path) -> list[dict]:
    lines = next(work_dir.rglob('scalars.json')).read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if 'time' not in name} for line in lines]


@pytest.mark.parametrize('interval', [2, 5, 100])
def test_logs_and_histories_are_those_of_the_standard_hook(toy, tmp_path, interval):
    logger = {'logger': {'type': 'LoggerHook', 'interval': interval, 'ignore_last': False}}
    histories = {}
    for name, hook in (('ours', {}), ('standard', STANDARD)):
        runner = PretrainRunner(
            **toy.config(tmp_path / name, batch=2, hooks={**logger, **hook}, log_processor={'window_size': 3})
        )
        runner.train()
        histories[name] = {
            key: runner.message_hub.get_scalar(f'train/{key}').data[0]
            for key in ('loss', 'loss_rec', 'loss_cons', 'vessel_masked')
        }
    assert len(scalars(tmp_path / 'ours')) == 2 * -(-6 // interval)
    assert scalars(tmp_path / 'ours') == scalars(tmp_path / 'standard')
    for key, history in histories['standard'].items():
        assert len(history) == 12
        np.testing.assert_array_equal(histories['ours'][key], history)


def test_the_checkpoint_holds_every_value(toy, tmp_path):
    PretrainRunner(**toy.config(tmp_path, hooks={'logger': {'type': 'LoggerHook', 'interval': 100}})).train()
    hub = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['message_hub']
    assert len(hub['log_scalars']['train/loss'].data[0]) == 6


def test_nan_names_iteration_loss_and_frames(toy, tmp_path):
    config = toy.config(tmp_path, model=toy.Model(broken_frame='frames/005.png'))
    config['train_dataloader']['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    with pytest.raises(TrainingError) as caught:
        PretrainRunner(**config).train()
    assert str(caught.value).startswith(
        'iteration 2 (epoch 1): loss is nan, loss_rec is nan, loss_cons is nan. Frames of that batch: '
        'frames/004.png, frames/005.png, frames/006.png, frames/007.png.'
    )
    assert '--resume' in caught.value.cure
    listed = (tmp_path / 'nonfinite_batch.txt').read_text().split()
    assert listed == [f'frames/00{index}.png' for index in (4, 5, 6, 7)]


@pytest.mark.parametrize('hook', [{'interval': 1}, {'interval': 1, 'by_epoch': False}])
def test_no_checkpoint_is_written_after_nan(toy, tmp_path, hook):
    """Also where it appears in the very batch before saving and nothing was to be logged yet."""
    hooks = {'logger': {'type': 'LoggerHook', 'interval': 100}, 'checkpoint': {'type': 'CheckpointHook', **hook}}
    config = toy.config(tmp_path, model=toy.Model(broken_frame='frames/011.png'), hooks=hooks)
    config['train_dataloader']['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    with pytest.raises(TrainingError, match=r'iteration 3 \(epoch 1\): loss is nan'):
        PretrainRunner(**config).train()
    written = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert written == ([] if 'by_epoch' not in hook else ['iter_1.pth', 'iter_2.pth'])


def test_a_broken_weight_is_not_saved_though_the_losses_are_finite(toy, tmp_path):
    class Break(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 2:  # As a gradient that overflows in an epoch's last step would.
                runner.model.backbone.bias.data[3] = float('inf')

    with pytest.raises(TrainingError, match=r'1 of 3 weights are no longer finite \(first: backbone.bias\)'):
        PretrainRunner(**toy.config(tmp_path, custom_hooks=[Break()])).train()
    assert not list(tmp_path.glob('*.pth'))


def test_a_held_out_loss_that_is_nan_ends_the_training(toy, tmp_path):
    class Undefined(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results.append(float('nan'))

        def compute_metrics(self, results):
            return {'loss_rec': results[0]}

    loader = {'dataset': toy.Frames(4), 'batch_size': 2, 'num_workers': 0, 'sampler': {'type': 'DefaultSampler'}}
    validation = {'val_dataloader': loader, 'val_cfg': {}, 'val_evaluator': Evaluator(Undefined())}
    with pytest.raises(TrainingError, match='epoch 1: loss_rec is nan on the held-out frames'):
        PretrainRunner(**toy.config(tmp_path, **validation)).train()


def test_read_back_keeps_order_types_and_precision():
    values = [torch.tensor(1.1), 2, torch.tensor([3.25], dtype=torch.float64), torch.tensor(0.1), 4.5]
    assert read_back(values) == [torch.tensor(1.1).item(), 2, 3.25, torch.tensor(0.1).item(), 4.5]
    assert read_back([]) == []
