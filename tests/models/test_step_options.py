"""What makes a step cheaper leaves its result: accumulated gradients, recomputed activations, a fused optimizer."""

from __future__ import annotations

import pytest
import torch

from vasomim.apis.configs import load_config
from vasomim.engine import LayerDecayOptimWrapperConstructor
from vasomim.masking import MaskPlan, uniform_mask

from .builders import BACKBONE, batch, build, vasomim_config


def optimizer_of(model: torch.nn.Module, **options):
    return LayerDecayOptimWrapperConstructor({'optimizer': {'type': 'SGD', 'lr': 0.1}, **options})(model)


def test_two_accumulated_batches_step_as_one_of_both():
    frames, samples = batch(4)
    generator = torch.Generator().manual_seed(7)
    halves = [uniform_mask(2, 16, 0.5, generator) for _ in range(2)]
    whole = MaskPlan(*(torch.cat([getattr(half, name) for half in halves]) for name in vars(halves[0])))
    weights = []
    for plans, parts in ((halves, (slice(0, 2), slice(2, 4))), ([whole], (slice(0, 4),))):
        model = build(vasomim_config()).train()
        before = model.backbone.cls_token.clone()
        wrapper = optimizer_of(model, accumulative_counts=len(parts))
        wrapper.initialize_count_status(model, 0, 100)
        for plan, part in zip(plans, parts, strict=True):
            assert torch.equal(model.backbone.cls_token, before)  # No step until all parts are there.
            model.draw = lambda *_, plan=plan: plan
            with wrapper.optim_context(model):
                losses = model(frames[part], samples[part], mode='loss')
            wrapper.update_params(model.parse_losses(losses)[0])
        assert not torch.equal(model.backbone.cls_token, before)
        weights.append(model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize('checkpointing', [False, True])
def test_checkpointing_runs_each_layer_of_the_encoder_twice(checkpointing):
    model = build(vasomim_config(backbone={**BACKBONE, 'checkpointing': checkpointing})).train()
    runs = []
    for layer in model.backbone.layers:
        layer.ln1.register_forward_hook(lambda module, *_: runs.append(module))
    frames, samples = batch(2)
    model.parse_losses(model(frames, samples, mode='loss'))[0].backward()
    assert len(runs) == len(model.backbone.layers) * (2 if checkpointing else 1)
    runs.clear()
    with torch.no_grad():
        model(frames, samples, mode='predict')
    assert len(runs) == len(model.backbone.layers)  # Nothing to recompute without gradients.


@pytest.mark.parametrize('method', ['vasomim', 'vasomim_v1', 'mae', 'simmim'])
def test_pre_training_uses_the_fused_optimizer(method):
    config = load_config(f'vasomim::pretrain/{method}.py').optim_wrapper
    model = build(vasomim_config())
    options = {key: value for key, value in config.items() if key not in ('constructor', 'paramwise_cfg')}
    wrapper = LayerDecayOptimWrapperConstructor(options)(model)
    assert all(group['fused'] for group in wrapper.optimizer.param_groups)
