"""DINOv3's encoder beside transformers' own, with its weights through the same door as a user's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from safetensors.torch import save_file

from vasomim import models  # noqa: F401  registers the models
from vasomim.apis.configs import load_config
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError, ConfigError
from vasomim.models.plain_vit import PlainViT
from vasomim.models.rotary_vit import RotaryViT, rotary_angles, turn

transformers = pytest.importorskip('transformers')
ARCH = {'embed_dims': 48, 'num_layers': 3, 'num_heads': 3, 'feedforward_channels': 80}


def dinov3(**options):
    torch.manual_seed(0)
    size = {'hidden_size': 48, 'num_hidden_layers': 3, 'num_attention_heads': 3, 'intermediate_size': 80}
    model = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**{**size, 'num_register_tokens': 4, 'image_size': 64, **options})
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # Its own initialization leaves much at zero or one.
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def stored(model: torch.nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def published(model: torch.nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder / 'model.safetensors'


def rotary(**options) -> RotaryViT:
    model = RotaryViT(arch=ARCH, img_size=64, **options)
    model.eval()  # mmpretrain's does not return the model.
    return model


@pytest.mark.parametrize('options', [{}, {'key_bias': True}, {'num_register_tokens': 1}])
@pytest.mark.parametrize('file', [stored, published])
def test_features_agree_with_transformers(options, file, tmp_path):
    theirs = dinov3(**options)
    ours = rotary(registers=options.get('num_register_tokens', 4))
    report = load_encoder(ours, file(theirs, tmp_path / 'dinov3.safetensors'))
    assert report.share == 1
    frames = torch.randn(2, 3, 48, 96)  # Neither the size of its configuration nor a square.
    with torch.no_grad():
        expected = theirs(frames).last_hidden_state[:, ours.num_extra_tokens :]
        (found,) = ours(frames)[-1:]
    assert found.shape == (2, 48, 3, 6)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


def test_channels_turn_as_complex_numbers_do():
    angles = rotary_angles((2, 3), 8, 100.0, 'cpu')
    assert angles.shape == (6, 4)
    # The first patch of two rows and three columns lies at (-1/2, -2/3); wavelengths are 1 and 10.
    expected = 2 * torch.pi * torch.tensor([-1 / 2, -1 / 20, -2 / 3, -2 / 30])
    torch.testing.assert_close(angles[0], expected)
    tokens = torch.randn(1, 2, 8, 8)
    turned = turn(tokens, angles)
    assert torch.equal(turned[:, :, :2], tokens[:, :, :2])
    numbers = torch.complex(*tokens[:, :, 2:].chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(turned[:, :, 2:], torch.cat((numbers.real, numbers.imag), dim=-1))


def test_rotary_and_learned_positions_are_not_taken_for_each_other(tmp_path):
    file = stored(dinov3(), tmp_path / 'dinov3.safetensors')
    plain = PlainViT(arch=ARCH, img_size=64)
    with pytest.raises(CheckpointError, match=r'rotary positions.*\n.*model\.backbone\.type=mmpretrain\.RotaryViT'):
        load_encoder(plain, file)
    own = {f'backbone.{name}': tensor for name, tensor in rotary().state_dict().items()}
    save_file(own, tmp_path / 'fine_tuned.safetensors')
    with pytest.raises(CheckpointError, match='it holds register tokens and rotary positions, unlike this PlainViT'):
        load_encoder(plain, tmp_path / 'fine_tuned.safetensors')
    assert load_encoder(rotary(), tmp_path / 'fine_tuned.safetensors').share == 1
    stored(plain, tmp_path / 'plain.safetensors')
    with pytest.raises(CheckpointError, match='it holds no register tokens and learned positions, unlike this Rotary'):
        load_encoder(rotary(), tmp_path / 'plain.safetensors')
    with pytest.raises(CheckpointError, match='rotary positions'):
        convert_checkpoint(file, tmp_path / 'ours.safetensors')


def test_what_it_cannot_hold_is_refused(tmp_path):
    gated = stored(dinov3(use_gated_mlp=True), tmp_path / 'gated.safetensors')
    with pytest.raises(CheckpointError, match='gate_proj'):
        read_checkpoint(gated, rotary=True)
    with pytest.raises(ConfigError, match='RotaryViT attends globally'):
        rotary(window_size=4)


def test_a_downstream_config_takes_it(tmp_path):
    options = ['model.backbone.type=mmpretrain.RotaryViT', 'model.decode_head.widths=[16,16,8,8,8]']
    config = load_config('vasomim::downstream/arcade_v/segmentation.py', options)
    config.model.backbone.arch = ARCH
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
    model.init_weights()
    load_encoder(model.backbone, stored(dinov3(), tmp_path / 'dinov3.safetensors'))
    logits = model(torch.randn(1, 3, 64, 64), None, mode='tensor')
    logits.sum().backward()
    assert model.backbone.register_tokens.grad.abs().sum() > 0
