"""What the config in a checkpoint builds: the models of this project, and nothing that its writer thought of."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.finetuned import write_checkpoint
from tests.models.builders import ARCH, build, vasomim_config
from vasomim.apis.configs import load_config, shipped_configs
from vasomim.checkpoints.allowance import Allowance
from vasomim.checkpoints.building import load_model
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.stored_check import buildable
from vasomim.checkpoints.stored_config import parse_config
from vasomim.checkpoints.stored_model import build_model
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import main
from vasomim.errors import CheckpointError, ConfigError
from vasomim.inference.features import FeatureExtractor
from vasomim.inference.predictor import Predictor, transforms_of_pixels

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for path in shipped_configs().rglob('*.py') if '_base_' not in path.parts)
PAGES = '\n'.join(path.read_text(encoding='utf-8') for path in [ROOT / 'README.md', *sorted(ROOT.glob('docs/*.md'))])
DOCUMENTED = sorted(set(re.findall(r'\bmodel\.[a-z_.]+=[^\s`;|,)]+', PAGES)) - {'model.backbone.arch=SIZE'})
STEP = 'test_dataloader.dataset.pipeline.1'
FRAME = np.random.RandomState(0).randint(0, 256, (64, 64)).astype(np.uint8)


@pytest.fixture(scope='module')
def sound(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('sound')
    model = vasomim_config()
    text = f'default_scope = "mmpretrain"\nmodel = {model!r}\n'
    torch.save({'meta': {'cfg': text}, 'state_dict': build(model).state_dict()}, folder / 'pretraining.pth')
    return {
        'segmentation': write_checkpoint(folder / 'segmentation.pth'),
        'detection': write_checkpoint(folder / 'detection.pth', 'stenosis/detection'),
        'pretraining': folder / 'pretraining.pth',
    }


def with_values(source: Path, target: Path, values: dict[str, Any]) -> Path:
    """Write a checkpoint whose config has other values at some dotted paths."""
    checkpoint = read_checkpoint(source)
    config = parse_config(str(checkpoint.config), source).to_dict()
    for path, value in values.items():
        node: Any = config
        *parents, last = path.split('.')
        for part in parents:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node.setdefault(part, {})
        node[int(last) if isinstance(node, (list, tuple)) else last] = value
    save_weights(checkpoint.tensors, target, '\n'.join(f'{name} = {value!r}' for name, value in config.items()))
    return target


class Payload:
    """Pickles into a call that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.mark,)


def expression(mark: Path) -> str:
    """An expression without a call that runs a command where it is evaluated."""
    return f"nms if [exit['mkdir {mark}'] for exit.__class__.__getitem__ in [torch.os.system]] else 0"


