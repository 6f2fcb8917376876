"""The train and visualize verbs, from a config file to figures, checkpoints and event files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vasomim.apis.configs import config_path, parse_options
from vasomim.apis.visualizing import dataset_of, filter_of
from vasomim.cli import main
from vasomim.errors import ConfigError

ROOT = Path(__file__).parents[2]

CONFIG = """
_base_ = '{root}/configs/pretrain/vasomim.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=48), img_size=64),
    neck=dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2),
    segmentor=dict(weights=None))
crop = [dict(type='LoadAngiogram'), dict(type='LoadAnatomy'), dict(type='PairedResizedCrop', size=64),
        dict(type='PairedFlip'), dict(type='PackAngiogram')]
resize = [dict(type='LoadAngiogram'), dict(type='LoadAnatomy'), dict(type='PairedResize', size=64),
          dict(type='PackAngiogram')]
folder = dict(_delete_=True, type='AngiogramFolder', data_root='{data}/frames', anatomy_root='{data}/anatomy',
              held_out=0.2)
train_dataloader = dict(batch_size=4, num_workers=1, persistent_workers=False,
                        dataset=dict(**folder, subset='train', pipeline=crop))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                      dataset=dict(**folder, subset='held_out', pipeline=resize))
train_cfg = dict(max_epochs=4)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(max_keep_ckpts=-1))
custom_hooks = [dict(type='ReconstructionFigureHook', interval=2, num=2)]
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen noisy frames with a dark curve each, and the curves."""
    root = tmp_path_factory.mktemp('data')
    random = np.random.RandomState(0)
    for folder in ('frames', 'anatomy'):
        (root / folder).mkdir()
    for index in range(15):
        curve = np.zeros((96, 96), np.uint8)
        points = np.stack([np.linspace(8, 88, 6), random.randint(10, 86, 6)], axis=1).astype(np.int32)
        cv2.polylines(curve, [points], isClosed=False, color=255, thickness=3)
        frame = np.where(curve > 0, 60, 150) + random.randint(-20, 20, curve.shape)
        cv2.imwrite(str(root / 'frames' / f'frame{chr(97 + index)}.png'), frame.astype(np.uint8))
        cv2.imwrite(str(root / 'anatomy' / f'frame{chr(97 + index)}.png'), curve)
    return root


@pytest.fixture
def config(data: Path, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A config of its own name per test, as mmengine shares loggers between runs of one name and second."""
    return write_config(tmp_path / f'{re.sub(r"[^a-z0-9]+", "_", request.node.name)}.py', data)


