"""Mixed precision."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import amp

from vasomim.engine import PretrainRunner
from vasomim.engine.precision import mixed_precision


class StartHook(Hook):
    """Keeps the weights before the training, and the types in which linear layers compute."""

    def before_train(self, runner):
        self.seen = set()
        self.start = weights(runner)
        for module in runner.model.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(lambda module, inputs, output: self.seen.add(output.dtype))


def test_forward_in_bfloat16_and_weights_in_float32(toy, tmp_path):
    config = toy.config(tmp_path)
    config['optim_wrapper'], words = mixed_precision(config['optim_wrapper'])
    hook = StartHook()
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


@pytest.fixture
def old_gpu(monkeypatch):
    """A processor in the place of a GPU without bfloat16: float16 with loss scaling, as such a GPU computes it."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(torch.amp.GradScaler, device='cpu'))
    monkeypatch.setattr(amp, 'autocast', partial(torch.autocast, 'cpu'))


def in_float16(config, **scale):
    config['optim_wrapper'].update(type='AmpOptimWrapper', dtype='float16', loss_scale=scale or 'dynamic')
    return config


def weights(runner):
    return torch.cat([p.detach().flatten() for p in runner.model.parameters() if p.requires_grad])


def test_float16_learns_what_float32_learns(toy, tmp_path, old_gpu):
    full = PretrainRunner(**toy.sharding(tmp_path / 'full'))
    full.train()
    half = PretrainRunner(**in_float16(toy.sharding(tmp_path / 'half'), init_scale=2.0**10))
    hook = StartHook()
    half.register_hook(hook)
    half.train()
    assert torch.float16 in hook.seen
    learned, expected = weights(half) - hook.start, weights(full) - hook.start
    assert torch.cosine_similarity(learned, expected, dim=0) > 0.99
    loss = [runner.message_hub.get_scalar('train/loss')._log_history[0] for runner in (half, full)]
    assert loss[0] == pytest.approx(loss[1], rel=5e-3)


def test_an_overflow_skips_its_step_and_lowers_the_scale(toy, tmp_path, old_gpu):
    runner = PretrainRunner(**in_float16(toy.config(tmp_path, epochs=1), init_scale=2.0**40))
    hook = StartHook()
    runner.register_hook(hook)
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0**37  # three steps, each too large
    assert torch.equal(weights(runner), hook.start)


def test_a_resumed_run_goes_on_with_its_loss_scale(toy, tmp_path, old_gpu):
    scale = {'init_scale': 2.0**40, 'backoff_factor': 2.0**-10}
    straight = PretrainRunner(**in_float16(toy.config(tmp_path / 'straight', epochs=3), **scale))
    straight.train()
    PretrainRunner(**in_float16(toy.config(tmp_path / 'resumed', epochs=2), **scale)).train()
    resumed = PretrainRunner(**in_float16(toy.config(tmp_path / 'resumed', epochs=3, resume=True), **scale))
    resumed.train()
    assert resumed.optim_wrapper.loss_scaler.state_dict() == straight.optim_wrapper.loss_scaler.state_dict()
    assert torch.equal(weights(resumed), weights(straight))


def test_a_wrapper_of_the_users_choice_stays():
    config = {'type': 'AmpOptimWrapper', 'dtype': 'bfloat16', 'optimizer': {'type': 'SGD'}}
    assert mixed_precision(config)[0] == config
