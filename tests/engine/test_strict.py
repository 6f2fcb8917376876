"""Misspelled keys and types are found, with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from torch import nn

import vasomim.models  # noqa: F401 - registers
from vasomim.engine.reading import read_config
from vasomim.engine.strict import check_config, check_options, keys_of, unexpected_key
from vasomim.errors import ConfigError
from vasomim.registry import TRANSFORMS

CONFIG = """
_helper = 3
anything = dict(at='all')
default_scope = 'mmpretrain'
model = dict(
    type='VasoMIM',
    backbone=dict(type='MaskedViT', arch='tiny', img_size=64, patch_size=16, drop_rate=0.1),
    neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=32),
    head=dict(type='ReconstructionHead'),
    masking=dict(type='AnatomyMasking', ratio=0.5),
    segmentor=dict(type='UNeXt'))
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    dataset=dict(type='CustomDataset', data_root='x', pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='RandomApply', transforms=[dict(type='RandomFlip', prob=0.5)], prob=0.5)]),
    sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(by_epoch=True, max_epochs=3)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(type='value', clip_value=1))
default_hooks = dict(figures=dict(type='ReconstructionFigureHook', interval=3, priority='LOW'))
custom_hooks = [dict(type='SkippedFramesHook')]
auto_scale_lr = dict(enable=True, base_batch_size=256)
"""


@pytest.fixture
def config(tmp_path: Path):
    """Read the config with one piece of text replaced."""

    def read(old: str = '', new: str = '') -> Config:
        assert old in CONFIG
        path = tmp_path / 'some.py'
        path.write_text(CONFIG.replace(old, new, 1))
        return Config.fromfile(path)

    return read


def test_a_right_config_passes(config):
    check_config(config())


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('ratio=', 'ratoi=', "model.masking.ratoi: there is no such key. Did you mean 'ratio'?"),
        ('segmentor=', 'segmentr=', "model.segmentr: there is no such key. Did you mean 'segmentor'?"),
        ('drop_rate', 'drop_raet', "model.backbone.drop_raet: there is no such key. Did you mean 'drop_rate'?"),
        (
            'interval=3',
            'intervall=3',
            "default_hooks.figures.intervall: there is no such key. Did you mean 'interval'?",
        ),
        ("'SkippedFramesHook'", "'SkippedFramesHook', path=1", 'custom_hooks.0.path: there is no such key.'),
        ('batch_size=4', 'batchsize=4', "train_dataloader.batchsize: there is no such key. Did you mean 'batch_size'?"),
        ('max_epochs', 'max_epoch', "train_cfg.max_epoch: there is no such key. Did you mean 'max_epochs'?"),
        (
            'base_batch_size',
            'base_batch',
            "auto_scale_lr.base_batch: there is no such key. Did you mean 'base_batch_size'?",
        ),
        ("'VasoMIM'", "'VasoMin'", "model.type: 'VasoMin' is not registered. Did you mean 'VasoMIM'?"),
        ("'MaskedViT'", "'MaskedVit'", "model.backbone.type: 'MaskedVit' is not registered. Did you mean 'MaskedViT'?"),
        ("'AdamW'", "'AdmaW'", "optim_wrapper.optimizer.type: 'AdmaW' is not registered. Did you mean 'AdamW'?"),
        (
            "'LoadImageFromFile'",
            "'LoadImageFromFil'",
            "train_dataloader.dataset.pipeline.0.type: 'LoadImageFromFil' is not registered. Did you mean",
        ),
        (
            "'RandomFlip'",
            "'RandmFlip'",
            "train_dataloader.dataset.pipeline.1.transforms.0.type: 'RandmFlip' is not registered.",
        ),
        (
            "'SkippedFramesHook'",
            "'SkippedFrameHook'",
            "custom_hooks.0.type: 'SkippedFrameHook' is not registered. Did you mean 'SkippedFramesHook'?",
        ),
    ],
)
def test_a_slip_is_named_with_its_place_and_file(config, tmp_path, old, new, message):
    with pytest.raises(ConfigError) as caught:
        check_config(config(old, new))
    assert str(caught.value).startswith(f'{tmp_path}/some.py: {message}')


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        (
            "dict(type='LoadImageFromFile')",
            "dict(type='LoadImageFromFile', imdecode_backnd='cv2')",
        ),  # a library's class
        ("clip_grad=dict(type='value'", "clip_grad=dict(type='norm'"),  # a `type` that no registry knows
        (
            "default_scope = 'mmpretrain'",
            "default_scope = 'mmpretrain'\nmasker = dict(type='AnatomyMasking', ratoi=0)",
        ),  # variables are free
    ],
)
def test_what_is_not_ours_is_left_to_its_library(config, old, new):
    check_config(config(old, new))


def test_our_classes_are_checked_in_configs_of_other_libraries(tmp_path):
    path = tmp_path / 'other.py'
    path.write_text("default_scope = 'mmengine'\nmodel = dict(type='mmpretrain.UNeXt', chanels=3)\n")
    with pytest.raises(ConfigError, match=r'model\.chanels: there is no such key'):
        check_config(Config.fromfile(path))


def test_mixed_precision_can_be_written_into_a_config(config):
    wrapper = "optim_wrapper = dict(\n    type='OptimWrapper'"
    own = "optim_wrapper = dict(\n    type='AutocastOptimWrapper', constructor='LayerDecayOptimWrapperConstructor'"
    check_config(config(wrapper, own))
    with pytest.raises(ConfigError, match=r'optim_wrapper\.constructer: there is no such key'):
        check_config(config(wrapper, own.replace('constructor', 'constructer')))


@pytest.mark.parametrize('key', ['max_iters', 'by_epoch', 'constructor'])
def test_a_loop_of_ours_takes_its_own_keys_and_not_those_of_another(config, key):
    check_config(config('train_cfg = dict(by_epoch=True, max_epochs=3)', "train_cfg = dict(type='ResumableTrainLoop')"))
    wrong = f"train_cfg = dict(type='ResumableTrainLoop', max_epochs=3, {key}=5)"
    with pytest.raises(ConfigError, match=rf'train_cfg\.{key}: there is no such key'):
        check_config(config('train_cfg = dict(by_epoch=True, max_epochs=3)', wrong))


@pytest.mark.parametrize(
    'option',
    [
        'model.masking.ratio',
        'model.masking.start',
        'train_dataloader.dataset.pipeline.1.prob',
        'train_cfg.max_epochs',
        'train_cfg.val_begin',
        'train_dataloader.prefetch_factor',
        'optim_wrapper.accumulative_counts',
        'optim_wrapper.clip_grad.max_norm',
        'optim_wrapper.optimizer.fused',
        'randomness.seed',
        'work_dir',
        'default_hooks.figures.num',
        'load_from',
        'find_unused_parameters',
        '_helper',
        'anything.at',
    ],
)
def test_options_may_change_and_add_what_is_read(config, option):
    check_options(config(), {option: 1})


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.maskng.ratio', "there is no 'maskng' in model. Did you mean 'masking'?"),
        ('modle.masking.ratio', "there is no 'modle' in the config. Did you mean 'model'?"),
        ('model.masking.ratoi', "there is no 'ratoi' in model.masking. Did you mean 'ratio'?"),
        ('train_cfg.max_epoch', "there is no 'max_epoch' in train_cfg. Did you mean 'max_epochs'?"),
        ('train_dataloader.batch', "there is no 'batch' in train_dataloader."),
        (
            'train_dataloader.dataset.pipeline.7.prob',
            "train_dataloader.dataset.pipeline is a list of 2; it has no entry '7'",
        ),
        ('optim_wrapper.optimizer.lrr', "there is no 'lrr' in optim_wrapper.optimizer. Did you mean 'lr'?"),
        ('model.masking.ratio.x', 'model.masking.ratio is a value (0.5), not a section.'),
        ('somewhere.else', "there is no 'somewhere' in the config."),
        ('work_dri', "there is no 'work_dri' in the config. Did you mean 'work_dir'?"),
    ],
)
def test_options_that_nothing_would_read_are_errors(config, option, message):
    with pytest.raises(ConfigError) as caught:
        check_options(config(), {option: 1})
    assert str(caught.value).startswith(f'--cfg-options {option}: {message}')


@pytest.mark.parametrize(
    ('name', 'section'),
    [('train_cgf', 'train_cfg'), ('optim_wraper', 'optim_wrapper'), ('custom_hook', 'custom_hooks')],
)
def test_a_variable_that_is_nearly_a_section_is_a_slip(config, name, section):
    with pytest.raises(ConfigError, match=f"{name}: nothing reads it. Did you mean '{section}'"):
        check_config(config('_helper = 3', f'{name} = dict(a=1)'))
    check_config(config('_helper = 3', f'_{name} = dict(a=1)\nnorm_cfg = 2\ntrain_pipeline = []\ndata_root = 1'))


def test_the_scope_of_a_section_counts_within_it(tmp_path):
    path = tmp_path / 'scoped.py'
    text = "model = dict(type='{}', _scope_='{}', head=dict(type='UNeXt', {}=3))\n"
    path.write_text(text.format('EncoderDecoder', 'mmseg', 'seed'))
    with pytest.raises(ConfigError, match=r"model.type: 'EncoderDecoder' is not registered"):
        check_config(Config.fromstring(path.read_text().replace("_scope_='mmseg', ", ''), '.py'))
    check_config(Config.fromfile(path))  # mmseg knows no UNeXt of ours, so that its head is left alone.
    path.write_text(text.format('VasoMIM', 'mmpretrain', 'chanels'))
    with pytest.raises(ConfigError, match=r'model\.head\.chanels: there is no such key'):
        check_config(Config.fromfile(path))


def test_what_a_library_refuses_is_named_with_its_place(config, tmp_path):
    wrong = config("dict(type='LoadImageFromFile')", "dict(type='LoadImageFromFile', imdecode_backnd='cv2')")
    with pytest.raises(TypeError) as caught:
        TRANSFORMS.build(wrong.train_dataloader.dataset.pipeline[0])
    found = unexpected_key(wrong, caught.value)
    assert str(found).startswith(
        f'{tmp_path}/some.py: train_dataloader.dataset.pipeline.0.imdecode_backnd: LoadImageFromFile takes no such '
        "key. Did you mean 'imdecode_backend'?"
    )
    assert unexpected_key(wrong, TypeError("f() got an unexpected keyword argument 'elsewhere'")) is None
    assert unexpected_key(wrong, TypeError('can only concatenate str')) is None


@pytest.mark.parametrize(
    ('base', 'message'),
    [
        ('vasomim::pretrain/vasomin.py', "there is no .*pretrain/vasomin.py. Did you mean 'vasomim.py'"),
        ('./sime.py', r"there is no .*sime.py. Did you mean 'some.py'"),
        ('vasomin::pretrain/mae.py', "no package 'vasomin' of configs. Did you mean 'vasomim'"),
    ],
)
def test_a_base_that_does_not_exist_is_named(config, tmp_path, base, message):
    config()
    (tmp_path / 'mine.py').write_text(f'_base_ = {base!r}\n')
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(tmp_path / 'mine.py')
    assert str(caught.value).startswith(f'{tmp_path}/mine.py: _base_: ')


def test_keys_follow_kwargs_up_to_the_first_class_without():
    class Base(nn.Module):
        def __init__(self, depth, width=2):
            super().__init__()

    class Middle(Base):
        def __init__(self, *args, ratio=0.5, **kwargs):
            super().__init__(*args, **kwargs)

    class Closed(Middle):
        def __init__(self, depth):
            super().__init__(depth)

    class Open(nn.Module):
        def __init__(self, inner, **options):
            super().__init__()

    assert keys_of(Middle).names - {'type', '_scope_', 'priority', 'convert_to_iter_based'} == {
        'depth',
        'width',
        'ratio',
    }
    assert keys_of(Middle).closed
    assert 'width' not in keys_of(Closed).names
    assert not keys_of(Open).closed
    assert keys_of(type('Plain', (), {})).closed
    assert 'data_root' in keys_of(type('Frames', (BaseDataset,), {})).names