def write_config(path: Path, data: Path) -> str:
    path.write_text(CONFIG.format(root=ROOT, data=data))
    return str(path)


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of four epochs."""
    folder = tmp_path_factory.mktemp('trained')
    assert main('train', [write_config(folder / 'tiny.py', data), '--work-dir', str(folder / 'run')]) == 0
    return folder / 'run'


def weights(path: Path) -> torch.Tensor:
    tensors = torch.load(path, weights_only=False)['state_dict'].values()
    return torch.cat([tensor.flatten().float() for tensor in tensors])


def test_event_files_hold_every_scalar(trained):
    events = EventAccumulator(str(next(trained.rglob('events.out.*')).parent))
    events.Reload()
    names = {'train/loss', 'train/loss_rec', 'train/loss_cons', 'train/vessel_masked', 'train/lr', 'train/data_time'}
    assert names <= set(events.Tags()['scalars'])
    # 12 frames in batches of 4, drawn every 2 iterations and at the end of each of 4 epochs.
    assert [event.step for event in events.Scalars('train/loss_rec')] == [2, 3, 5, 6, 8, 9, 11, 12]
    held_out = [name for name in events.Tags()['scalars'] if name.startswith('val/') and name.endswith('loss_rec')]
    assert [event.step for event in events.Scalars(held_out[0])] == [1, 2, 3, 4]
    masked = [event.value for event in events.Scalars('train/vessel_masked')]
    assert all(0.3 < value < 1 for value in masked)
    last = {name: events.Scalars(name)[-1].value for name in names}
    assert last['train/loss'] == pytest.approx(last['train/loss_rec'] + last['train/loss_cons'], rel=1e-5)
    assert [image.step for image in events.Images('reconstruction')] == [2, 4]


def test_figures_and_checkpoints(trained):
    assert sorted(path.name for path in (trained / 'figures').iterdir()) == ['epoch_2.png', 'epoch_4.png']
    picture = cv2.imread(str(trained / 'figures' / 'epoch_4.png'))
    assert picture.shape == (26 + 2 * (256 + 6), 6 + 4 * (256 + 6), 3)  # 2 frames of 64 pixels, four times as large
    assert sorted(path.name for path in trained.glob('*.pth')) == [f'epoch_{epoch}.pth' for epoch in (1, 2, 3, 4)]


def test_resuming_gives_the_weights_of_the_uninterrupted_run(trained, config, tmp_path, capsys):
    work_dir = tmp_path / 'moved'  # Copied after two epochs, as to another machine.
    work_dir.mkdir()
    shutil.copy(trained / 'epoch_2.pth', work_dir)
    (work_dir / 'last_checkpoint').write_text(str(trained / 'epoch_2.pth'))
    assert main('train', [config, '--work-dir', str(work_dir), '--resume']) == 0
    out = capsys.readouterr().out
    assert f'resuming from {work_dir}/epoch_2.pth' in out and 'continuing after epoch 2 of 4' in out
    assert torch.equal(weights(work_dir / 'epoch_4.pth'), weights(trained / 'epoch_4.pth'))
    assert not torch.equal(weights(trained / 'epoch_2.pth'), weights(trained / 'epoch_4.pth'))


def test_resuming_takes_the_last_checkpoint_of_a_directory(trained, config, tmp_path, capsys):
    (tmp_path / 'earlier').mkdir()
    for epoch in (2, 3):
        shutil.copy(trained / f'epoch_{epoch}.pth', tmp_path / 'earlier')
    arguments = [config, '--work-dir', str(tmp_path / 'run'), '--resume', str(tmp_path / 'earlier')]
    assert main('train', arguments) == 0
    assert f'resuming from {tmp_path}/earlier/epoch_3.pth' in capsys.readouterr().out
    assert torch.equal(weights(tmp_path / 'run/epoch_4.pth'), weights(trained / 'epoch_4.pth'))
    (tmp_path / 'empty').mkdir()
    assert main('train', [config, '--work-dir', str(tmp_path / 'new'), '--resume', str(tmp_path / 'empty')]) == 2
    assert f'CheckpointError: {tmp_path}/empty: this directory holds no checkpoint.' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--resume', '--cfg-options'])
def test_a_config_that_an_option_has_taken_is_asked_for_in_front(option, config, capsys):
    with pytest.raises(SystemExit):
        main('train', [option, config])
    error = capsys.readouterr().err
    assert ' CONFIG [options]' in error and 'arguments are required: CONFIG' in error


def test_a_finished_run_says_so(trained, config, capsys):
    before = weights(trained / 'epoch_4.pth')
    assert main('train', [config, '--work-dir', str(trained), '--resume']) == 0
    assert 'this run is finished: 4 of 4 epochs.' in capsys.readouterr().out
    assert torch.equal(weights(trained / 'epoch_4.pth'), before)


def test_an_earlier_run_is_not_overwritten_by_accident(trained, config, tmp_path, capsys):
    run = tmp_path / 'run'
    shutil.copytree(trained, run)
    before = {path.name: path.read_bytes() for path in run.glob('*.pth')}
    assert main('train', [config, '--work-dir', str(run)]) == 2
    error = capsys.readouterr().err
    assert f'ConfigError: --work-dir {run}: it holds 4 checkpoints of an earlier run' in error
    assert all(cure in error for cure in ('--resume', 'another --work-dir', '--overwrite'))
    assert main('train', [config, '--work-dir', str(run), '--resume', '--overwrite']) == 2
    assert main('train', [config, '--work-dir', str(run), '--resume', str(trained / 'epoch_2.pth')]) == 2
    assert {path.name: path.read_bytes() for path in run.glob('*.pth')} == before
    capsys.readouterr()
    assert (
        main('train', [config, '--work-dir', str(run), '--overwrite', '--cfg-options', 'train_cfg.max_epochs=1']) == 0
    )
    assert [path.name for path in run.glob('*.pth')] == ['epoch_1.pth']


def test_resuming_from_a_cut_off_checkpoint_goes_back_one(trained, config, tmp_path, capsys):
    run = tmp_path / 'run'
    run.mkdir()
    for epoch in (2, 3):
        shutil.copy(trained / f'epoch_{epoch}.pth', run)
    (run / 'last_checkpoint').write_text('epoch_3.pth')
    (run / 'epoch_3.pth').write_bytes((run / 'epoch_3.pth').read_bytes()[:-1000])
    assert main('train', [config, '--work-dir', str(run), '--resume']) == 0
    assert f'{run}/epoch_3.pth is cut off; going back to epoch_2.pth' in capsys.readouterr().out
    assert torch.equal(weights(run / 'epoch_4.pth'), weights(trained / 'epoch_4.pth'))


def test_resume_without_a_checkpoint_starts_from_the_beginning(config, tmp_path, capsys):
    arguments = [config, '--work-dir', str(tmp_path / 'new'), '--resume', '--amp', '--seed', '3', '--cfg-options']
    assert main('train', [*arguments, 'train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=2']) == 0
    out = capsys.readouterr().out
    assert f'no checkpoint in {tmp_path}/new yet: starting from the beginning' in out
    assert 'mixed precision: bfloat16' in out
    assert 'learning rate 1.5e-04 x 8/256 = 4.69e-06 (batch 4 x 1 process x 2 accumulation steps)' in out
    saved = torch.load(tmp_path / 'new' / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['seed'] == 3
    assert {tensor.dtype for tensor in saved['state_dict'].values()} <= {torch.float32, torch.int64}


def test_nan_ends_with_iteration_frames_and_cure(config, tmp_path, capsys):
    options = ['--work-dir', str(tmp_path / 'nan'), '--cfg-options', 'optim_wrapper.optimizer.lr=1e30']
    assert main('train', [config, *options]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r'TrainingError: iteration [2-4] \(epoch [12]\): loss is nan, .*'
        r'Frames of that batch: \S+/frame.\.png, ',
        error,
    )
    assert 'lower optim_wrapper.optimizer.lr' in error and '--resume' in error
    assert len((tmp_path / 'nan' / 'nonfinite_batch.txt').read_text().split()) == 4
    for checkpoint in (tmp_path / 'nan').glob('*.pth'):
        assert torch.isfinite(weights(checkpoint)).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--cfg-options', 'model.maskng.ratio=0.6'], "there is no 'maskng' in model. Did you mean 'masking'?"),
        (['--cfg-options', 'model.masking.ratoi=0.6'], "there is no 'ratoi' in model.masking. Did you mean 'ratio'?"),
        (['--cfg-options', 'model.masking.ratio'], 'it is not of the form KEY=VALUE'),
        (['--launcher', 'pytorch'], 'RANK is not set: nothing has started several processes.\n  Start it by: torchrun'),
        (['--launcher', 'slurm'], 'SLURM_PROCID is not set'),
        (
            ['--cfg-options', 'model.backbone.img_size=96'],
            'model.backbone.img_size is 96 x 96, but train_dataloader.dataset.pipeline.2.size makes crops of 64 x 64.\n'
            '  Set both alike: --cfg-options train_dataloader.dataset.pipeline.2.size=96 val_data',
        ),
        (['--resume', 'nowhere/epoch_3.pth'], 'nowhere/epoch_3.pth: there is no such checkpoint'),
        (
            ['--init', 'unext_s', '--cfg-options', 'load_from=other.pth'],
            '--init: it contradicts load_from=other.pth.\n  Pass one of the two.',
        ),
    ],
)
def test_slips_are_errors_before_anything_is_built(config, tmp_path, capsys, arguments, message):
    assert main('train', [config, '--work-dir', str(tmp_path / 'run'), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.glob('run/*')} <= {'.lock'}


def test_a_damaged_frame_is_named_and_skipped_only_on_request(config, data, tmp_path, capsys):
    frames = tmp_path / 'frames'
    shutil.copytree(data / 'frames', frames)
    (frames / 'framec.png').write_bytes((data / 'frames' / 'framec.png').read_bytes()[:300])
    roots = [f'{kind}_dataloader.dataset.data_root={frames}' for kind in ('train', 'val')]
    arguments = [config, '--work-dir', str(tmp_path / 'run'), '--cfg-options', 'train_cfg.max_epochs=1', *roots]
    assert main('train', arguments) == 2
    assert capsys.readouterr().err.splitlines()[-2].startswith(f'DatasetError: {frames}/framec.png: ')
    assert main('train', [*arguments, 'train_dataloader.dataset.skip_corrupt=True']) == 0
    assert '1 corrupt frame skipped so far' in capsys.readouterr().out
    assert (tmp_path / 'run' / 'skipped_frames.txt').read_text() == f'{frames}/framec.png\n'


def test_a_misspelled_key_in_the_file(config, tmp_path, capsys):
    Path(config).write_text(Path(config).read_text() + '\nmodel.update(masking=dict(ratoi=0.4))\n')
    assert main('train', [config, '--work-dir', str(tmp_path / 'run')]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ConfigError: {config}: model.masking.ratoi: there is no such key. Did you mean 'ratio'?")


def test_a_config_is_found_by_file_and_by_package():
    assert config_path('vasomim::pretrain/mae.py').read_text() == (ROOT / 'configs/pretrain/mae.py').read_text()
    with pytest.raises(
        ConfigError, match=r"no such config. Did you mean 'pretrain/vasomim.py'\?(.|\n)*pretrain/mae.py"
    ):
        config_path('configs/pretrain/vasomin.py')
    with pytest.raises(ConfigError, match=r"Did you mean 'pretrain/simmim.py'\?"):
        config_path('vasomim::pretrain/simmin.py')


def test_options_are_read_as_openmmlab_reads_them():
    read = parse_options(['a.b=1', 'c=0.5', 'd=True', 'e=None', 'f=(1,2)', "g=['x','y']", 'h=k=v'])
    assert read == {'a.b': 1, 'c': 0.5, 'd': True, 'e': None, 'f': (1, 2), 'g': ['x', 'y'], 'h': 'k=v'}


def test_a_syntax_error_in_a_config_is_named(tmp_path, capsys):
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    assert main('train', [str(tmp_path / 'broken.py')]) == 2
    assert f'ConfigError: {tmp_path}/broken.py: it is not valid Python' in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_without_a_gpu(config, tmp_path):
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--nproc-per-node=2',
        '--standalone',
        '-m',
        'vasomim',
        'train',
        config,
        '--launcher',
        'pytorch',
        '--work-dir',
        str(tmp_path / 'run'),
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=2',
    ]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    line = 'learning rate 1.5e-04 x 4/256 = 2.34e-06 (batch 2 x 2 processes x 1 accumulation step)'
    assert done.stdout.count(line) == 1
    assert done.stdout.count('epoch 1/1  loss') == 1
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()


def test_parsing_needs_no_torch():
    code = (
        'import sys, argparse, vasomim.cli.train as t, vasomim.cli.visualize as v\n'
        'for verb in (t, v): verb.add_arguments(argparse.ArgumentParser())\n'
        "assert not {'torch', 'mmengine', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_visualize_draws_a_folder_into_one_picture(trained, data, tmp_path, capsys):
    arguments = [str(trained / 'epoch_4.pth'), str(data / 'frames'), str(tmp_path / 'out.png'), '--num', '3']
    assert main('visualize', [*arguments, '--anatomy-root', str(data / 'anatomy')]) == 0
    assert f'{tmp_path}/out.png: 3 of 15 frames' in capsys.readouterr().out
    first = picture(tmp_path / 'out.png')
    assert first.shape == (26 + 3 * (256 + 6), 6 + 4 * (256 + 6), 3)
    main('visualize', [*arguments, '--anatomy-root', str(data / 'anatomy')])
    np.testing.assert_array_equal(picture(tmp_path / 'out.png'), first)  # the same masks, the same frames
    main('visualize', [*arguments, '--anatomy-root', str(data / 'anatomy'), '--seed', '1'])
    assert not np.array_equal(picture(tmp_path / 'out.png'), first)


def test_visualize_draws_one_frame_and_a_picture_per_frame(trained, data, tmp_path):
    frame = data / 'frames' / 'framec.png'
    assert main('visualize', [str(trained / 'epoch_4.pth'), str(frame), str(tmp_path / 'one.png')]) == 0
    assert picture(tmp_path / 'one.png').shape[0] == 26 + 262
    assert main('visualize', [str(trained / 'epoch_4.pth'), str(data / 'frames'), str(tmp_path / 'all')]) == 0
    drawn = sorted((tmp_path / 'all').iterdir())
    assert len(drawn) == 8 and {path.name for path in drawn} <= {path.name for path in (data / 'frames').iterdir()}


def test_visualize_draws_from_the_folder_of_the_frames(trained, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data / 'frames')
    for source, target in (('framec.png', 'one.png'), ('.', 'all.png')):
        assert main('visualize', [str(trained / 'epoch_4.pth'), source, str(tmp_path / target)]) == 0
        assert picture(tmp_path / target).shape[1] == 6 + 4 * (256 + 6)


def test_visualize_reads_the_maps_beside_the_frames_where_all_are_there(trained, data, tmp_path, capsys):
    shutil.copytree(data / 'frames', tmp_path / 'frames')
    drawn = []
    for step in ('extracted', 'maps', 'incomplete'):
        if step == 'maps':
            shutil.copytree(data / 'anatomy', tmp_path / 'frames_frangi')
        if step == 'incomplete':
            (tmp_path / 'frames_frangi' / 'framea.png').unlink()
        target = tmp_path / f'{step}.png'
        assert main('visualize', [str(trained / 'epoch_4.pth'), str(tmp_path / 'frames'), str(target)]) == 0
        drawn.append(picture(target))
    assert 'The anatomy is extracted from the frames instead.' in capsys.readouterr().out
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_visualize_draws_the_others_where_a_frame_cannot_be_read(trained, data, tmp_path, capsys):
    shutil.copytree(data / 'frames', tmp_path / 'frames')
    damaged, narrow = tmp_path / 'frames' / 'framed.png', tmp_path / 'frames' / 'framee.png'
    damaged.write_bytes(damaged.read_bytes()[:99])
    cv2.imwrite(str(narrow), np.full((1, 3000), 9, np.uint8))
    arguments = [str(trained / 'epoch_4.pth'), str(tmp_path / 'frames'), str(tmp_path / 'out'), '--num', '15']
    assert main('visualize', arguments) == 1
    assert f'  {damaged}: ' in capsys.readouterr().out
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        path.name for path in (data / 'frames').iterdir() if path.name != 'framed.png'
    }
    arguments[1] = str(damaged)
    assert main('visualize', arguments) == 2


@pytest.mark.parametrize(
    ('dataset', 'expected'), [({'filter': 'frangi'}, 'frangi'), ({'filter': None}, None), ({}, 'sato')]
)
def test_visualize_extracts_by_the_filter_of_the_training(data, dataset, expected):
    model = SimpleNamespace(
        grid=(4, 4),
        backbone=SimpleNamespace(patch_size=16),
        cfg=Config({'train_dataloader': {'dataset': {'type': 'AngiogramFolder', **dataset}}}),
    )
    frames = dataset_of(model, data / 'frames', None, filter_of(model.cfg, 'epoch_4.pth'))
    info = frames.get_data_info(0)
    assert info.get('anatomy_filter') == expected
    assert ('anatomy' in frames[0]['data_samples']) == (expected is not None)


def test_visualize_refuses_another_format(trained, data, tmp_path, capsys):
    assert main('visualize', [str(trained / 'epoch_4.pth'), str(data / 'frames'), str(tmp_path / 'out.jpg')]) == 2
    assert f'pictures are written as PNG.\n  Name {tmp_path}/out.png' in capsys.readouterr().err
    assert not (tmp_path / 'out.jpg').exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['{trained}/epoch_9.pth', '{data}/frames'], 'there is no such checkpoint'),
        (['{trained}/epoch_4.pth', '{data}/framse'], 'framse'),
        (['{trained}/epoch_4.pth', '{data}/frames', '--num', '0'], '--num: 0 is not positive'),
        (['{trained}/epoch_4.pth', '{data}/frames', '--progress', '2'], '--progress: 2.0 is not in [0, 1]'),
    ],
)
def test_visualize_says_what_is_wrong(trained, data, tmp_path, capsys, changes, message):
    checkpoint, source, *options = (text.format(trained=trained, data=data) for text in changes)
    assert main('visualize', [checkpoint, source, str(tmp_path / 'out.png'), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_config_elsewhere_that_inherits_from_the_package_trains(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'vasomim::pretrain/vasomim.py'\nmodel = dict(masking=dict(ratio=0.6))\n"
    )
    options = [
        'model.backbone.arch=tiny',
        'model.neck.decoder_depth=1',
        'model.neck.decoder_embed_dim=32',
        'train_dataloader.batch_size=4',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'train_cfg.max_epochs=1',
    ]
    assert main('train', ['mine.py', '--data', str(data / 'frames'), '--cfg-options', *options]) == 0
    assert (tmp_path / 'work_dirs/mine/epoch_1.pth').exists()


@pytest.mark.parametrize('options', [['--init', '{run}'], ['--cfg-options', 'load_from={run}/epoch_4.pth']])
def test_a_pretraining_goes_on_from_the_weights_of_another(trained, config, tmp_path, options):
    """At a learning rate of 0 the weights that it ends with are those that it began with."""
    options = [option.format(run=trained) for option in options]
    rate = ['optim_wrapper.optimizer.lr=0.0', 'train_cfg.max_epochs=1']
    options += rate if '--cfg-options' in options else ['--cfg-options', *rate]
    assert main('train', [config, '--work-dir', str(tmp_path / 'further'), '--seed', '5', *options]) == 0
    before, after = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (trained / 'epoch_4.pth', tmp_path / 'further' / 'epoch_1.pth')
    )
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert {name for name in before if name.startswith('backbone.')} <= same
    decoder = 'neck.decoder_embed.weight'  # Not a part of an encoder.
    assert (decoder in same) == ('--init' not in options)


def test_visualize_refuses_a_checkpoint_of_a_downstream_task(data, tmp_path, capsys):
    torch.save(
        {'meta': {'cfg': "default_scope = 'mmseg'\n"}, 'state_dict': {'w': torch.zeros(1)}}, tmp_path / 'task.pth'
    )
    assert main('visualize', [str(tmp_path / 'task.pth'), str(data / 'frames'), str(tmp_path / 'out.png')]) == 2
    assert 'it is of a segmentation, which reconstructs nothing.' in capsys.readouterr().err


def test_visualize_of_a_damaged_frame_speaks_of_the_frame_alone(trained, tmp_path, capsys):
    (tmp_path / 'frames').mkdir()
    (tmp_path / 'frames' / 'a.png').write_bytes(b'cut short')
    arguments = [str(trained / 'epoch_4.pth'), str(tmp_path / 'frames'), str(tmp_path / 'out.png')]
    assert main('visualize', arguments) == 2
    error = capsys.readouterr().err
    assert 'a.png: damaged, cut short, or not an image.' in error and '--cfg-options' not in error
