"""Downstream tasks from a config by the command line: train from a pre-trained encoder, test, predict."""

from __future__ import annotations

import csv
import doctest
import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from tests.models.builders import ARCH
from tests.prepare.trees import write_pairs, write_voc
from vasomim.apis.configs import load_config
from vasomim.apis.evaluating import defined, pick
from vasomim.apis.training import default_work_dir
from vasomim.checkpoints.loading import SIZES
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import main
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError
from vasomim.inference import predictor as predictor_module
from vasomim.inference.predictor import Predictor
from vasomim.models.plain_vit import PlainViT
from vasomim.prepare.catalog import all_datasets

ROOT = Path(__file__).parents[1]
# Configs, and which published set the simulator and `vasomim prepare` make for them.
SETS = {
    f'{each.name}/{path.stem}': dataset.name
    for dataset in all_datasets()
    for each in dataset.sets
    for path in (ROOT / 'configs' / 'downstream' / each.name).glob('*.py')
}
FRAMES = {'arcade': 16, 'xcav': 48, 'stenosis': 48}  # Cines need more than the 8 of the others.
ENCODER = dict(_delete_=True, **ARCH)

CONFIGS = {
    'segmentation': """
_base_ = '{root}/configs/downstream/arcade_v/segmentation.py'
custom_imports = dict(
    imports=['vasomim.models.segmentation', 'vasomim.evaluation.segmentation_metric', 'vasomim.engine'])
model = dict(
    backbone=dict(arch={arch}, img_size=224), decode_head=dict(widths=(16, 8, 8, 8, 8)))
data = dict(type='BaseSegDataset', data_root='{data}', metainfo=dict(classes=('background', 'vessel')),
            data_prefix=dict(img_path='images', seg_map_path='masks'), img_suffix='.png', seg_map_suffix='.png')
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, **data, pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                                     dict(type='RandomCrop', crop_size=(224, 224)), dict(type='PackSegInputs')]))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)), dict(type='LoadAnnotations'),
                 dict(type='PackSegInputs')]
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=dict(_delete_=True, **data, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
""",
    'detection': """
_base_ = '{root}/configs/downstream/stenosis/detection.py'
custom_imports = dict(
    imports=['vasomim.models.detection', 'vasomim.evaluation.detection_cases', 'vasomim.engine'])
model = dict(
    backbone=dict(arch={arch}, img_size=64, window_size=2), neck=dict(out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=16)),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)))
data = dict(type='CocoDataset', data_root='{data}', ann_file='boxes.json', data_prefix=dict(img='images/'),
            metainfo=dict(classes=('stenosis',), palette=[(255, 0, 0)]))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, **data, pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                                     dict(type='Resize', scale=(64, 64)), dict(type='PackDetInputs')]))
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=dict(_delete_=True, **data, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{data}/boxes.json')
test_evaluator = dict(ann_file='{data}/boxes.json')
train_cfg = dict(max_epochs=1)
""",
}


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of 96 x 80 with a dark bar, its mask and its box."""
    root = tmp_path_factory.mktemp('data')
    for folder in ('images', 'masks'):
        (root / folder).mkdir()
    random = np.random.RandomState(0)
    images, annotations = [], []
    for index in range(4):
        mask = np.zeros((80, 96), np.uint8)
        x, y = (int(value) for value in random.randint(5, 40, 2))
        mask[y : y + 12, x : x + 40] = 1
        frame = np.where(mask > 0, 60, 150) + random.randint(-20, 20, mask.shape)
        cv2.imwrite(str(root / 'images' / f'{index}.png'), frame.astype(np.uint8))
        cv2.imwrite(str(root / 'masks' / f'{index}.png'), mask)
        images.append(dict(id=index, file_name=f'{index}.png', width=96, height=80))
        box = dict(bbox=[x, y, 40, 12], area=480, iscrowd=0, category_id=1)
        annotations.append(dict(id=index + 1, image_id=index, **box))
    coco = dict(images=images, annotations=annotations, categories=[dict(id=1, name='stenosis')])
    (root / 'boxes.json').write_text(json.dumps(coco))
    return root


def pretrained(path: Path, size: int = 64, name: str = 'backbone.', arch: str | dict = ARCH) -> Path:
    torch.manual_seed(1)
    tensors = PlainViT(arch=arch, img_size=size).state_dict()
    save_weights({name + key: torch.randn_like(tensor) for key, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope='module', params=list(CONFIGS))
def run(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Task, config and work directory of two iterations that started from a pre-trained encoder."""
    folder = tmp_path_factory.mktemp(request.param)
    config = folder / f'{request.param}_tiny.py'
    config.write_text(CONFIGS[request.param].format(root=ROOT, data=data, arch=ENCODER))
    init = pretrained(folder / 'encoder.safetensors')
    arguments = [str(config), '--work-dir', str(folder / 'run'), '--init', str(init), '--seed', '0']
    assert main('train', arguments) == 0
    DefaultScope._instance_dict.clear()
    return request.param, config, folder / 'run'


