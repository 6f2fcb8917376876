"""One encoder, three libraries: the features of a checkpoint of any family are equal in mmpretrain, mmseg and mmdet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from tests.inference.test_features import timm_names
from tests.models.builders import ARCH, build, vasomim_config
from vasomim import compat
from vasomim.apis.configs import load_config
from vasomim.checkpoints.writing import save_weights
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError

compat.prepare()

from mmpretrain.models.backbones import VisionTransformer  # noqa: E402


@pytest.fixture(scope='module')
def pretrained() -> torch.nn.Module:
    """A whole VasoMIM, encoder, decoder and segmentor, with weights that are not those of any initialization."""
    model = build(vasomim_config(), seed=3)
    with torch.no_grad():
        for tensor in model.backbone.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.05)
    return model


def write(family: str, model: torch.nn.Module, folder: Path) -> Path:
    encoder = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    if family == 'mae':  # As MAE's authors: timm's names, the decoder beside.
        torch.save({'model': {**timm_names(encoder), 'mask_token': torch.zeros(1, 1, 16)}}, folder / 'mae.pth')
        return folder / 'mae.pth'
    if family == 'run':  # As mmengine writes it.
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / 'epoch_1.pth')
        (folder / 'last_checkpoint').write_text('/moved/away/epoch_1.pth')
        return folder
    save_weights(encoder, folder / 'encoder.safetensors')
    return folder / 'encoder.safetensors'


def downstream(config: str) -> torch.nn.Module:
    cfg = load_config(f'vasomim::downstream/{config}.py')
    cfg.model.backbone.update(arch=ARCH, img_size=64, out_indices=(1,))
    if 'segmentation' in config:
        cfg.model.backbone.out_indices = (0, 0, 0, 1)
        cfg.model.decode_head.widths = (16, 8, 8, 8, 8)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.eval()
    return model


@pytest.mark.parametrize('family', ['mae', 'run', 'safetensors'])
def test_features_are_equal_in_the_three_libraries(family, pretrained, tmp_path):
    source = write(family, pretrained, tmp_path)
    reference = VisionTransformer(ARCH, img_size=64, out_type='featmap')
    reference.load_state_dict(pretrained.backbone.state_dict())
    reference.eval()
    frames = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(frames)[-1]
        for config in ('arcade_v/segmentation', 'arcade_s/detection'):
            model = downstream(config)
            before = model.backbone(frames)[-1]
            assert (before - expected).abs().max() > 1e-2  # So that equality below is the work of the load.
            report = load_encoder(model.backbone, source)
            assert report.share == 1.0 and not report.missing and not report.mismatched
            torch.testing.assert_close(model.backbone(frames)[-1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(('lacking', 'refused'), [(1, False), (2, True)])
def test_fewer_than_95_percent_of_the_tensors_are_refused(lacking, refused, pretrained, tmp_path):
    tensors = pretrained.backbone.state_dict()
    assert 0.95 > 1 - 2 / len(tensors) > 0.9 and 1 - 1 / len(tensors) > 0.95  # 30 tensors: one may lack, two may not.
    names = [name for name in sorted(tensors) if name.startswith('layers.')][:lacking]
    kept = {f'backbone.{name}': tensor for name, tensor in tensors.items() if name not in names}
    save_weights(kept, tmp_path / 'part.safetensors')
    model = downstream('arcade_v/segmentation')
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    if not refused:
        assert len(load_encoder(model.backbone, tmp_path / 'part.safetensors').missing) == lacking
        return
    with pytest.raises(CheckpointError, match='2 missing'):
        load_encoder(model.backbone, tmp_path / 'part.safetensors')
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())


@pytest.mark.parametrize('name', ['patch_embed.projection.weight', 'cls_token', 'pos_embed'])
def test_an_encoder_without_one_of_the_few_that_all_rests_on_is_refused(name, pretrained, tmp_path):
    kept = {f'backbone.{key}': tensor for key, tensor in pretrained.backbone.state_dict().items() if key != name}
    save_weights(kept, tmp_path / 'part.safetensors')
    with pytest.raises(CheckpointError, match=f'its {name} is missing, where the model has'):
        load_encoder(downstream('arcade_v/segmentation').backbone, tmp_path / 'part.safetensors')
