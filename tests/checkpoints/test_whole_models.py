"""mmpretrain's models, which name their encoders as we do: the same features, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.checkpoints.test_families import ARCH, DEPTH, assert_close, frames, our_encoder, shaken, tokens
from vasomim import compat
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import main
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError
from vasomim.inference.features import FeatureExtractor, build_encoder
from vasomim.models.plain_vit import PlainViT

compat.prepare()

from mmpretrain.models.backbones import BEiTViT, DistilledVisionTransformer, VisionTransformer  # noqa: E402

LAYER_SCALE = dict(layer_scale_init_value=0.3)


def whole(backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors of a classifier around an encoder."""
    model = nn.ModuleDict({'backbone': backbone, 'head': nn.Linear(24, 5)})
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def mixed(model: nn.Module) -> nn.Module:
    """The model, with weights that no initialization gives; mmpretrain's `eval` returns nothing."""
    shaken(model)
    return model


def vit(**options) -> nn.Module:
    return mixed(VisionTransformer(ARCH, img_size=64, **{'out_type': 'raw', **options}))


def encoded(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(frames())[-1]


@pytest.mark.parametrize('options', [{}, LAYER_SCALE, {'qkv_bias': False}], ids=['plain', 'layer-scale', 'no-biases'])
def test_features_agree_with_mmpretrain(options: dict, tmp_path: Path) -> None:
    model = vit(**options)
    torch.save({'state_dict': whole(model)}, tmp_path / 'whole.pth')
    assert_close(tokens(tmp_path / 'whole.pth', frames()), encoded(model))
    encoder = build_encoder(read_checkpoint(with_heads(tmp_path, model)), 'whole')
    assert_close(encoded(encoder), encoded(model))
    for to in ('vasomim', 'timm', 'hf'):
        convert_checkpoint(tmp_path / 'whole.pth', tmp_path / f'{to}.safetensors', to)
        assert_close(tokens(tmp_path / f'{to}.safetensors', frames()), encoded(model))


def test_mmpretrain_keeps_what_only_it_can_hold(tmp_path: Path) -> None:
    options = {**LAYER_SCALE, 'pre_norm': True}
    model = vit(**options)
    torch.save({'state_dict': whole(model)}, tmp_path / 'whole.pth')
    convert_checkpoint(tmp_path / 'whole.pth', tmp_path / 'again.pth', 'mmpretrain')
    state = torch.load(tmp_path / 'again.pth')['state_dict']
    again = vit(**options)
    again.load_state_dict({name.removeprefix('backbone.'): tensor for name, tensor in state.items()})
    assert torch.equal(encoded(again), encoded(model))


def with_heads(folder: Path, model: nn.Module) -> Path:
    save_weights(whole(model), folder / 'heads.safetensors', num_heads='3')
    return folder / 'heads.safetensors'


def test_what_was_folded_is_said_and_its_config_left_out(tmp_path: Path, capsys) -> None:
    config = f"model = dict(backbone=dict(type='VisionTransformer', arch={ARCH!r}, layer_scale_init_value=0.3))"
    torch.save({'state_dict': whole(vit(**LAYER_SCALE)), 'meta': {'cfg': config}}, tmp_path / 'whole.pth')
    assert main('convert', [str(tmp_path / 'whole.pth'), str(tmp_path / 'ours.safetensors')]) == 0
    assert f'LayerScale was multiplied into the projections before it ({2 * DEPTH} times)' in capsys.readouterr().out
    assert not any('gamma' in name for name in load_file(tmp_path / 'ours.safetensors'))
    assert read_checkpoint(tmp_path / 'ours.safetensors').config is None
    convert_checkpoint(tmp_path / 'whole.pth', tmp_path / 'same.safetensors', 'mmpretrain')
    assert read_checkpoint(tmp_path / 'same.safetensors').config == config


@pytest.mark.parametrize(
    ('model', 'word'),
    [
        (lambda: vit(pre_norm=True), 'pre_norm'),
        (lambda: mixed(DistilledVisionTransformer(ARCH, img_size=64)), 'dist_token'),
        (lambda: vit(out_type='avg_featmap'), 'ln2'),
        (lambda: mixed(BEiTViT(ARCH, img_size=64, patch_size=16)), 'BEiT'),
    ],
    ids=['pre-norm', 'distilled', 'pooled', 'beit'],
)
def test_what_a_plain_vit_cannot_hold_is_refused(model, word: str, tmp_path: Path) -> None:
    torch.save({'state_dict': whole(model())}, tmp_path / 'whole.pth')
    for read in (
        lambda path: our_encoder(path),
        lambda path: FeatureExtractor(path),
        lambda path: convert_checkpoint(path, tmp_path / 'ours.safetensors'),
    ):
        with pytest.raises(CheckpointError, match=word):
            read(tmp_path / 'whole.pth')
    assert not (tmp_path / 'ours.safetensors').exists()


def test_beit_is_known_by_the_names_of_each_library(tmp_path: Path) -> None:
    timm = pytest.importorskip('timm')
    transformers = pytest.importorskip('transformers')
    config = transformers.BeitConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=64,
        use_relative_position_bias=True,
    )
    models = {
        'timm': timm.models.Beit(
            img_size=64, embed_dim=24, depth=2, num_heads=3, init_values=0.1, use_rel_pos_bias=True
        ),
        'shared': timm.models.Beit(img_size=64, embed_dim=24, depth=2, num_heads=3, use_shared_rel_pos_bias=True),
        'hf': transformers.BeitModel(config),
        'mmpretrain': BEiTViT(ARCH, img_size=64, patch_size=16),
    }
    for model in models.values():
        torch.save(model.state_dict(), tmp_path / 'beit.pth')
        with pytest.raises(CheckpointError, match='BEiT'):
            our_encoder(tmp_path / 'beit.pth')


def test_a_deeper_encoder_is_not_cut_to_fit(tmp_path: Path) -> None:
    save_weights(whole(vit()), tmp_path / 'deep.safetensors')
    shallow = PlainViT(arch={**ARCH, 'num_layers': DEPTH - 1}, img_size=64)
    before = shallow.cls_token.clone()
    with pytest.raises(CheckpointError, match=rf'layers\.{DEPTH - 1}\.'):
        load_encoder(shallow, tmp_path / 'deep.safetensors')
    assert torch.equal(shallow.cls_token, before)


def test_an_encoder_that_is_no_vit_is_converted_as_it_is(tmp_path: Path) -> None:
    tensors = {'backbone.stem.weight': torch.ones(3), 'backbone.stages.0.0.pre_norm.weight': torch.ones(2)}
    torch.save({'state_dict': tensors}, tmp_path / 'other.pth')
    convert_checkpoint(tmp_path / 'other.pth', tmp_path / 'other.safetensors')
    assert load_file(tmp_path / 'other.safetensors').keys() == tensors.keys()
