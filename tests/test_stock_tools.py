"""OpenMMLab's own tools on this project's configs and checkpoints, each in a process of its own, as an outsider's."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from tests.models.builders import ARCH
from tests.prepare.trees import frame, write_arcade, write_png
from vasomim.apis.preparing_labels import prepare_downstream
from vasomim.errors import ConfigError, DatasetError
from vasomim.inference.predictor import Predictor
from vasomim.registry import TRANSFORMS

ROOT = Path(__file__).parents[1]
LINE = 'import vasomim.registry\n'  # The one that docs/stack.md names.
READY = {'segmentation': LINE}  # For mmseg's API beside transformers 5.
LIBRARIES = {'pretraining': 'mmpretrain', 'segmentation': 'mmseg', 'detection': 'mmdet'}
SETS = {'segmentation': 'arcade_v', 'detection': 'arcade_s'}
BASES = {
    'pretraining': 'pretrain/mae.py',
    'segmentation': 'downstream/arcade_v/segmentation.py',
    'detection': 'downstream/arcade_s/detection.py',
}
LOADERS = """
dataset = dict(data_root='{data}')
train_dataloader = dict(batch_size=1, num_workers=1, dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(num_workers=1, dataset=dataset)
test_dataloader = dict(num_workers=1, dataset=dataset)
"""
CONFIGS = {
    'pretraining': """
model = dict(backbone=dict(arch=dict(_delete_=True, **{arch}), img_size=64),
             neck=dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2))
dataset = dict(type='AngiogramFolder', data_root='{data}', held_out=0.34)
crop = [dict(type='LoadAngiogram'), dict(type='LoadAnatomy'), dict(type='PairedResize', size=64),
        dict(type='PackAngiogram')]
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=crop, **dataset))
val_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=crop, **dataset))
train_cfg = dict(max_epochs=1)
""",
    'segmentation': """
model = dict(backbone=dict(arch=dict(_delete_=True, **{arch}), img_size=64),
             data_preprocessor=dict(size=(64, 64)), decode_head=dict(widths=(16, 8, 8, 8, 8)))
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadMask'),
                  dict(type='Resize', scale=(64, 64), keep_ratio=False), dict(type='PackSegInputs')]
train_cfg = dict(max_epochs=1)
"""
    + LOADERS,
    'detection': """
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{arch}), img_size=64, window_size=2), neck=dict(out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=16)),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)))
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='Resize', scale=(64, 64)), dict(type='PackDetInputs')]
val_evaluator = dict(ann_file='{data}/val.json')
test_evaluator = dict(ann_file='{data}/test.json')
train_cfg = dict(max_epochs=1)
"""
    + LOADERS,
}
INFERENCE = {
    'pretraining': """
import torch
from mmpretrain import get_model
model = get_model(config, pretrained=checkpoint)
found = model.extract_feat(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))[0]
meta = {}
""",
    'segmentation': """
from mmseg.apis import inference_model, init_model
model = init_model(config, checkpoint, device='cpu')
found, meta = inference_model(model, image).pred_sem_seg.data[0], model.dataset_meta
""",
    'detection': """
