"""Checkpoints that would run code, wherever one is read: nothing runs, and the file is named."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint

from vasomim import compat
from vasomim.cli import main
from vasomim.errors import CheckpointError
from vasomim.models import UNeXt
from vasomim.models.plain_vit import PlainViT

compat.prepare()

ROOT = Path(__file__).parents[2]
ARCH = dict(embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=48)
CONFIG = """
_base_ = '{root}/configs/pretrain/mae.py'
model = dict(backbone=dict(arch=dict(_delete_=True, **{arch}), img_size=64),
             neck=dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2))
pipeline = [dict(type='LoadAngiogram'), dict(type='LoadAnatomy'), dict(type='PairedResize', size=64),
            dict(type='PackAngiogram')]
folder = dict(_delete_=True, type='AngiogramFolder', data_root='{data}', anatomy_root='{data}_maps', held_out=0.2,
              pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(subset='train', **folder))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(subset='held_out', **folder))
train_cfg = dict(max_epochs=1)
custom_hooks = []
"""


class Payload:
    """Unpickles by making a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Path]:
    """What the attacks make; it is not there afterwards."""
    yield tmp_path / 'owned'
    assert not (tmp_path / 'owned').exists()


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / 'frames'
    maps = tmp_path / 'frames_maps'
    folder.mkdir()
    maps.mkdir()
    for index in range(10):
        frame = np.random.RandomState(index).randint(0, 255, (64, 64)).astype(np.uint8)
        cv2.imwrite(str(folder / f'frame{chr(97 + index)}.png'), frame)
        cv2.imwrite(str(maps / f'frame{chr(97 + index)}.png'), (frame > 200).astype(np.uint8) * 255)
    return folder


def hostile(path: Path, owned: Path, tensors: dict | None = None) -> Path:
    """A checkpoint as a training writes it, with a call in it."""
    path.parent.mkdir(exist_ok=True)
    content = {
        'meta': {'epoch': 1, 'iter': 2, 'cfg': "default_scope = 'mmpretrain'", 'call': Payload(owned)},
        'state_dict': tensors or {'a': torch.ones(1)},
        'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
    }
    torch.save(content, path)
    return path


def train(folder: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    config = folder / 'hostile.py'
    config.write_text(CONFIG.format(root=ROOT, data=data, arch=ARCH))
    command = [sys.executable, '-m', 'vasomim', 'train', str(config), '--work-dir', str(folder / 'run'), *options]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


BY_MMENGINE = pytest.param('load_from-by-mmengine', marks=pytest.mark.slow)


@pytest.mark.parametrize('how', ['resume-file', 'resume-folder', 'load_from', BY_MMENGINE])
def test_a_training_runs_nothing_from_what_it_starts_from(how: str, frames: Path, owned: Path, tmp_path: Path) -> None:
    elsewhere = hostile(tmp_path / 'other' / 'epoch_1.pth', owned)
    options = {
        'resume-file': ['--resume', str(elsewhere)],
        'resume-folder': ['--resume', str(elsewhere.parent)],
        'load_from': ['--cfg-options', f'load_from={elsewhere}'],
        'load_from-by-mmengine': ['--cfg-options', f'load_from={elsewhere}', 'runner_type='],
    }[how]
    done = train(tmp_path, frames, *options)
    assert done.returncode == 2 and 'epoch_1.pth' in done.stderr and 'Traceback' not in done.stderr, done.stderr


def test_the_text_of_a_config_is_not_run_by_resuming(frames: Path, owned: Path, tmp_path: Path) -> None:
    assert train(tmp_path, frames).returncode == 0
    path = tmp_path / 'run' / 'epoch_1.pth'
    content = torch.load(path, weights_only=False)
    for key in ('config', 'cfg'):
        content['meta'][key] = f'import os\nos.mkdir({str(owned)!r})\n'
    torch.save(content, path)
    done = train(tmp_path, frames, '--resume', str(path), '--cfg-options', 'train_cfg.max_epochs=2')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run' / 'epoch_2.pth').is_file()


@pytest.mark.parametrize(
    'verb',
    [
        ['predict', '{file}', '{frames}', '{out}'],
        ['visualize', '{file}', '{frames}', '{out}.png'],
        ['extract-features', '{file}', '{frames}', '{out}.npz'],
        ['export', '{file}', '{out}.onnx'],
        ['convert', '{file}', '{out}.safetensors'],
        ['test', 'vasomim::downstream/arcade_s/segmentation.py', '{file}'],
    ],
    ids=lambda verb: verb[0],
)
def test_no_verb_runs_anything(verb: list[str], frames: Path, owned: Path, tmp_path: Path, capsys) -> None:
    file = hostile(tmp_path / 'bad' / 'some.pth', owned, PlainViT(arch=ARCH, img_size=64).state_dict())
    arguments = [part.format(file=file, frames=frames, out=tmp_path / 'out') for part in verb[1:]]
    assert main(verb[0], arguments) == 2
    assert 'some.pth' in capsys.readouterr().err
    assert not list(tmp_path.glob('out*.*'))


def by_address(path: Path) -> str:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(path.parent))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f'http://127.0.0.1:{server.server_port}/{path.name}'


def initialized(path: Path) -> None:
    model = PlainViT(arch=ARCH, img_size=64, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    model.init_weights()


READERS: dict[str, Callable[[Path], object]] = {
    'a registered loader of mmengine': lambda path: CheckpointLoader.load_checkpoint(str(path), 'cpu'),
    'load_checkpoint of mmengine': lambda path: load_checkpoint(torch.nn.Linear(1, 1), str(path)),
    'an init_cfg': initialized,
    'the weights of a segmentor': lambda path: UNeXt(weights=str(path)),
    'an address': lambda path: CheckpointLoader.load_checkpoint(by_address(path)),
}


@pytest.mark.parametrize('read', READERS.values(), ids=list(READERS))
def test_no_library_runs_anything(read: Callable, owned: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    with pytest.raises(CheckpointError, match=r'some\.pth'):
        read(hostile(tmp_path / 'bad' / 'some.pth', owned))


def test_addresses_of_ones_own_config_are_downloaded_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'served').mkdir()
    torch.save({'weight': torch.full((1, 1), 7.0), 'bias': torch.zeros(1)}, tmp_path / 'served' / 'w.pth')
    address, model = by_address(tmp_path / 'served' / 'w.pth'), torch.nn.Linear(1, 1)
    load_checkpoint(model, address)
    assert model.weight.item() == 7
    (tmp_path / 'served' / 'w.pth').unlink()
    load_checkpoint(torch.nn.Linear(1, 1), address)
    with pytest.raises(CheckpointError, match=r'gone\.pth'):
        CheckpointLoader.load_checkpoint(address.replace('w.pth', 'gone.pth'))
    for store in ('s3://bucket/a.pth', 'petrel://a.pth', 'pavi://a.pth'):
        with pytest.raises(CheckpointError, match='store'):
            CheckpointLoader.load_checkpoint(store)
