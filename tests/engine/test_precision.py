"""Mixed precision."""

from __future__ import annotations

import pytest
import torch
from mmengine.hooks import Hook

from vasomim.engine import PretrainRunner
from vasomim.engine.precision import mixed_precision


class DtypeOfForward(Hook):
    def before_train(self, runner):
        self.seen = set()
        runner.model.backbone.register_forward_hook(lambda module, inputs, output: self.seen.add(output.dtype))


def test_forward_in_bfloat16_and_weights_in_float32(toy, tmp_path):
    config = toy.config(tmp_path)
    config['optim_wrapper'], words = mixed_precision(config['optim_wrapper'])
    hook = DtypeOfForward()
    runner = PretrainRunner(**config, custom_hooks=[hook])
    runner.train()
    assert (hook.seen, words) == ({torch.bfloat16}, 'bfloat16')
    assert {parameter.dtype for parameter in runner.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ('gpu', 'bfloat16', 'wrapper', 'dtype'),
    [
        (False, False, 'AutocastOptimWrapper', None),
        (True, True, 'AutocastOptimWrapper', None),
        (True, False, 'AmpOptimWrapper', 'float16'),
    ],
)
def test_the_type_follows_the_device(monkeypatch, gpu, bfloat16, wrapper, dtype):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: bfloat16)
    config, words = mixed_precision({'optimizer': {'type': 'SGD'}, 'accumulative_counts': 2})
    assert (config['type'], config.get('dtype'), config['accumulative_counts']) == (wrapper, dtype, 2)
    assert words.startswith('float16 with loss scaling' if dtype else 'bfloat16')


def test_a_wrapper_of_the_users_choice_stays():
    config = {'type': 'AmpOptimWrapper', 'dtype': 'bfloat16', 'optimizer': {'type': 'SGD'}}
    assert mixed_precision(config)[0] == config