def hostile(folder: Path, mark: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Names of attacks, each with the checkpoint that it is written into and what it changes; all would make a file."""
    code = f'import os\nos.makedirs({str(mark)!r}, exist_ok=True)\n'
    (folder / 'mc.py').write_text(code)
    (folder / 'teacher.py').write_text(f'{code}model = dict()\n')
    (folder / 'evil_package.py').write_text(code)
    sound = str(folder / 'student.py')
    (folder / 'student.py').write_text(
        'model = dict(type="RetinaNet", backbone=dict(type="ResNet", depth=18), bbox_head=dict(type="RetinaHead",'
        'num_classes=1, in_channels=16), neck=dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=16,'
        'num_outs=5))\n'
    )
    pickled = pickle.dumps(Payload(mark))
    (folder / 'evil.pkl').write_bytes(pickled)
    torch.save({'state_dict': Payload(mark)}, folder / 'evil.pth')
    client = {'backend': 'memcached', 'sys_path': str(folder), 'server_list_cfg': 'a', 'client_cfg': 'b'}
    loading = {'type': 'LoadImageFromFile', 'file_client_args': client}
    teacher = {
        'type': 'KnowledgeDistillationSingleStageDetector',
        'backbone': {'type': 'mmpretrain.PlainViT', 'arch': ARCH, 'img_size': 64},
        'neck': {'type': 'FPN', 'in_channels': [24] * 4, 'out_channels': 16, 'num_outs': 5},
        'bbox_head': {'type': 'RetinaHead', 'num_classes': 1, 'in_channels': 16, 'feat_channels': 16},
        'teacher_config': str(folder / 'teacher.py'),
    }
    motion = {'type': 'CameraMotionCompensation', 'warp_mode': expression(mark)}
    dtype = f"uint8 if [exit['mkdir {mark}'] for exit.__class__.__getitem__ in [torch.os.system]] else 0"
    evil = str(folder / 'evil.pth')
    start = {'type': 'Pretrained', 'checkpoint': evil}
    return {
        'expression in nms': ('detection', {'model.test_cfg.rcnn.nms.type': expression(mark)}),
        'call in nms': ('detection', {'model.test_cfg.rcnn.nms.type': f'__import__("os").mkdir("{mark}")'}),
        'expression in a transform': (
            'segmentation',
            {STEP: {'type': 'mmpretrain.torchvision/ConvertImageDtype', 'dtype': dtype}},
        ),
        'expression in a task': ('detection', {'model.rpn_head.anchor_generator': motion}),
        'config of a teacher': ('detection', {'model': teacher}),
        'weights of a teacher': ('detection', {'model': {**teacher, 'teacher_config': sound, 'teacher_ckpt': evil}}),
        'file client': ('segmentation', {'test_dataloader.dataset.pipeline.0': loading}),
        'nested file client': ('segmentation', {STEP: {'type': 'RandomApply', 'prob': 1.0, 'transforms': [loading]}}),
        'pickle of weights of classes': (
            'segmentation',
            {'model.decode_head.loss_decode': [{'type': 'CrossEntropyLoss', 'class_weight': str(folder / 'evil.pkl')}]},
        ),
        'initialization': ('segmentation', {'model.backbone.init_cfg': start, 'model.init_cfg': start}),
        'pretrained': ('segmentation', {'model.backbone.pretrained': evil}),
        'import of a module': ('segmentation', {'custom_imports': {'imports': ['evil_package']}}),
        'import of a command': ('segmentation', {'custom_imports': {'imports': ['vasomim.__main__']}}),
        'function': ('segmentation', {'model.backbone': {'type': 'os.mkdir', 'path': str(mark)}}),
        'method': ('detection', {'model.rpn_head.bbox_coder': {'type': 'pathlib.Path.mkdir', 'self': str(mark)}}),
        'scope': ('segmentation', {'model._scope_': 'evil_package'}),
        'whole scope': ('segmentation', {'default_scope': 'evil_package'}),
        'encoder of a pre-training': ('pretraining', {'model.backbone': {'type': 'os.mkdir', 'path': str(mark)}}),
        'pre-training from a pickle': ('pretraining', {'model.segmentor.weights': evil, 'model.init_cfg': start}),
        'teacher of a pre-training': ('pretraining', {'model': {**teacher, '_scope_': 'mmdet'}}),
        'import in a pre-training': ('pretraining', {'custom_imports': {'imports': 'evil_package'}}),
    }


SOUND_WITHOUT = {  # What is hostile in them is neither needed nor built.
    'file client',
    'initialization',
    'import of a module',
    'import of a command',
    'pre-training from a pickle',
    'import in a pre-training',
}
VERBS: dict[str, Callable[[Path, Path], list[str]]] = {
    'predict': lambda file, folder: [str(file), str(folder / 'frames'), str(folder / 'predicted'), '--score', '0'],
    'test': lambda file, folder: [f'vasomim::downstream/{TESTED[file.stem.split("-")[0]]}.py', str(file)],
    'export': lambda file, folder: [str(file), str(folder / 'model.onnx')],
    'visualize': lambda file, folder: [str(file), str(folder / 'frames'), str(folder / 'drawn.png')],
}
TESTED = {
    'detection': 'stenosis/detection',
    'segmentation': 'arcade_v/segmentation',
    'pretraining': 'arcade_v/segmentation',
}
RUN = """
import json, sys
from pathlib import Path
from vasomim.cli import main
statuses = {}
for name, arguments in json.loads(sys.stdin.read()).items():
    try:
        statuses[name] = main(sys.argv[1], arguments)
    except BaseException as error:
        statuses[name] = repr(error)
    if Path(sys.argv[2]).exists():
        statuses[name] = 'made the file'
        Path(sys.argv[2]).rmdir()
Path('statuses.json').write_text(json.dumps(statuses))
"""


@pytest.fixture
def attacks(sound, tmp_path) -> dict[str, Path]:
    (tmp_path / 'frames').mkdir()
    cv2.imwrite(str(tmp_path / 'frames' / 'a.png'), FRAME)
    files = {}
    for number, (name, (task, values)) in enumerate(hostile(tmp_path, tmp_path / 'mark').items()):
        files[name] = with_values(sound[task], tmp_path / f'{task}-{number}.safetensors', values)
    return files


def run_all(verb: str, arguments: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Run a verb with each of the arguments in a process in whose folder and path the hostile modules lie."""
    process = subprocess.run(
        [sys.executable, '-c', RUN, verb, str(folder / 'mark')],
        cwd=folder,
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{folder}', 'VASOMIM_PLUGINS': ''},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads((folder / 'statuses.json').read_text())


@pytest.mark.parametrize(
    'verb', ['predict', 'visualize', *(pytest.param(verb, marks=pytest.mark.slow) for verb in ('test', 'export'))]
)
def test_no_hostile_config_runs_code_in_any_verb(attacks, tmp_path, verb) -> None:
    statuses = run_all(verb, {name: VERBS[verb](file, tmp_path) for name, file in attacks.items()}, tmp_path)
    assert statuses.keys() == attacks.keys()
    tasks = {'visualize': ('pretraining',), 'export': ('segmentation',)}.get(verb, ('segmentation', 'detection'))
    for name, status in statuses.items():
        works = verb != 'test' and name in SOUND_WITHOUT and attacks[name].stem.split('-')[0] in tasks
        assert status == (0 if works else 2), f'{name}: {status}'


@pytest.mark.slow
def test_the_hostile_configs_are_what_they_are_taken_for(attacks, tmp_path) -> None:
    """Each of them runs its code where the user trusts it, so that the test above can fail."""
    harmless = {*SOUND_WITHOUT, 'scope', 'whole scope', 'method', 'pretrained'} - {'import of a module'}
    harmless |= {'weights of a teacher'}  # The one reader of checkpoints runs no pickle, trusted or not.
    names = [name for name, file in attacks.items() if name not in harmless and file.stem[:3] != 'pre']
    arguments = {name: [*VERBS['predict'](attacks[name], tmp_path), '--trust-config'] for name in names}
    statuses = run_all('predict', arguments, tmp_path)
    assert [name for name, status in statuses.items() if status != 'made the file'] == []


def stored(path: Path, options: list[str]) -> tuple[Config, str]:
    """A config as its training stores it, and the scope that it is built in."""
    cfg = parse_config(load_config(str(path), options).pretty_text, 'a.pth')
    return cfg, cfg.default_scope


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_each_config_of_this_project_passes_with_each_documented_option(path: Path) -> None:
    for options in [[], *([option] for option in DOCUMENTED)]:
        try:
            cfg, scope = stored(path, options)
        except ConfigError:
            continue  # An option of another model.
        section = buildable(cfg.model, 'model', cfg, scope, 'a.pth')
        assert section['type'] == cfg.model.type
        if scope != 'mmpretrain':
            assert [step['type'] for step in transforms_of_pixels(cfg, 'a.pth')] == [
                step['type'] for step in cfg.test_dataloader.dataset.pipeline if 'Load' not in step['type']
            ]


def test_each_documented_option_of_a_model_fits_a_config() -> None:
    assert len(DOCUMENTED) >= 8
    unread = set(DOCUMENTED)
    for path in SHIPPED:
        for option in list(unread):
            try:
                load_config(str(path), [option])
            except ConfigError:
                continue
            unread.remove(option)
    assert unread == set()


FCN = {'type': 'FCNHead', 'in_channels': 24, 'channels': 8, 'num_classes': 2, 'in_index': -1}
LOSSES = [
    {'type': 'DiceLoss'},
    {'type': 'TverskyLoss', 'alpha': 0.3, 'beta': 0.7},
    {'type': 'LovaszLoss', 'loss_type': 'multi_class', 'reduction': 'none'},
    {'type': 'FocalLoss', 'loss_weight': 0.5},
    {'type': 'CrossEntropyLoss', 'class_weight': [1.0, 5.0]},
]
NORM = {'type': 'GN', 'num_groups': 4, 'requires_grad': True}
FOUR = {'in_channels': [24] * 4, 'in_index': [0, 1, 2, 3], 'channels': 8, 'num_classes': 2, 'norm_cfg': NORM}
HEADS = {
    'fcn': {**FCN, 'loss_decode': LOSSES, 'norm_cfg': NORM},
    'psp': {**FCN, 'type': 'PSPHead', 'pool_scales': (1, 2), 'norm_cfg': NORM},
    'aspp': {**FCN, 'type': 'DepthwiseSeparableASPPHead', 'c1_in_channels': 0, 'c1_channels': 0, 'dilations': (1, 2)},
    'segformer': {**FOUR, 'type': 'SegformerHead', 'interpolate_mode': 'bilinear'},
    'uper': {**FOUR, 'type': 'UPerHead', 'pool_scales': (1, 2), 'align_corners': False},
}


@pytest.mark.parametrize('head', HEADS)
def test_heads_and_losses_of_mmseg_may_be_combined_with_the_encoder(sound, tmp_path, head) -> None:
    model = {
        'type': 'EncoderDecoder',
        'pretrained': 'open-mmlab://resnet50_v1c',
        'data_preprocessor': {'type': 'SegDataPreProcessor', 'mean': [0.0] * 3, 'std': [1.0] * 3, 'size': (64, 64)},
        'backbone': {'type': 'mmpretrain.PlainViT', 'arch': ARCH, 'img_size': 64, 'out_indices': [0, 0, 1, 1]},
        'decode_head': HEADS[head],
        'auxiliary_head': [{**FCN, 'num_convs': 1, 'loss_decode': {'type': 'OhemCrossEntropy'}}],
        'train_cfg': {},
        'test_cfg': {'mode': 'slide', 'crop_size': (64, 64), 'stride': (32, 32)},
    }
    file = with_values(sound['segmentation'], tmp_path / 'other.safetensors', {'model': model})
    section = buildable(model, 'model', Config({}), 'mmseg', file)
    tensors = build_model(section, 'mmseg', {}, file).state_dict()
    save_weights(tensors, file, read_checkpoint(file).config)
    mask = Predictor(file, 'cpu')(FRAME).mask
    assert mask is not None and mask.shape == FRAME.shape


def test_no_file_that_a_config_names_is_read_or_needed(sound, tmp_path) -> None:
    start = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'gone.pth')}
    values = {'model.segmentor.weights': str(tmp_path / 'gone.pth'), 'model.init_cfg': start}
    file = with_values(sound['pretraining'], tmp_path / 'a.safetensors', {**values, 'model.backbone.init_cfg': start})
    model, expected = load_model(file), load_model(sound['pretraining'])
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)
    assert model.cfg.model.segmentor.weights == values['model.segmentor.weights']  # What it says is still told.


