"""The number of heads, which no tensor shows and all features depend on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.checkpoints.test_families import ARCH, HEADS, WIDTH, assert_close, frames, hf, published, timm_vit
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.writing import save_weights
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError
from vasomim.inference.features import build_encoder
from vasomim.models.plain_vit import PlainViT

OTHER = 2 * HEADS


def features(path: Path) -> Tensor:
    with torch.no_grad():
        return build_encoder(read_checkpoint(path, find=True), path)(frames())[-1]


def test_the_config_beside_a_file_of_transformers_says_the_heads(tmp_path: Path) -> None:
    for heads in (HEADS, OTHER):
        model = hf('ViTModel', num_attention_heads=heads, layer_norm_eps=1e-6)
        path = published(model, tmp_path / str(heads))
        with torch.no_grad():
            assert_close(features(path), model(frames()).last_hidden_state)
    assert (features(path) - features(tmp_path / str(HEADS) / 'model.safetensors')).abs().max() > 0.01


@pytest.mark.parametrize('key', ['model_args', 'vision_config'])
def test_the_config_of_timm_or_of_a_part_says_the_heads(key: str, tmp_path: Path) -> None:
    model = timm_vit(num_heads=OTHER)
    save_weights(model.state_dict(), tmp_path / 'model.safetensors')
    part = {'num_heads': OTHER} if key == 'model_args' else {'num_attention_heads': OTHER, 'hidden_size': WIDTH}
    content = {'architecture': 'vit_small_patch16_224', 'num_features': WIDTH, key: part}
    (tmp_path / 'config.json').write_text(json.dumps(content))
    with torch.no_grad():
        assert_close(features(tmp_path / 'model.safetensors'), model.forward_features(frames()))


def test_heads_go_with_a_conversion(tmp_path: Path) -> None:
    model = hf('ViTModel', num_attention_heads=OTHER, layer_norm_eps=1e-6)
    path = published(model, tmp_path / 'there')
    with torch.no_grad():
        expected = model(frames()).last_hidden_state
    for name in ('ours.safetensors', 'ours.pth'):
        done = convert_checkpoint(path, tmp_path / name)
        assert any(str(OTHER) in note for note in done.notes)
        assert_close(features(tmp_path / name), expected)
    convert_checkpoint(tmp_path / 'ours.pth', tmp_path / 'timm.safetensors', 'timm')
    assert_close(features(tmp_path / 'timm.safetensors'), expected)


def test_an_encoder_of_other_heads_is_not_loaded(tmp_path: Path) -> None:
    path = published(hf('ViTModel', num_attention_heads=OTHER), tmp_path / 'there')
    encoder = PlainViT(arch=ARCH, img_size=64)
    before = encoder.cls_token.clone()
    with pytest.raises(CheckpointError, match=rf'{OTHER} heads.*{HEADS}'):
        load_encoder(encoder, path)
    assert torch.equal(encoder.cls_token, before)
    assert load_encoder(PlainViT(arch={**ARCH, 'num_heads': OTHER}, img_size=64), path).notes == []
    (path.parent / 'config.json').unlink()
    assert any(str(HEADS) in note for note in load_encoder(encoder, path).notes)


@pytest.mark.parametrize(
    ('backbone', 'heads'),
    [
        (dict(type='MaskedViT', arch={**ARCH, 'num_heads': OTHER}), OTHER),
        (dict(type='mmpretrain.VisionTransformer', arch={**ARCH, 'num_heads': HEADS}), HEADS),
        (dict(type='SomeoneElses', arch='small'), None),
    ],
)
def test_the_config_in_a_file_wins_over_one_beside_it(backbone: dict, heads: int | None, tmp_path: Path) -> None:
    tensors = {f'backbone.{n}': t for n, t in PlainViT(arch=ARCH, img_size=64).state_dict().items()}
    torch.save({'state_dict': tensors, 'meta': {'cfg': f'model = {dict(backbone=backbone)!r}'}}, tmp_path / 'a.pth')
    (tmp_path / 'config.json').write_text(json.dumps({'num_attention_heads': 12}))
    if heads is None:
        with pytest.raises(CheckpointError, match='no known size'):
            features(tmp_path / 'a.pth')
    else:
        encoder = build_encoder(read_checkpoint(tmp_path / 'a.pth'), tmp_path / 'a.pth')
        assert encoder.layers[0].attn.num_heads == heads


def test_sizes_of_our_names_and_of_mmpretrains_differ(tmp_path: Path) -> None:
    """Its 'small' has 8 heads on another width; the heads of ours are 6."""
    encoder = PlainViT(arch={'embed_dims': 384, 'num_layers': 1, 'num_heads': 6, 'feedforward_channels': 8})
    for kind, heads in (('PlainViT', 6), ('VisionTransformer', 8)):
        config = f'model = dict(backbone=dict(type={kind!r}, arch="small"))'
        torch.save({'state_dict': encoder.state_dict(), 'meta': {'cfg': config}}, tmp_path / 'a.pth')
        if heads == 6:
            assert load_encoder(encoder, tmp_path / 'a.pth').notes == []
        else:
            with pytest.raises(CheckpointError, match='8 heads'):
                load_encoder(encoder, tmp_path / 'a.pth')


@pytest.mark.parametrize('content', ['{', '[]', '{"num_attention_heads": 5}', '{"num_attention_heads": "x"}', '\xff'])
def test_a_damaged_config_beside_a_file_is_named(content: str, tmp_path: Path) -> None:
    save_weights(timm_vit().state_dict(), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_bytes(content.encode('latin-1'))
    with pytest.raises(CheckpointError, match=r'config\.json'):
        features(tmp_path / 'model.safetensors')


def test_a_config_of_a_model_of_another_width_is_not_its_own(tmp_path: Path) -> None:
    save_weights(timm_vit().state_dict(), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps({'num_attention_heads': 12, 'hidden_size': 768}))
    assert load_encoder(PlainViT(arch=ARCH, img_size=64), tmp_path / 'model.safetensors').notes