def test_the_load_is_reported_and_stored(run) -> None:
    report = json.loads((run[2] / 'encoder_init.json').read_text())
    assert report['share'] == 1.0 and 'pos_embed' in report['matched'] and not report['missing']


def test_testing_writes_metrics_cases_and_pictures(run, data, capsys) -> None:
    task, config, folder = run
    assert main('test', [str(config), str(folder), '--num', '1']) == 0
    metrics = json.loads((folder / 'test' / 'metrics.json').read_text())['metrics']
    with open(folder / 'test' / 'cases.csv', newline='') as file:
        cases = list(csv.DictReader(file))
    assert sorted(Path(case['image']).name for case in cases) == [f'{index}.png' for index in range(4)]
    if task == 'segmentation':
        assert metrics['DSC'] == pytest.approx(np.mean([float(case['DSC']) for case in cases]))
        assert metrics['clDice'] is not None
    else:
        assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75'} <= set(metrics)
        assert [case['true_boxes'] for case in cases] == ['1'] * 4
    picture = cv2.imread(str(folder / 'test' / 'cases.png'))
    assert picture.shape[1] == 3 * (96 * 3 + 6) + 6  # Frames of 80 rows are shown three times as large.
    out = capsys.readouterr().out
    assert ('DSC' if task == 'segmentation' else 'coco/bbox_mAP_50') in out