# Malformed in one way each; predict, or visualize where the task is the pre-training.
MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ('segmentation', {'model': 5}),
    ('segmentation', {'model': []}),
    ('segmentation', {'model': {}}),
    ('segmentation', {'model.type': ['PlainViTSegmentor']}),
    ('segmentation', {'model.type': None}),
    ('segmentation', {'model.type': ''}),
    ('segmentation', {'model.type': 'mmseg.'}),
    ('segmentation', {'model.type': 'mmcv.EncoderDecoder'}),
    ('segmentation', {'model._scope_': ['mmseg']}),
    ('segmentation', {'model._scope_': 'mmcv'}),
    ('segmentation', {'default_scope': ['mmseg']}),
    ('segmentation', {'default_scope': {'a': 1}}),
    ('segmentation', {'custom_imports': 5}),
    ('segmentation', {'custom_imports': ['vasomim.models']}),
    ('segmentation', {'custom_imports': {'imports': [['vasomim.models']]}}),
    ('segmentation', {'custom_imports': {'imports': ['vasomim..models']}}),
    ('segmentation', {'custom_imports': {'imports': ['vasomim.models\0']}}),
    ('segmentation', {'model.backbone': 'PlainViT'}),
    ('segmentation', {'model.backbone': None}),
    ('segmentation', {'model.backbone.img_size': '64'}),
    ('segmentation', {'model.backbone.img_size': -64}),
    ('segmentation', {'model.backbone.patch_size': 0}),
    ('segmentation', {'model.backbone.arch': 'gigantic'}),
    ('segmentation', {'model.backbone.arch': {}}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 'num_heads': 5}}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 'num_heads': 0}}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 'embed_dims': 24.5}}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 5: 6}}),
    ('segmentation', {'model.backbone.drop_path_rate': True}),
    ('segmentation', {'model.backbone.out_indices': [-5, 900]}),
    ('segmentation', {'model.decode_head.widths': (16, 8)}),
    ('segmentation', {'model.decode_head.widths': (16, 8, 8, 8, -8)}),
    ('segmentation', {'model.decode_head.num_classes': [2]}),
    ('segmentation', {'model.decode_head.loss_decode': {}}),
    ('segmentation', {'model.decode_head.nonsense': 1}),
    ('segmentation', {'model.test_cfg': {'mode': 'whole', 5: 6}}),
    ('segmentation', {'model.data_preprocessor.mean': 'grey'}),
    ('segmentation', {'test_dataloader': 5}),
    ('segmentation', {'test_dataloader.dataset': []}),
    ('segmentation', {'test_dataloader.dataset.pipeline': {}}),
    ('segmentation', {'test_dataloader.dataset.pipeline': [5]}),
    ('segmentation', {STEP: {'type': 5}}),
    ('segmentation', {STEP: {'scale': (64, 64)}}),
    ('segmentation', {STEP: {'type': 'Resize', 'scale': 'large'}}),
    ('detection', {'model.neck': [{'type': 'SimpleFeaturePyramid'}]}),
    ('detection', {'model.rpn_head.anchor_generator.strides': []}),
    ('detection', {'model.rpn_head.anchor_generator.scales': None}),
    ('detection', {'model.roi_head.bbox_head.bbox_coder.target_means': 'zero'}),
    ('detection', {'model.test_cfg.rcnn.nms.type': 5.0}),
    ('detection', {'model.test_cfg.rcnn.nms.iou_threshold': '0.5'}),
    ('pretraining', {'model': 'VasoMIM'}),
    ('pretraining', {'model.backbone': 5}),
    ('pretraining', {'model.masking': {'type': 'AnatomyMasking', 'ratio': 'half'}}),
    ('pretraining', {'model.segmentor': {'type': 'UNeXt', 'widths': 5}}),
    ('pretraining', {'model.eta': None}),
    ('pretraining', {'model.eta': 5}),
    ('pretraining', {'train_dataloader': 5}),
    ('pretraining', {'train_dataloader.dataset.filter': ['sato']}),
]


