"""mmpretrain's own algorithms train on our frames: without figures or validation they go on, and say so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from vasomim.apis.configs import load_config
from vasomim.apis.training import build_runner
from vasomim.benchmark.running.timing import measure, read_timing
from vasomim.benchmark.study.plan import config_text
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.cli import main
from vasomim.errors import ConfigError

ARCH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=32)
VIT = dict(arch=ARCH, img_size=32, patch_size=8)
MLP = dict(type='NonLinearNeck', hid_channels=16, out_channels=8, num_layers=2, with_avg_pool=False)
OURS = [
    dict(type='LoadAngiogram'),
    dict(type='LoadAnatomy'),
    dict(type='PairedResizedCrop', size=32),
    dict(type='PackAngiogram'),
]
LOAD = [dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=32)]
THEIRS = dict(type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
MODELS = {
    'MFF': (
        dict(
            type='MFF',
            backbone=dict(type='MFFViT', out_indices=[0, 1], mask_ratio=0.75, **VIT),
            neck=dict(
                type='MAEPretrainDecoder',
                num_patches=16,
                patch_size=8,
                embed_dim=24,
                decoder_embed_dim=16,
                decoder_depth=1,
                decoder_num_heads=2,
            ),
            head=dict(
                type='MAEPretrainHead',
                norm_pix=True,
                patch_size=8,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'),
            ),
            data_preprocessor=dict(type='AngiogramPreprocessor'),
        ),
        OURS,
    ),
    'MaskFeat': (
        dict(
            type='MaskFeat',
            backbone=dict(type='MaskFeatViT', arch=ARCH, img_size=112, patch_size=8),  # HOG's cells: 14 x 14
            neck=dict(type='LinearNeck', in_channels=24, out_channels=27, norm_cfg=None),
            head=dict(type='MIMHead', loss=dict(type='PixelReconstructionLoss', criterion='L2')),
            target_generator=dict(type='HOGGenerator', nbins=9, pool=8, gaussian_window=8),
            data_preprocessor=THEIRS,
        ),
        [
            LOAD[0],
            dict(type='RandomResizedCrop', scale=112),
            dict(type='BEiTMaskGenerator', input_size=14, num_masking_patches=78, min_num_patches=15),
            dict(type='PackInputs'),
        ],
    ),
    'MoCoV3': (
        dict(
            type='MoCoV3',
            backbone=dict(type='MoCoV3ViT', **VIT),
            neck=dict(in_channels=24, with_last_bn_affine=False, with_last_bias=False, **MLP),
            head=dict(
                type='MoCoV3Head',
                predictor=dict(in_channels=8, **MLP),
                loss=dict(type='CrossEntropyLoss', loss_weight=0.4),
                temperature=0.2,
            ),
            data_preprocessor=THEIRS,
        ),
        [LOAD[0], dict(type='MultiView', num_views=2, transforms=[LOAD[1:]]), dict(type='PackInputs')],
    ),
}


@pytest.fixture(scope='module')
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('frames')
    random = np.random.RandomState(0)
    for index in range(10):
        cv2.imwrite(str(folder / f'{chr(97 + index)}.png'), random.randint(0, 256, (48, 48)).astype(np.uint8))
    return folder


def config_of(
    path: Path, model: dict, pipeline: list, frames: Path, base: str = '_base_/pretrain_runtime.py'
) -> Config:
    """A config as a user writes it: the model and the data are theirs, all else is inherited."""
    dataset = dict(type='AngiogramFolder', data_root=str(frames), held_out=0.2, pipeline=pipeline)
    loader = dict(batch_size=4, num_workers=0, persistent_workers=False, drop_last=True)
    if model['type'] not in ('MFF', 'MaskedImageModeling'):
        loader['collate_fn'] = dict(type='default_collate')
    sampler = dict(type='DefaultSampler', shuffle=True)
    path.write_text(
        f"_base_ = '{Path(__file__).parents[2]}/configs/{base}'\n"
        f'model = {model!r}\n'
        f'train_dataloader = {dict(loader, sampler=sampler, dataset=dict(dataset, subset="train"))!r}\n'
        f'val_dataloader = {dict(loader, sampler=sampler, dataset=dict(dataset, subset="held_out"))!r}\n'
        'train_cfg = dict(max_epochs=1)\n'
        'optim_wrapper = dict(optimizer=dict(fused=False))\n'
        "visualizer = dict(_delete_=True, type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])\n"
        f'experiment_name = {path.stem!r}\n'
    )
    return load_config(str(path))


@pytest.mark.parametrize('name', MODELS)
def test_it_trains_resumes_and_converts_without_figures_and_validation(name: str, tmp_path: Path, frames: Path, capsys):
    cfg = config_of(tmp_path / f'{name}.py', *MODELS[name], frames)
    cfg.work_dir = str(tmp_path / 'run')
    build_runner(cfg).train()
    shown = capsys.readouterr().out
    assert shown.count(f'no validation: {name}') == shown.count(f'no figures: {name}') == 1
    assert not (tmp_path / 'run/figures').exists()
    again = load_config(str(tmp_path / f'{name}.py'), ['train_cfg.max_epochs=2', 'experiment_name=again'])
    again.work_dir, again.resume, again.load_from = cfg.work_dir, True, str(tmp_path / 'run/epoch_1.pth')
    runner = build_runner(again)
    runner.train()
    assert (runner.epoch, runner.iter) == (2, 4)
    done = convert_checkpoint(tmp_path / 'run', tmp_path / 'encoder.safetensors', to='timm')
    assert not done.report.missing and done.report.share == 1
    assert main('visualize', [str(tmp_path / 'run'), str(frames), str(tmp_path / 'picture.png')]) == 2
    error = capsys.readouterr().err
    assert 'Error: ' in error and name in error and 'Traceback' not in error


def test_the_benchmark_times_it_without_validation(tmp_path: Path, frames: Path) -> None:
    cfg = config_of(tmp_path / 'timed.py', *MODELS['MFF'], frames)
    assert measure(config_text(cfg), {}, tmp_path / 'times' / 'mff.json') == 0
    timing = read_timing(tmp_path / 'times' / 'mff.json')
    assert timing is not None and timing.validation == 0 and timing.iteration > 0 and timing.iterations == 2


def test_a_guidance_by_extracted_vessels_is_refused_where_the_frames_bring_none(tmp_path: Path, frames: Path) -> None:
    model = dict(
        type='MaskedImageModeling',
        backbone=dict(type='MaskedViT', **VIT),
        neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2),
        head=dict(type='ReconstructionHead'),
        guidance=dict(type='VesselGuidance', eta=1.0),
        masking=dict(type='AnatomyMasking'),
    )
    for change, pipeline in ({'filter': None}, OURS), ({}, [step for step in OURS if step['type'] != 'LoadAnatomy']):
        cfg = config_of(tmp_path / f'without{len(pipeline)}.py', model, pipeline, frames)
        cfg.work_dir = str(tmp_path / f'run{len(pipeline)}')
        cfg.train_dataloader.dataset.update(change)
        with pytest.raises(ConfigError, match='anatomy'):
            build_runner(cfg).train()
        assert not list(Path(cfg.work_dir).glob('*.pth'))


def test_a_held_out_loss_is_measured_where_there_is_one(tmp_path: Path, frames: Path, capsys) -> None:
    model = dict(
        type='MaskedImageModeling',
        backbone=dict(type='MaskTokenViT', **VIT),
        neck=dict(type='PatchPredictor'),
        head=dict(type='ReconstructionHead'),
        masking=dict(type='UniformMasking'),
    )
    cfg = config_of(tmp_path / 'ours.py', model, OURS, frames)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.val_dataloader.update(drop_last=False)
    runner = build_runner(cfg)
    runner.train()
    assert 'no validation' not in capsys.readouterr().out
    assert torch.isfinite(torch.tensor(runner.message_hub.get_scalar('val/held_out/loss_rec').current()))
    assert (tmp_path / 'run/figures/epoch_1.png').is_file()