def test_predictions_have_the_frames_own_resolution(run, data, tmp_path, capsys) -> None:
    task, _, folder = run
    assert main('predict', [str(folder), str(data / 'images'), str(tmp_path / 'out'), '--score', '0']) == 0
    assert 'not for diagnosis' in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'out' / 'overlays' / '2.png')).shape == (80, 96, 3)
    if task == 'segmentation':
        mask = cv2.imread(str(tmp_path / 'out' / 'masks' / '2.png'), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (80, 96) and set(np.unique(mask)) <= {0, 255}
        return
    coco = json.loads((tmp_path / 'out' / 'boxes.json').read_text())
    assert [image['file_name'] for image in coco['images']] == [f'{index}.png' for index in range(4)]
    assert coco['categories'] == [{'id': 1, 'name': 'stenosis'}]
    for found in coco['annotations']:
        left, top, width, height = found['bbox']
        assert 0 <= left <= left + width <= 96 and 0 <= top <= top + height <= 80


def test_the_docstring_of_the_predictor_runs(run, data) -> None:
    task, _, folder = run
    if task != 'segmentation':
        pytest.skip('The example is of segmentation.')
    frame = cv2.imread(str(data / 'images' / '1.png'), cv2.IMREAD_GRAYSCALE)
    names = dict(Predictor=Predictor, checkpoint=folder, frame=frame)
    example = doctest.DocTestFinder().find(Predictor, 'Predictor', predictor_module, globs=names)[0]
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_an_encoder_of_another_size_is_refused(tmp_path) -> None:
    source = pretrained(tmp_path / 'encoder.safetensors')
    with pytest.raises(CheckpointError, match='it belongs to another architecture'):
        load_encoder(PlainViT(arch={**ARCH, 'embed_dims': 36}, img_size=64), source)
    other = {'backbone.something': torch.zeros(1)}
    save_weights(other, tmp_path / 'other.safetensors')
    with pytest.raises(CheckpointError, match='is missing'):
        load_encoder(PlainViT(arch=ARCH, img_size=64), tmp_path / 'other.safetensors')


def test_an_encoder_of_another_known_size_is_met_by_the_option_that_takes_it(tmp_path) -> None:
    path = pretrained(tmp_path / 'tiny.safetensors', size=224, arch='tiny')
    with pytest.raises(CheckpointError) as caught:
        load_encoder(PlainViT(arch='small', img_size=224), path)
    option = caught.value.cure.partition('--cfg-options ')[2].partition(',')[0]
    arch = load_config('vasomim::downstream/arcade_v/segmentation.py', [option]).model.backbone.arch
    assert load_encoder(PlainViT(arch=arch, img_size=224), path).share == 1.0


@pytest.mark.parametrize(('width', 'name'), SIZES.items())
def test_the_widths_are_those_of_the_sizes(width, name) -> None:
    with torch.device('meta'):
        assert PlainViT(arch=name).embed_dims == width


def test_positions_are_resized_between_grids(tmp_path) -> None:
    small = PlainViT(arch=ARCH, img_size=64)
    ramp = torch.arange(4.0).repeat(4).reshape(1, 16, 1).expand(1, 16, 24)  # Rises along the rows of the grid.
    tensors = {**small.state_dict(), 'pos_embed': torch.cat((torch.full((1, 1, 24), 9.0), ramp), dim=1)}
    save_weights({f'backbone.{name}': tensor for name, tensor in tensors.items()}, tmp_path / 'small.safetensors')
    large = PlainViT(arch=ARCH, img_size=128)
    report = load_encoder(large, tmp_path / 'small.safetensors')
    assert report.share == 1.0 and not report.mismatched
    assert large.pos_embed[0, 0, 0] == 9
    field = large.pos_embed[0, 1:, 0].reshape(8, 8)
    assert (field.diff(dim=1) > 0).all() and field.diff(dim=0).abs().max() < 1e-5


def test_what_has_no_encoder_of_its_own_takes_none(tmp_path, capsys) -> None:
    for config, options, said in (
        ('segmentor/unext_s', [], 'has no encoder'),
        ('pretrain/mae', ['--cfg-options', 'runner_type=ShardedRunner'], 'vasomim convert'),
    ):
        arguments = [f'vasomim::{config}.py', '--init', 'x.pth', '--work-dir', str(tmp_path / 'run'), *options]
        assert main('train', arguments) == 2
        assert said in capsys.readouterr().err


def test_runs_of_different_sets_have_folders_of_their_own() -> None:
    configs = [*SETS, 'folder/segmentation', 'folder/detection']
    names = {default_work_dir(load_config(f'vasomim::downstream/{name}.py')) for name in configs}
    assert names == {f'work_dirs/{name.replace("/", "_")}' for name in configs}
    assert default_work_dir(load_config('vasomim::pretrain/mae.py')) == 'work_dirs/mae'


def test_nothing_to_find_is_undefined_not_minus_one() -> None:
    assert math.isnan(defined('coco/bbox_mAP_l', -1.0))
    assert defined('coco/bbox_mAP', 0.5) == 0.5 and defined('other', -1.0) == -1


@pytest.fixture(scope='session')
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Simulates and prepares a published set once, and returns its folder."""
    root = tmp_path_factory.mktemp('prepared')

    def prepare(kind: str) -> Path:
        if not (root / kind).exists():
            arguments = ['downstream', 'synthetic', kind, str(root / kind), '--frames', str(FRAMES.get(kind, 8))]
            assert main('prepare', [*arguments, '--size', '192', '--jobs', '1']) == 0
        return root / kind

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize('name', list(SETS))
def test_each_set_trains_evaluates_and_predicts(name, prepared, tmp_path, capsys) -> None:
    folder = prepared(SETS[name]) / (name.split('/')[0] if SETS[name] == 'arcade' else '')
    config, run = f'vasomim::downstream/{name}.py', str(tmp_path / 'run')
    options = ['train_dataloader.batch_size=2', 'train_cfg.max_epochs=1', 'train_dataloader.num_workers=1']
    if name.endswith('unet'):
        options += ['model.backbone.base_channels=8', 'model.decode_head.in_channels=8', 'model.decode_head.channels=8']
    else:
        options.append('model.backbone.arch=tiny')
    if name.endswith('detection'):
        options += ['model.train_cfg.rpn_proposal.max_per_img=50', 'model.test_cfg.rpn.max_per_img=50']
        options += ['model.roi_head.bbox_head.fc_out_channels=32', 'train_dataloader.dataset.label_fraction=0.3']
    assert main('train', [config, '--data', str(folder), '--work-dir', run, '--cfg-options', *options]) == 0
    assert main('test', [config, run, '--data', str(folder)]) == 0
    metrics = json.loads((tmp_path / 'run' / 'test' / 'metrics.json').read_text())['metrics']
    assert metrics['coco/bbox_mAP' if name.endswith('detection') else 'DSC'] is not None
    image = sorted((folder / 'images').iterdir())[0]
    assert main('predict', [run, str(image), str(tmp_path / 'out')]) == 0
    overlay = cv2.imread(str(tmp_path / 'out' / 'overlays' / image.with_suffix('.png').name))
    assert overlay.shape == (192, 192, 3)


@pytest.fixture(scope='module')
def own_labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sets of one's own, prepared: masks, boxes of one class and boxes of two."""
    root = tmp_path_factory.mktemp('own')
    names = [f'p{patient}_1_{frame}' for patient in range(10) for frame in range(2)]
    write_pairs(root / 'masks', names)
    write_voc(root / 'boxes', names)
    write_voc(write_voc(root / 'two', names), [f'{name}_x' for name in names], label='Occlusion')
    for name in ('masks', 'boxes', 'two'):
        assert main('prepare', ['downstream', 'folder', str(root / name), str(root / f'{name}_set')]) == 0
    return {name: root / f'{name}_set' for name in ('masks', 'boxes', 'two')}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('task', 'kind', 'options'),
    [
        ('segmentation', 'masks', ['model.decode_head.widths=[16,16,8,8,8]']),
        ('detection', 'boxes', []),
        ('detection', 'two', ['model.roi_head.bbox_head.num_classes=2']),
    ],
)
def test_own_labels_train_and_are_tested(task, kind, options, own_labels, tmp_path) -> None:
    config, run = f'vasomim::downstream/folder/{task}.py', str(tmp_path / 'run')
    options = [*options, 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2', 'model.backbone.arch=tiny']
    if task == 'detection':
        options += ['model.train_cfg.rpn_proposal.max_per_img=50', 'model.test_cfg.rpn.max_per_img=50']
        options += ['model.roi_head.bbox_head.fc_out_channels=32', 'train_dataloader.dataset.label_fraction=0.3']
    data = str(own_labels[kind])
    assert main('train', [config, '--data', data, '--work-dir', run, '--cfg-options', *options]) == 0
    assert main('test', [config, run, '--data', data]) == 0
    metrics = json.loads((tmp_path / 'run' / 'test' / 'metrics.json').read_text())['metrics']
    assert metrics['DSC' if task == 'segmentation' else 'coco/bbox_mAP'] is not None


def test_boxes_of_more_classes_than_the_head_has_are_refused(own_labels, tmp_path, capsys) -> None:
    """mmdet would train: it takes the label of the second class for that of its background."""
    arguments = ['vasomim::downstream/folder/detection.py', '--data', str(own_labels['two'])]
    assert main('train', [*arguments, '--work-dir', str(tmp_path / 'run')]) == 2
    error = capsys.readouterr().err
    assert 'need 2: Occlusion, Stenosis.' in error
    assert error.endswith('Pass --cfg-options model.roi_head.bbox_head.num_classes=2.\n')


@pytest.mark.parametrize(('kind', 'task'), [('masks', 'segmentation'), ('boxes', 'detection')])
def test_own_labels_under_another_config_are_sent_to_theirs(kind, task, own_labels, tmp_path, capsys) -> None:
    arguments = ['vasomim::downstream/arcade_v/segmentation.py', '--data', str(own_labels[kind])]
    assert main('train', [*arguments, '--work-dir', str(tmp_path), '--cfg-options', 'model.backbone.arch=tiny']) == 2
    assert f'train on this one by vasomim::downstream/folder/{task}.py.' in capsys.readouterr().err


def test_best_median_and_worst_are_picked_once() -> None:
    nan = float('nan')
    assert pick([0.5, 0.9, nan, 0.1, 0.7], 1) == {1: 'best', 4: 'median', 3: 'worst'}
    assert pick([0.5, 0.9], 3) == {1: 'best', 0: 'best'}
    ordered = pick([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 2)
    assert list(ordered) == [6, 5, 4, 3, 1, 0]
    assert list(ordered.values()) == ['best', 'best', 'median', 'median', 'worst', 'worst']


def test_boxes_of_an_annotation_are_drawn_without_a_score() -> None:
    frame, boxes, labels = np.zeros((40, 40), np.uint8), np.array([[10.0, 20, 30, 35]]), np.array([1])
    plain = predictor_module.Prediction(frame, boxes=boxes, labels=labels).overlay()
    scored = predictor_module.Prediction(frame, boxes=boxes, labels=labels, scores=np.array([0.5])).overlay()
    assert plain[20, 15].any() and not plain[:19].any() and scored[:19].any()