@pytest.mark.parametrize(('task', 'values'), MALFORMED, ids=lambda value: str(value)[:60])
def test_a_malformed_config_is_an_error_of_the_checkpoint(sound, tmp_path, capsys, task, values) -> None:
    (tmp_path / 'frames').mkdir()
    cv2.imwrite(str(tmp_path / 'frames' / 'a.png'), FRAME)
    file = with_values(sound[task], tmp_path / 'bad.safetensors', values)
    verb = 'visualize' if task == 'pretraining' else 'predict'
    assert main(verb, VERBS[verb](file, tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.startswith('CheckpointError: ') and 'bad.safetensors' in error, error


@pytest.mark.parametrize(
    'values',
    [
        {'img_size': '64'},
        {'img_size': 0},
        {'img_size': [64, 64, 64]},
        {'patch_size': 0},
        {'patch_size': 16.5},
        {'arch': 5},
        {'arch': {'embed_dims': 24}},
        {'arch': {**ARCH, 'num_heads': '3'}},
        {'arch': {**ARCH, 'num_heads': 5}},
        {'window_size': 'large'},
        {'window_size': -1},
        {'global_layers': 5},
        {'global_layers': ['a']},
        {'window_size': 2, 'global_layers': [900]},
    ],
    ids=str,
)
def test_an_encoder_from_a_malformed_config_is_an_error_of_the_checkpoint(sound, tmp_path, values) -> None:
    values = {f'model.backbone.{key}': value for key, value in values.items()}
    file = with_values(sound['segmentation'], tmp_path / 'bad.safetensors', values)
    with pytest.raises(CheckpointError, match=r'bad\.safetensors'):
        FeatureExtractor(file, device='cpu')


HUGE: list[tuple[str, dict[str, Any]]] = [
    ('segmentation', {'model.backbone.arch': dict.fromkeys(ARCH, 10**6)}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 'embed_dims': 60000, 'feedforward_channels': 60000}}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 'num_layers': 65000}}),
    ('segmentation', {'model.backbone.arch': {**ARCH, 'num_layers': 10**12}}),
    ('segmentation', {'model.backbone.img_size': 60000}),
    ('segmentation', {'model.decode_head.widths': [60000] * 5}),
    ('segmentation', {'model.decode_head.widths': [8] * 10**5}),
    ('segmentation', {'model.decode_head.loss_decode': [{'type': 'SoftDiceLoss'}] * 5000}),
    ('segmentation', {'model.data_preprocessor.size': (10**6, 10**6)}),
    ('segmentation', {f'{STEP}.scale': (60000, 60000)}),
    ('segmentation', {STEP: {'type': 'Resize', 'scale_factor': 1000.0}}),
    ('segmentation', {'model.decode_head.groups': float('1e300') * 0 + 10**30}),
    ('detection', {'model.neck.out_channels': 60000}),
    ('detection', {'model.roi_head.bbox_roi_extractor.roi_layer.output_size': 60000}),
    ('detection', {'model.roi_head.bbox_head.fc_out_channels': 60000}),
    ('detection', {'model.data_preprocessor.pad_size_divisor': 60000}),
    ('pretraining', {'model.neck.decoder_embed_dim': 60000}),
    ('pretraining', {'model.neck.decoder_depth': 60000}),
    ('pretraining', {'model.backbone.img_size': 60000}),
    ('pretraining', {'model.segmentor.widths': [60000] * 5}),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(('task', 'values'), HUGE, ids=lambda value: str(value)[:60])
