"""The functions of `vasomim` as a user of Python calls them, beside the command line: the same numbers and files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from safetensors.torch import load_file

import vasomim
from tests.cli.test_train import data as frames  # noqa: F401 - a fixture
from tests.cli.test_train import write_config
from tests.models.builders import ARCH
from tests.test_downstream import CONFIGS, ENCODER, ROOT
from tests.test_downstream import data as labelled  # noqa: F401 - a fixture
from vasomim import apis
from vasomim.cli import main
from vasomim.errors import ConfigError
from vasomim.tensorfiles import read_file

ONE_EPOCH = {'train_cfg.max_epochs': 1, 'model.backbone.arch': ARCH, 'train_dataloader.num_workers': 0}


def as_texts(options: dict[str, Any]) -> list[str]:
    flat = {key: value for key, value in options.items() if not isinstance(value, dict)}
    for key, value in options.items():
        flat |= {f'{key}.{name}': one for name, one in value.items()} if isinstance(value, dict) else {}
    return [f'{key}={value}' for key, value in flat.items()]


def weights(path: Path | None) -> torch.Tensor:
    assert path is not None
    return torch.cat([tensor.flatten().float() for tensor in read_file(path)['state_dict'].values()])


@pytest.fixture(scope='module')
def pretrained(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:  # noqa: F811
    """One epoch by a call, and the folder of one by the command line."""
    folder = tmp_path_factory.mktemp('pretrained')
    done = vasomim.train(
        write_config(folder / 'called.py', frames), work_dir=folder / 'call', options=ONE_EPOCH, seed=5
    )
    arguments = [write_config(folder / 'typed.py', frames), '--work-dir', str(folder / 'verb'), '--seed', '5']
    assert main('train', [*arguments, '--cfg-options', *as_texts(ONE_EPOCH)]) == 0
    return done, folder / 'verb'


def test_a_training_has_the_weights_and_the_figures_of_the_verb(pretrained):
    done, verb = pretrained
    assert done.checkpoint == done.work_dir / 'epoch_1.pth' and done.best is None
    assert torch.equal(weights(done.checkpoint), weights(verb / 'epoch_1.pth'))
    rows = map(json.loads, next(verb.glob('*/vis_data/scalars.json')).read_text().splitlines())
    held_out = next(row for row in rows if 'val/held_out/loss_rec' in row)
    assert done.metrics == {'held_out/loss_rec': pytest.approx(held_out['val/held_out/loss_rec'], rel=1e-6)}


def test_a_pre_trained_checkpoint_is_drawn_embedded_and_converted_as_by_the_verbs(pretrained, frames, tmp_path):  # noqa: F811
    done, _ = pretrained
    source = frames / 'frames'
    drawn = vasomim.visualize(done.checkpoint, source, tmp_path / 'call.png', num=3, seed=2)
    arguments = [str(done.checkpoint), str(source)]
    assert main('visualize', [*arguments, str(tmp_path / 'verb.png'), '--num', '3', '--seed', '2']) == 0
    assert drawn.pictures == (tmp_path / 'call.png',) and (len(drawn.frames), drawn.among) == (3, 15)
    assert (tmp_path / 'call.png').read_bytes() == (tmp_path / 'verb.png').read_bytes()

    embedded = vasomim.extract_features(done.work_dir, source, batch_size=4, device='cpu')
    options = ['--batch-size', '4', '--device', 'cpu']
    assert main('extract-features', [*arguments, str(tmp_path / 'verb.npz'), *options]) == 0
    with np.load(tmp_path / 'verb.npz') as content:
        assert np.array_equal(embedded.features, content['features']) and embedded.features.dtype == np.float32
        assert list(embedded.names) == list(content['names'])
    assert embedded.features.shape == (15, ARCH['embed_dims'])
    assert (embedded.target, embedded.probing, embedded.files.damaged) == (None, None, ())

    converted = vasomim.convert(done.checkpoint, tmp_path / 'call.safetensors', to='timm')
    assert main('convert', [str(done.checkpoint), str(tmp_path / 'verb.safetensors'), '--to', 'timm']) == 0
    call, verb = (load_file(tmp_path / f'{name}.safetensors') for name in ('call', 'verb'))
    assert call.keys() == verb.keys() and all(torch.equal(call[name], verb[name]) for name in call)
    assert len(call) == converted.written > 0 and 'blocks.0.attn.qkv.weight' in call


def test_a_task_is_trained_measured_and_predicted_as_by_the_verbs(pretrained, labelled, tmp_path):  # noqa: F811
    done, _ = pretrained
    text = CONFIGS['segmentation'].format(root=ROOT, data=labelled, arch=ENCODER)
    (tmp_path / 'called.py').write_text(text)
    (tmp_path / 'typed.py').write_text(text)
    run = vasomim.train(tmp_path / 'called.py', init=done.checkpoint, work_dir=tmp_path / 'run')
    assert DefaultScope.get_current_instance() is None  # That of mmseg ended with the call.
    assert json.loads((run.work_dir / 'encoder_init.json').read_text())['share'] == 1
    assert run.best is not None and run.best.name.startswith('best_') and 0 <= run.metrics['DSC'] <= 1

    said: list[str] = []
    found = vasomim.evaluate(tmp_path / 'called.py', run.work_dir, work_dir=tmp_path / 'call', num=1, tell=said.append)
    arguments = [str(tmp_path / 'typed.py'), str(run.work_dir), '--work-dir', str(tmp_path / 'verb'), '--num', '1']
    assert main('test', arguments) == 0
    assert (found.checkpoint, found.folder, found.images, said) == (run.best, tmp_path / 'call', 4, [])
    written = json.loads((tmp_path / 'verb' / 'metrics.json').read_text())['metrics']
    assert {name: None if value != value else value for name, value in found.metrics.items()} == written
    for name in ('cases.csv', 'cases.png'):
        assert (tmp_path / 'call' / name).read_bytes() == (tmp_path / 'verb' / name).read_bytes()

    predicted = vasomim.predict(run.work_dir, labelled / 'images', tmp_path / 'masks_call', device='cpu')
    places = [str(labelled / 'images'), str(tmp_path / 'masks_verb')]
    assert main('predict', [str(run.work_dir), *places, '--device', 'cpu']) == 0
    assert (predicted.task, predicted.classes, predicted.frames) == ('segmentation', ('vessel',), 4)
    ours, theirs = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob('*.png')}
        for folder in ('masks_call', 'masks_verb')
    )
    assert ours == theirs and len(ours) == 8

    # After mmseg, what belongs to mmpretrain is still found.
    assert vasomim.visualize(done.checkpoint, labelled / 'images', tmp_path / 'after').frames == tuple(
        f'{index}.png' for index in range(4)
    )


def test_a_file_that_cannot_be_read_is_in_the_result(pretrained, tmp_path):
    (tmp_path / 'b.png').write_bytes(b'cut short')
    (tmp_path / 'film.mp4').write_bytes(b'a cine')
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((64, 64), 90, np.uint8))
    files = vasomim.extract_features(pretrained[0].checkpoint, tmp_path, device='cpu').files
    assert (files.count, [error.where for error in files.damaged]) == (2, [tmp_path / 'b.png'])
    assert files.unread == ('film.mp4',)


def test_changes_are_a_dict_or_texts():
    changes = {'model.masking.ratio': 0.6, 'train_cfg.max_epochs': 7, 'train_dataloader.batch_size': 3}
    by_dict = vasomim.load_config('vasomim::pretrain/vasomim.py', changes)
    by_texts = vasomim.load_config('vasomim::pretrain/vasomim.py', [f'{key}={value}' for key, value in changes.items()])
    assert by_dict.pretty_text == by_texts.pretty_text
    assert (by_dict.model.masking.ratio, by_dict.train_cfg.max_epochs) == (0.6, 7)


@pytest.mark.parametrize(
    ('arguments', 'where'),
    [
        ({'launcher': 'torchrun'}, '--launcher'),
        ({'seed': -1}, '--seed'),
        ({'seed': True}, '--seed'),
        ({'resume': 'auto', 'overwrite': True}, '--overwrite'),
        ({'options': {'model.masking.ratoi': 0.6}}, 'model.masking.ratoi'),
        ({'options': ['model.masking.ratio']}, 'model.masking.ratio'),
    ],
)
def test_a_wrong_argument_of_a_training_is_named_before_it_starts(arguments, where, tmp_path):
    with pytest.raises(ConfigError) as refused:
        vasomim.train('vasomim::pretrain/vasomim.py', work_dir=tmp_path / 'run', **arguments)
    assert where in f'{refused.value.where} {refused.value.what}'
    assert not (tmp_path / 'run').exists()


def test_importing_the_package_imports_no_library():
    code = (
        'import sys, vasomim, vasomim.apis\n'
        "assert {'train', 'evaluate', 'predict'} <= set(dir(vasomim.apis))\n"
        "assert not hasattr(vasomim, 'trian')\n"
        "print(sorted({'torch', 'numpy', 'mmengine', 'cv2', 'rich', 'argparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize('name', apis.FUNCTIONS)
def test_each_name_is_a_function_that_says_what_it_does(name):
    function = getattr(vasomim, name)
    assert function is getattr(apis, name) and function.__name__ == name
    assert {'Args:', 'Raises:'} <= set(function.__doc__.split())
