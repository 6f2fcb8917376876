"""Parameter groups of a ViT named as mmpretrain names it."""

from __future__ import annotations

import pytest
from mmpretrain.models import VisionTransformer
from torch import nn

from vasomim.engine import LayerDecayOptimWrapperConstructor
from vasomim.errors import ConfigError

ARCH = {'embed_dims': 24, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 48}
LAYER = ['attn.proj', 'attn.qkv', 'ffn.layers.0.0', 'ffn.layers.1']
NORMS = ['ln1', 'ln2']


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = VisionTransformer(ARCH, img_size=32, patch_size=16, frozen_stages=-1)
        self.backbone.pos_embed.requires_grad = False
        self.head = nn.Linear(24, 2)
        self.segmentor = nn.Conv2d(3, 1, 1).requires_grad_(False)


def groups(model: nn.Module, **options: object) -> dict[str, dict]:
    config = {
        'type': 'OptimWrapper',
        'accumulative_counts': 2,
        'optimizer': {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.05},
    }
    wrapper = LayerDecayOptimWrapperConstructor(config, options)(model)
    assert wrapper._accumulative_counts == 2
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        group['name']: {**group, 'params': sorted(names[id(parameter)] for parameter in group['params'])}
        for group in wrapper.optimizer.param_groups
    }
    assert len(found) == len(wrapper.optimizer.param_groups)
    return found


def test_without_layer_decay_there_are_two_groups():
    found = groups(Classifier())
    assert list(found) == ['all', 'all_no_decay']
    layers = [f'backbone.layers.{index}.{part}' for index in range(3) for part in LAYER]
    weights = [f'{name}.weight' for name in [*layers, 'backbone.patch_embed.projection', 'head']]
    assert found['all']['params'] == sorted([*weights, 'backbone.cls_token'])
    norms = [f'backbone.layers.{index}.{norm}' for index in range(3) for norm in NORMS] + ['backbone.ln1']
    biases = [name.replace('.weight', '.bias') for name in weights]
    assert found['all_no_decay']['params'] == sorted(
        [f'{norm}.{kind}' for norm in norms for kind in ('weight', 'bias')] + biases
    )
    assert (found['all']['weight_decay'], found['all_no_decay']['weight_decay']) == (0.05, 0.0)
    assert found['all']['lr'] == found['all_no_decay']['lr'] == 0.1


def test_frozen_parameters_are_in_no_group():
    model = Classifier()
    trained = {name for group in groups(model).values() for name in group['params']}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert 'backbone.pos_embed' not in trained and 'segmentor.weight' not in trained


def test_each_layer_learns_slower_than_the_one_behind_it():
    found = groups(Classifier(), layer_decay=0.5)
    # Embedding 0, layers 1 to 3, head and last norm 4: the config's rate at the head, half of it per layer in front.
    expected = {'layer_4': 0.1, 'layer_3': 0.05, 'layer_2': 0.025, 'layer_1': 0.0125, 'layer_0': 0.00625}
    assert list(found) == [name + tail for name in expected for tail in ('', '_no_decay')]
    for name, rate in expected.items():
        assert found[name]['lr'] == found[f'{name}_no_decay']['lr'] == pytest.approx(rate)
    assert found['layer_0']['params'] == ['backbone.cls_token', 'backbone.patch_embed.projection.weight']
    assert found['layer_2']['params'] == sorted(f'backbone.layers.1.{part}.weight' for part in LAYER)
    assert found['layer_4']['params'] == ['head.weight']
    assert found['layer_4_no_decay']['params'] == ['backbone.ln1.bias', 'backbone.ln1.weight', 'head.bias']


@pytest.mark.parametrize('names', ['cls_token', ['cls_token']])
def test_named_parameters_are_spared_from_decay(names):
    found = groups(Classifier(), no_decay=names)
    assert 'backbone.cls_token' in found['all_no_decay']['params']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'layer_decy': 0.7}, r"paramwise_cfg.layer_decy: there is no such option. Did you mean 'layer_decay'\?"),
        ({'layer_decay': 0.0}, r'0\.0 is not in \(0, 1\]'),
        ({'layer_decay': 1.5}, r'1\.5 is not in \(0, 1\]'),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        groups(Classifier(), **options)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ConfigError, match='no trainable parameter'):
        groups(Classifier().requires_grad_(False))
