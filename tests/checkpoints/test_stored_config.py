"""The config in a checkpoint is data: what it says is read, and nothing that it names runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.finetuned import write_checkpoint
from tests.models.builders import ARCH, build, vasomim_config
from vasomim.apis.configs import load_config, shipped_configs
from vasomim.benchmark.study.plan import config_text
from vasomim.checkpoints.building import load_model
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.stored_config import parse_config
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import main
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError
from vasomim.inference.predictor import Predictor
from vasomim.models.plain_vit import PlainViT

SHIPPED = sorted(path for path in shipped_configs().rglob('*.py') if '_base_' not in path.parts)
SEGMENTATION = 'vasomim::downstream/arcade_v/segmentation.py'


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_what_mmengine_and_the_benchmark_write_is_read_as_mmengine_reads_it(path: Path) -> None:
    cfg = load_config(str(path))
    for text in (cfg.pretty_text, config_text(cfg)):
        assert parse_config(text, 'a.pth').to_dict() == Config.fromstring(text, '.py').to_dict()


@pytest.mark.parametrize(
    'line',
    [
        "open('{mark}', 'w')",
        "a = open('{mark}', 'w')",
        "a = [dict(b=open('{mark}', 'w'))]",
        "a = {{'b': open('{mark}', 'w')}}",
        "a = dict(**{{'b': open('{mark}', 'w')}})",
        "a = dict(open('{mark}', 'w'))",
        "a = {{**open('{mark}', 'w')}}",
        "a = (1)(open('{mark}', 'w'))",
        'import os',
        'import os\nos.mkdir("{mark}")',
        'a = b = 1',
        'a: int = 1',
        'a.b = 1',
        'a += 1',
        "a = f'{{1}}'",
        'a = [each for each in (1, 2)]',
        'a = 1 if True else 2',
        "filename = 'a'",
        'a = (',
        'a = "\0"',
    ],
)
def test_anything_but_plain_values_is_refused(tmp_path: Path, line: str) -> None:
    mark = tmp_path / 'executed'
    with pytest.raises(CheckpointError, match=r'a\.pth: its config is no list of plain values'):
        parse_config(f'b = 1\n{line.format(mark=mark)}\n', 'a.pth')
    assert not mark.exists()


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / 'frames'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), np.random.RandomState(0).randint(0, 256, (64, 64)).astype(np.uint8))
    return folder


ROUTES: dict[str, Callable[[str, Path], list[str]]] = {
    'predict': lambda file, frames: [file, str(frames), f'{frames}_out'],
    'extract-features': lambda file, frames: [file, str(frames), f'{frames}.npz'],
    'visualize': lambda file, frames: [file, str(frames), f'{frames}.png'],
    'test': lambda file, frames: [SEGMENTATION, file],
    'export': lambda file, frames: [file, f'{frames}.onnx'],
    'convert': lambda file, frames: [file, f'{frames}.safetensors', '--resize', '2', '2'],
}


@pytest.mark.parametrize('verb', ROUTES)
def test_code_in_a_config_runs_in_no_verb(tmp_path: Path, frames: Path, verb: str, capsys) -> None:
    mark = tmp_path / 'executed'
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / 'sound.pth'))
    code = f"{checkpoint.config}\nname = open({str(mark)!r}, 'w')\n"
    save_weights(checkpoint.tensors, tmp_path / 'bad.safetensors', code)
    status = main(verb, ROUTES[verb](str(tmp_path / 'bad.safetensors'), frames))
    assert not mark.exists()
    assert status == 2
    assert 'bad.safetensors: its config is no list of plain values' in capsys.readouterr().err


def test_code_in_the_config_of_an_encoder_to_start_from_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / 'executed'
    tensors = {f'backbone.{name}': tensor for name, tensor in PlainViT(ARCH, img_size=64).state_dict().items()}
    save_weights(tensors, tmp_path / 'bad.safetensors', f"name = open({str(mark)!r}, 'w')\n")
    with pytest.raises(CheckpointError, match='no list of plain values'):
        load_encoder(PlainViT(ARCH, img_size=96), tmp_path / 'bad.safetensors')
    assert not mark.exists()


def with_config(source: Path, target: Path, change: Callable[[Config], None]) -> Path:
    """Write a checkpoint with a changed config; every expression in it is a plain value."""
    checkpoint = read_checkpoint(source)
    cfg = parse_config(str(checkpoint.config), source)
    change(cfg)
    save_weights(checkpoint.tensors, target, cfg.pretty_text)
    return target


@pytest.mark.parametrize(
    ('place', 'value'),
    [
        ('model', {'type': 'os.mkdir', 'path': '{mark}'}),
        ('model.backbone', {'type': 'os.mkdir', 'path': '{mark}'}),
        ('model.rpn_head.anchor_generator', {'type': 'pathlib.Path.touch', 'self': '{mark}'}),
        ('model.test_cfg.rcnn.nms', {'type': '__import__("os").mkdir("{mark}")'}),
        ('test_dataloader.dataset.pipeline.1', {'type': 'os.mkdir', 'path': '{mark}'}),
        ('model._scope_', 'written_beside'),
    ],
)
def test_only_registered_classes_are_built(tmp_path: Path, monkeypatch, place: str, value: object) -> None:
    mark = tmp_path / 'executed'
    (tmp_path / 'written_beside').mkdir()
    (tmp_path / 'written_beside' / '__init__.py').write_text('')
    (tmp_path / 'written_beside' / 'registry.py').write_text(f'open({str(mark)!r}, "w")\n')
    monkeypatch.syspath_prepend(tmp_path)
    if isinstance(value, dict):
        value = {key: text.replace('{mark}', str(mark)) for key, text in value.items()}

    def change(cfg: Config) -> None:
        cfg.merge_from_dict({place: value} if not isinstance(value, dict) else {place: {'_delete_': True, **value}})

    sound = write_checkpoint(tmp_path / 'sound.pth', 'stenosis/detection')
    bad = with_config(sound, tmp_path / 'bad.safetensors', change)
    with pytest.raises(CheckpointError, match=rf'{place.removesuffix("._scope_").replace(".", "[.]")}.* of its config'):
        Predictor(bad, 'cpu')(np.zeros((64, 64), np.uint8))
    assert not mark.exists()
    assert Predictor(sound, 'cpu')(np.zeros((64, 64), np.uint8)).boxes is not None


def test_a_module_outside_is_imported_where_the_user_names_it(tmp_path: Path, monkeypatch) -> None:
    """A pre-training of another package: its class is known once its package is trusted."""
    (tmp_path / 'outside_plugin.py').write_text(
        'from vasomim.models import MaskedImageModeling\n'
        'from vasomim.registry import MODELS\n'
        '@MODELS.register_module(force=True)\n'
        'class OutsideMIM(MaskedImageModeling):\n'
        '    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = vasomim_config()
    text = f'custom_imports = dict(imports=["outside_plugin"])\nmodel = {dict(config, type="OutsideMIM")!r}\n'
    torch.save({'meta': {'cfg': text}, 'state_dict': build(config).state_dict()}, tmp_path / 'run.pth')
    with pytest.raises(CheckpointError, match=r"'OutsideMIM'.*\n.*VASOMIM_PLUGINS=outside_plugin"):
        load_model(tmp_path / 'run.pth')
    assert 'outside_plugin' not in sys.modules
    monkeypatch.setenv('VASOMIM_PLUGINS', 'another, outside_plugin')
    assert type(load_model(tmp_path / 'run.pth')).__name__ == 'OutsideMIM'


def test_a_module_that_is_gone_is_named(tmp_path: Path) -> None:
    text = f'custom_imports = dict(imports=["vasomim.gone"])\nmodel = {vasomim_config()!r}\n'
    torch.save({'meta': {'cfg': text}, 'state_dict': {'a': torch.zeros(1)}}, tmp_path / 'run.pth')
    with pytest.raises(CheckpointError, match=r'its config imports vasomim\.gone'):
        load_model(tmp_path / 'run.pth')