from mmdet.apis import inference_detector, init_detector
model = init_detector(config, checkpoint, device='cpu')
found, meta = inference_detector(model, image).pred_instances.bboxes, model.dataset_meta
""",
}
HEAD = 'import sys\nconfig, checkpoint, image = sys.argv[1:]\n'
TAIL = """
import json
weights = float(sum(value.double().abs().sum() for value in model.state_dict().values()))
print(json.dumps(dict(found=found.tolist(), classes=meta.get('classes'), weights=weights)))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared sets and frames, and a config of each task."""
    folder = tmp_path_factory.mktemp('outside')
    prepare_downstream('arcade', write_arcade(folder / 'published'), folder / 'arcade', jobs=1)
    for index in range(6):
        write_png(folder / 'frames' / f'{index}.png', frame(index, 64))
    for task in CONFIGS:
        write_config(folder, task, folder / f'{task}.py', f'{ROOT}/configs/')
    return folder


def write_config(folder: Path, task: str, path: Path, configs: str) -> Path:
    data = folder / 'arcade' / SETS[task] if task in SETS else folder / 'frames'
    path.write_text(f"_base_ = '{configs}{BASES[task]}'\n" + CONFIGS[task].format(arch=ARCH, data=data))
    return path


def outside(words: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python outside of the checkout, which is on its path as an installed package would be."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )


def tool(library: str, name: str) -> Path:
    """Return a script that comes with a library."""
    spec = importlib.util.find_spec(library)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / '.mim' / 'tools' / name


@pytest.mark.slow
@pytest.mark.parametrize('task', CONFIGS)
def test_its_librarys_own_script_trains_and_its_own_api_infers(task: str, folder: Path) -> None:
    train = tool(LIBRARIES[task], 'train.py')
    run = outside([train, folder / f'{task}.py', '--work-dir', folder / task], folder)
    assert run.returncode == 0, run.stdout + run.stderr
    checkpoint = folder / task / 'epoch_1.pth'
    stored = torch.load(checkpoint, weights_only=False)
    assert stored['meta']['iter'] == 2
    image = folder / 'frames' / '0.png'
    code = READY.get(task, '') + HEAD + INFERENCE[task] + TAIL
    run = outside(['-c', code, folder / f'{task}.py', checkpoint, image], folder)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    wanted = sum(value.double().abs().sum() for value in stored['state_dict'].values())
    assert result['weights'] == pytest.approx(float(wanted), rel=1e-6)
    found = np.array(result['found'])
    if task == 'pretraining':
        assert found.shape[-1] == ARCH['embed_dims']
        assert np.isfinite(found).all() and found.std() > 0
        return
    prediction = Predictor(checkpoint, device='cpu', score=0)(cv2.imread(str(image), cv2.IMREAD_GRAYSCALE))
    if task == 'segmentation':
        assert result['classes'] == ['background', 'vessel']
        np.testing.assert_array_equal(found, prediction.mask)
    else:
        assert result['classes'] == ['stenosis']
        np.testing.assert_allclose(found, prediction.boxes, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize('task', CONFIGS)
def test_mmengines_plain_runner_trains_a_config_that_inherits_one_by_the_packages_name(
    task: str, folder: Path, tmp_path: Path
) -> None:
    """`Runner.from_cfg`, which looks at no ``runner_type``; the one line makes the package's name known."""
    config = write_config(folder, task, tmp_path / 'mine.py', 'vasomim::')
    code = (
        LINE + 'import sys\nfrom mmengine.config import Config\nfrom mmengine.runner import Runner\n'
        'cfg = Config.fromfile(sys.argv[1])\ncfg.work_dir = sys.argv[2]\nRunner.from_cfg(cfg).train()\n'
    )
    run = outside(['-c', code, config, tmp_path / 'run'], tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)['meta']['iter'] == 2


@pytest.mark.parametrize('task', CONFIGS)
def test_no_section_of_an_inherited_config_is_bound_to_this_package(task: str, folder: Path, tmp_path: Path) -> None:
    by_name = Config.fromfile(write_config(folder, task, tmp_path / 'by_name.py', 'vasomim::'))
    assert by_name.to_dict() == Config.fromfile(folder / f'{task}.py').to_dict()


def test_every_librarys_registry_knows_the_runner_of_the_configs(folder: Path) -> None:
    libraries = ['mmengine', *LIBRARIES.values()]  # Each is imported before this project is, as by their scripts.
    code = ''.join(f'import {library}.registry\n' for library in libraries) + (
        'from mmengine.config import Config\n'
        f'name = Config.fromfile({str(folder / "pretraining.py")!r}).runner_type\n'
        f'print({", ".join(f"{library}.registry.RUNNERS.get(name).__module__" for library in libraries)})\n'
    )
    run = outside(['-c', code], folder)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].split() == ['vasomim.engine.runner'] * 4


class Payload:
    """What writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), 'w')


@pytest.mark.slow
@pytest.mark.parametrize('task', CONFIGS)
def test_nothing_in_a_checkpoint_runs_under_their_apis(task: str, folder: Path, tmp_path: Path) -> None:
    mark, checkpoint = tmp_path / 'ran', tmp_path / 'hostile.pth'
    checkpoint.write_bytes(pickle.dumps({'state_dict': Payload(mark)}))
    code = READY.get(task, '') + HEAD + INFERENCE[task] + TAIL
    run = outside(['-c', code, folder / f'{task}.py', checkpoint, folder / 'frames' / '0.png'], tmp_path)
    assert run.returncode != 0
    assert 'CheckpointError' in run.stderr and 'hostile.pth' in run.stderr
    assert not mark.exists()


def test_a_segmentor_takes_mmsegs_empty_key_for_weights_and_no_other(folder: Path) -> None:
    cfg = Config.fromfile(folder / 'segmentation.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert MODELS.build({**cfg.model, 'pretrained': None}).backbone.embed_dims == ARCH['embed_dims']
        with pytest.raises(ConfigError, match='pretrained'):
            MODELS.build({**cfg.model, 'pretrained': 'weights.pth'})


def test_an_image_of_no_data_set_needs_no_mask_and_one_of_a_data_set_does(folder: Path) -> None:
    Config.fromfile(folder / 'segmentation.py')
    load = TRANSFORMS.build(dict(type='mmseg.LoadMask'))
    alone = {'img_path': 'alone.png'}
    assert load(dict(alone)) == alone
    with pytest.raises(DatasetError, match=r'alone\.png'):
        load({**alone, 'seg_fields': []})