def test_a_huge_model_is_refused_before_its_memory_is_taken(sound, tmp_path, task, values) -> None:
    file = with_values(sound[task], tmp_path / 'huge.safetensors', values)
    load = load_model if task == 'pretraining' else Predictor
    with pytest.raises(CheckpointError, match=r'huge\.safetensors'):
        load(file, 'cpu')


def test_deeply_nested_and_long_configs_are_refused(sound, tmp_path) -> None:
    tensors = read_checkpoint(sound['pretraining']).tensors
    deep: Any = 1
    for _ in range(60):
        deep = {'a': deep}
    for model in (f'dict(type="VasoMIM", a={deep!r})', '[' * 5000, f'{"(" * 90}{")" * 90}', repr('a' * (1 << 21))):
        save_weights(tensors, tmp_path / 'bad.safetensors', f'model = {model}\n')
        with pytest.raises(CheckpointError, match=r'bad\.safetensors'):
            load_model(tmp_path / 'bad.safetensors')


@pytest.mark.parametrize(
    'make',
    [
        lambda: torch.empty(10**13),
        lambda: torch.zeros(10**7, 10**6),
        lambda: torch.nn.Linear(10**7, 10**6),
        lambda: torch.Tensor(10**7, 10**6),
        lambda: torch.ones(1).repeat(10**13),
        lambda: torch.arange(10**13),
        lambda: torch.randn(10**13, generator=torch.Generator()),
        lambda: torch.meshgrid(torch.ones(10**6), torch.ones(10**7), indexing='ij')[0] + 1,
        lambda: [torch.empty(1) for _ in range(10**5)],
        lambda: [torch.empty(10**7) for _ in range(10**5)],
    ],
)
def test_tensors_beyond_the_allowance_are_not_made(make) -> None:
    with pytest.raises(MemoryError, match='larger than the tensors'), Allowance({}):
        make()


