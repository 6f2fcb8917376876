"""Numbers that no training can start with are refused by their keys, before or when the model is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vasomim.apis.configs import load_config
from vasomim.engine.sizes import check_built
from vasomim.errors import ConfigError
from vasomim.registry import MODELS

PRETRAINING = 'vasomim::pretrain/vasomim.py'
SHAPE: dict[str, Any] = dict(embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=48)


@pytest.mark.parametrize(
    ('key', 'values'),
    [
        ('train_cfg.max_epochs', (0, -1, 1.5)),
        ('train_cfg.val_interval', (0, -1)),
        ('train_cfg.val_begin', (-3,)),
        ('train_dataloader.batch_size', (0, -2, 2.5)),
        ('val_dataloader.batch_size', (0,)),
        ('train_dataloader.num_workers', (-1, 1.5)),
        ('train_dataloader.prefetch_factor', (0,)),
        ('randomness.seed', (-1, 2**32, 0.5)),
        ('optim_wrapper.accumulative_counts', (0,)),
        ('optim_wrapper.optimizer.lr', (-1, 'nan', 'inf')),
        ('auto_scale_lr.base_batch_size', (0,)),
        ('model.backbone.img_size', (0,)),
        ('model.backbone.patch_size', (0, -16)),
        ('model.backbone.drop_path_rate', (1, -0.1, '[0,1]')),
        ('model.neck.decoder_embed_dim', (15, 0)),
        ('model.neck.decoder_num_heads', (0,)),
        ('model.neck.decoder_depth', (0,)),
    ],
)
def test_out_of_range(key, values):
    for value in values:
        with pytest.raises(ConfigError) as caught:
            load_config(PRETRAINING, [f'{key}={value}'])
        assert key in caught.value.what or key in str(caught.value.where), value


@pytest.mark.parametrize('key', ['randomness.seed=0', f'randomness.seed={2**32 - 1}', 'optim_wrapper.optimizer.lr=0'])
def test_the_ends_of_a_range_belong_to_it(key):
    load_config(PRETRAINING, [key])


@pytest.mark.parametrize(
    'option', ['val_dataloader', 'val_cfg', 'train_cfg', 'optim_wrapper', 'model', 'train_dataloader.dataset']
)
def test_parts_that_belong_together(option):
    with pytest.raises(ConfigError) as caught:
        load_config(PRETRAINING, [f'{option}=None'])
    assert option in caught.value.what


def test_without_validation():
    cfg = load_config(PRETRAINING, ['val_dataloader=None', 'val_cfg=None', 'val_evaluator=None'])
    assert cfg.val_dataloader is None


@pytest.mark.parametrize('value', ["'null'", '0.5', "['a']"])
def test_a_loader_that_is_no_section_in_the_file(tmp_path: Path, value):
    (tmp_path / 'some.py').write_text(f"_base_ = '{PRETRAINING}'\nval_dataloader = {value}\n")
    with pytest.raises(ConfigError):
        load_config(str(tmp_path / 'some.py'))


def model(**changes: dict) -> Any:
    parts: dict[str, Any] = dict(
        backbone=dict(type='MaskedViT', arch=SHAPE, img_size=64),
        neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2),
        head=dict(type='ReconstructionHead'),
        masking=dict(type='AnatomyMasking', ratio=0.5, start=0.0, end=0.5),
        segmentor=dict(type='UNeXt'),
    )
    for part, change in changes.items():
        parts[part] = {**parts[part], **change}
    return MODELS.build(dict(type='VasoMIM', **parts))


def test_a_sound_model_passes():
    check_built(model())


@pytest.mark.parametrize(
    ('changes', 'word'),
    [
        (dict(backbone=dict(arch=dict(SHAPE, num_heads=5))), 'num_heads'),
        (dict(neck=dict(decoder_num_heads=3)), 'num_heads'),
        (dict(backbone=dict(patch_size=15)), 'patch_size'),
        (dict(backbone=dict(arch=dict(SHAPE, embed_dims=30))), 'embed_dims'),
        (dict(masking=dict(ratio=0.999)), 'ratio'),
    ],
)
def test_a_model_whose_parts_do_not_fit(changes, word):
    with pytest.raises(ConfigError) as caught:
        check_built(model(**changes))
    assert word in str(caught.value)
