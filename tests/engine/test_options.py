"""Options of the command line are compared with what they replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

import vasomim.data
import vasomim.models  # noqa: F401 - registers
from vasomim.apis.configs import load_config, parse_options
from vasomim.engine.options import merge_options
from vasomim.errors import ConfigError

CONFIG = """
default_scope = 'mmpretrain'
data_root = 'data/mine'
side = 4
crop = [dict(type='LoadAngiogram'), dict(type='PairedResizedCrop', size=64, scale=(0.2, 1.0))]
unread = [dict(type='LoadAngiogram')]
mine = dict(anything=[1, 2])
model = dict(
    type='MAE',
    backbone=dict(type='PlainViT', arch='tiny', img_size=64),
    masking=dict(type='UniformMasking', ratio=0.5),
    guided=True)
train_dataloader = dict(
    batch_size=4, dataset=dict(type='AngiogramFolder', data_root=data_root, pipeline=crop, sources=['a', 'b']))
val_dataloader = dict(batch_size=4, dataset=dict(type='AngiogramFolder', data_root=data_root, pipeline=crop))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95)), clip_grad=None)
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / 'some.py').write_text(CONFIG)
    return Config.fromfile(tmp_path / 'some.py')


@pytest.mark.parametrize(
    'option',
    [
        'model.masking.ratio=0,6',  # A comma for a decimal point.
        'model.backbone.drop_path_rate=0,1',  # The same where only the class knows that it takes a number.
        'optim_wrapper.optimizer.lr=5E-4,',
        'optim_wrapper.optimizer.lr=fast',
        'optim_wrapper.optimizer.betas=0.9',
        'model.guided=maybe',
        'model.guided=1',
        'model.masking.ratio=True',
        'val_dataloader=null',
        'model.masking=0.5',
        'train_dataloader.dataset.sources=a',
        'train_dataloader.dataset.data_root=data/a,b',
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(config, option):
    with pytest.raises(ConfigError) as caught:
        merge_options(config, parse_options([option]))
    assert str(caught.value.where) == f'--cfg-options {option.partition("=")[0]}'


def test_null_is_answered_with_none(config):
    with pytest.raises(ConfigError) as caught:
        merge_options(config, parse_options(['val_dataloader=null']))
    assert 'val_dataloader=None' in caught.value.cure


@pytest.mark.parametrize(
    ('option', 'merged'),
    [
        ('train_dataloader.dataset.pipeline.1.scale=[0.5,1]', (0.5, 1)),  # A tuple, as it was: mmcv asks for one.
        ('train_dataloader.dataset.pipeline.1.size=[64,32]', (64, 32)),
        ('train_dataloader.dataset.pipeline.1.size=32', 32),
        ('train_dataloader.dataset.sources=[c]', ['c']),
        ('optim_wrapper.optimizer.betas=(0.8,0.9)', (0.8, 0.9)),
        ('optim_wrapper.optimizer.lr=1', 1),
        ('optim_wrapper.clip_grad.max_norm=2', 2),
        ('model.backbone.arch=base', 'base'),
        ('model.backbone.out_indices=[0,1]', [0, 1]),
        ('model.masking=None', None),
        ('mine.anything=[3]', [3]),
        ('side=5', 5),
    ],
)
def test_what_fits_is_merged(config, option, merged):
    path = option.partition('=')[0]
    if path == 'optim_wrapper.clip_grad.max_norm':
        config.optim_wrapper.clip_grad = dict(max_norm=1.0)
    merge_options(config, parse_options([option]))
    value: Any = config
    for part in path.split('.'):
        value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
    assert value == merged and type(value) is type(merged)


@pytest.mark.parametrize(
    ('option', 'places'),
    [
        (
            'crop.1.size=32',
            ('train_dataloader.dataset.pipeline.1.size=', 'val_dataloader.dataset.pipeline.1.size='),
        ),
        ('data_root=other', ('train_dataloader.dataset.data_root=', 'val_dataloader.dataset.data_root=')),
        ('unread.0.type=LoadAnatomy', ()),
    ],
)
def test_an_option_on_a_variable_that_was_copied_names_the_copies(config, option, places):
    with pytest.raises(ConfigError) as caught:
        merge_options(config, parse_options([option]))
    assert all(place in caught.value.cure for place in places)


@pytest.mark.parametrize(
    ('part', 'value', 'kind'),
    [('segmentor', 'weights=a.safetensors', 'UNeXt'), ('guidance', 'eta=0.3', 'VesselGuidance')],
)
def test_a_value_of_a_part_that_the_model_lacks_is_refused(part: str, value: str, kind: str) -> None:
    option = f'model.{part}.{value}'
    with pytest.raises(ConfigError, match=part):
        load_config('vasomim::pretrain/mae.py', [option])
    given = load_config('vasomim::pretrain/mae.py', [option, f'model.{part}.type={kind}'])
    there = load_config('vasomim::pretrain/vasomim.py', [option])
    assert given.model[part].type == there.model[part].type == kind