def test_an_allowance_goes_by_what_is_stored(sound) -> None:
    claimed = {f'a{index}': torch.zeros(1).expand(10**12) for index in range(3)}
    whole = torch.zeros(1000)
    assert Allowance(claimed).values == Allowance({}).values + 4 * 3
    assert Allowance({'a': whole, 'b': whole[:500]}).values == Allowance({}).values + 4 * 1000


@pytest.mark.parametrize(
    ('classes', 'expected'),
    [(5, None), ('vessel', None), ([1, 2], None), ({'a': 1}, None), (['background', 'a'], ('a',))],
)
def test_classes_are_names(sound, tmp_path, classes, expected) -> None:
    content = torch.load(sound['segmentation'], weights_only=True)
    content['meta']['dataset_meta'] = {'classes': classes}
    torch.save(content, tmp_path / 'a.pth')
    if expected is None:
        with pytest.raises(CheckpointError, match=r'a\.pth.*classes'):
            Predictor(tmp_path / 'a.pth', 'cpu')
    else:
        assert Predictor(tmp_path / 'a.pth', 'cpu').classes == expected


def test_what_is_not_on_the_list_is_named_and_built_where_it_is_trusted(sound, tmp_path, monkeypatch) -> None:
    """A stock class that nobody has read so far: the error says which, and two ways go on."""
    preprocessor = {'type': 'mmseg.SegDataPreProcessor', 'mean': [0.0] * 3, 'std': [1.0] * 3, 'size': (64, 64)}
    head = {**FCN, 'type': 'mmseg.APCHead', 'pool_scales': (1, 2), 'fusion': True}
    backbone = {'type': 'mmpretrain.PlainViT', 'arch': ARCH, 'img_size': 64}
    model = {'type': 'EncoderDecoder', 'data_preprocessor': preprocessor, 'backbone': backbone, 'decode_head': head}
    file = with_values(
        sound['segmentation'], tmp_path / 'a.safetensors', {'model': {**model, 'test_cfg': {'mode': 'whole'}}}
    )
    with pytest.raises(CheckpointError, match=r'model\.decode_head\.type .*APCHead.*\n.*trust'):
        Predictor(file, 'cpu')
    with pytest.raises(CheckpointError, match='another architecture'):  # Built, with other tensors than those here.
        Predictor(file, 'cpu', trust_config=True)
    monkeypatch.setenv('VASOMIM_PLUGINS', 'mmseg')
    with pytest.raises(CheckpointError, match='another architecture'):
        Predictor(file, 'cpu')
