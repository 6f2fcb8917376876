"""Which tensors of a file are meant, by the layouts in which methods publish theirs."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.checkpoints.test_families import our_encoder, timm_vit
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.selecting import select
from vasomim.cli import main
from vasomim.errors import CheckpointError


def behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f'{prefix}{name}': tensor for name, tensor in tensors.items()}


@pytest.fixture(scope='module')
def encoder() -> dict[str, Tensor]:
    """An encoder by timm's names, without a head."""
    return dict(timm_vit(num_classes=0).state_dict())


def moco(momentum: dict[str, Tensor], base: dict[str, Tensor]) -> dict:
    return {'state_dict': behind('module.momentum_encoder.', momentum) | behind('module.base_encoder.', base)}


HEAD = {'head.mlp.0.weight': torch.ones(2, 2)}


@pytest.mark.parametrize(
    'layout',
    [
        lambda e: {'teacher': {**behind('backbone.', e), **HEAD}},
        lambda e: {'teacher': behind('module.backbone.', e), 'epoch': 3, 'args': argparse.Namespace(arch='vit')},
        lambda e: {'state_dict': behind('module.base_encoder.', e)},
        lambda e: {'model': behind('_orig_mod.', e)},
        lambda e: {'model': behind('module._orig_mod.', e)},
        lambda e: behind('encoder.', e) | {'predictor.weight': torch.ones(2)},
        lambda e: behind('model.', e),
        lambda e: {'state_dict': behind('teacher.backbone.', e) | behind('student.head.', HEAD)},
        lambda e: {'model': e, 'model_ema': e},
        lambda e: {'teacher': e, 'center': {'center': torch.ones(1)}},
        lambda e: {'model': behind('encoder.', e) | {'decoder.blocks.0.attn.qkv.weight': torch.ones(1)}},
    ],
)
def test_an_encoder_is_found_behind_what_a_method_puts_before_its_names(layout, encoder, tmp_path: Path) -> None:
    torch.save(layout(encoder), tmp_path / 'a.pth')
    torch.save(encoder, tmp_path / 'plain.pth')
    convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'a.safetensors')
    convert_checkpoint(tmp_path / 'plain.pth', tmp_path / 'plain.safetensors')
    found, expected = load_file(tmp_path / 'a.safetensors'), load_file(tmp_path / 'plain.safetensors')
    assert found.keys() == expected.keys() and all(torch.equal(found[n], t) for n, t in expected.items())
    assert our_encoder(tmp_path / 'a.pth')[1].share == 1


@pytest.mark.parametrize(
    ('layout', 'key'),
    [
        (lambda a, b: {'student': behind('backbone.', a), 'teacher': behind('backbone.', b)}, 'teacher'),
        (lambda a, b: {'student': behind('backbone.', a), 'teacher': behind('backbone.', b)}, 'teacher.backbone'),
        (moco, 'base_encoder'),
        (moco, 'module.base_encoder'),
        (lambda a, b: behind('student.', a) | behind('teacher.', b), 'teacher'),
        (lambda a, b: {'model': a, 'model_ema': b}, 'model_ema'),
    ],
)
def test_a_key_says_which_of_several_encoders_is_meant(layout, key: str, encoder, tmp_path: Path, capsys) -> None:
    first, second = encoder, {name: tensor + 1 for name, tensor in encoder.items()}
    source, target = tmp_path / 'a.pth', tmp_path / 'b.safetensors'
    torch.save(layout(first, second), source)
    if 'ema' not in key:
        assert main('convert', [str(source), str(target)]) == 2
        assert key.rpartition('.')[2] in capsys.readouterr().err or 'teacher' in key
        with pytest.raises(CheckpointError, match='--key'):
            our_encoder(source)
    assert main('convert', [str(source), str(target), '--key', key]) == 0
    assert torch.equal(load_file(target)['backbone.cls_token'], second['cls_token'])
    with pytest.raises(CheckpointError, match=r'a\.pth'):
        convert_checkpoint(source, target, key=f'{key}s.else')


def test_names_of_models_with_their_config_are_left_alone(encoder, tmp_path: Path) -> None:
    """They are built from it, whatever stands in them."""
    tensors = behind('backbone.model.', encoder)
    torch.save({'meta': {'cfg': "default_scope = 'mmseg'"}, 'state_dict': tensors}, tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth', find=True).tensors.keys() == tensors.keys()
    assert read_checkpoint(tmp_path / 'a.pth').tensors.keys() == tensors.keys()


def test_a_tensor_wrapped_and_not_is_refused() -> None:
    names = ('layer.weight', 'layer._orig_mod.weight')
    with pytest.raises(CheckpointError, match='twice'):
        select({name: torch.ones(1) for name in names}, Path('a.pth'))
    assert select({names[1]: torch.ones(1)}, Path('a.pth')).tensors.keys() == {names[0]}


@pytest.mark.parametrize('content', [[1], {}, {'a': {}}, {'a': {'b': {'c': torch.ones(1)}}}, torch.ones(2), 'text'])
def test_what_holds_no_tensors_by_name_is_refused(content) -> None:
    with pytest.raises(CheckpointError, match=r'a\.pth'):
        select(content, Path('a.pth'))
