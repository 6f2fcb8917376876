"""`vasomim test` on prepared sets: all figures, files and pictures that the evaluation promises."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.finetuned import write_checkpoint
from vasomim.apis.config_parts import use_data
from vasomim.apis.configs import load_config
from vasomim.apis.evaluating import check_classes
from vasomim.cli import main
from vasomim.cli.test import show
from vasomim.drawing.notice import NOTICE
from vasomim.errors import ConfigError
from vasomim.tensorfiles import read_file

SEGMENTATION = Path(__file__).parents[1] / 'configs/downstream/arcade_v/segmentation.py'


@pytest.fixture(scope='module')
def arcade(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('arcade') / 'sets'
    arguments = ['downstream', 'synthetic', 'arcade', str(root), '--frames', '24', '--size', '128', '--jobs', '1']
    assert main('prepare', arguments) == 0
    return root


def evaluate(name: str, arcade: Path, folder: Path, *options: str) -> dict:
    checkpoint = write_checkpoint(folder / 'model.pth', name, size=64)
    size = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    arguments = [f'vasomim::downstream/{name}.py', str(checkpoint), '--data', str(arcade / name.split('/')[0])]
    arguments += ['--work-dir', str(folder / 'test'), '--num', '1', *options, '--cfg-options', *size]
    assert main('test', arguments) == 0
    return json.loads((folder / 'test' / 'metrics.json').read_text())


def cases(folder: Path) -> list[dict[str, str]]:
    with (folder / 'test' / 'cases.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_vessels_by_width_and_side_with_hd95(arcade, tmp_path, capsys):
    report = evaluate('arcade_v/segmentation', arcade, tmp_path, '--hd95')
    figures = report['metrics']
    assert report['notice'] == NOTICE
    assert {'DSC', 'DSC/pooled', 'clDice', 'HD95', 'HD95/images', 'HD95/undefined'} <= set(figures)
    for measure in ('DSC', 'clDice'):
        for group in ('width/thin', 'width/medium', 'width/wide', 'mean_width/thin', 'side/left', 'side/right'):
            assert f'{measure}/{group}' in figures, (measure, group)
    rows = cases(tmp_path)
    assert len(rows) == figures['images'] >= 2
    assert all((arcade / 'arcade_v' / 'images' / row['image']).is_file() for row in rows)  # No folder of this machine.
    for measure in ('DSC', 'clDice'):
        assert figures[measure] == pytest.approx(np.mean([float(row[measure]) for row in rows]))
    sides = json.loads((arcade / 'arcade_v' / 'sides.json').read_text())
    assert all(row['side'] == sides.get(Path(row['image']).stem, '') for row in rows)
    for name in ('cases.png', 'metrics.json', 'NOTICE.txt'):
        assert NOTICE.encode() in (tmp_path / 'test' / name).read_bytes(), name
    assert cv2.imread(str(tmp_path / 'test' / 'cases.png')) is not None
    assert 'DSC/pooled' in capsys.readouterr().out


def test_segments_by_class(arcade, tmp_path):
    figures = evaluate('arcade_vs/segmentation', arcade, tmp_path)['metrics']
    assert sum(key.startswith('DSC/class/') and not key.endswith('/images') for key in figures) == 25
    assert {'DSC/class_mean', 'DSC/mean_width/thin', 'DSC/side/left'} <= set(figures)
    assert not any(key.startswith('DSC/width/') for key in figures)  # Pixels of one class only are divided by width.


def test_stenoses_by_size(arcade, tmp_path):
    figures = evaluate('arcade_s/segmentation', arcade, tmp_path)['metrics']
    assert {f'DSC/lesion_size/{group}' for group in ('small', 'medium', 'large')} <= set(figures)
    assert 'HD95' not in figures  # Nobody asked.


def test_boxes_by_coco_and_no_hd95_for_them(arcade, tmp_path, capsys):
    figures = evaluate('arcade_s/detection', arcade, tmp_path)['metrics']
    assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'cases/F1'} <= set(figures)
    sizes = [f'lesion_size/{group}' for group in ('small', 'medium', 'large')]
    assert {f'cases/{measure}/{size}' for measure in ('mAP', 'mAP50', 'mAP75') for size in sizes} <= set(figures)
    truth = json.loads((arcade / 'arcade_s' / 'test.json').read_text())['annotations']
    assert sum(figures[f'cases/{size}/boxes'] for size in sizes) == len(truth) > 0
    assert {row['image'] for row in cases(tmp_path)} == {
        path.name for path in (arcade / 'arcade_s/images').glob('*_test_*')
    }
    arguments = ['vasomim::downstream/arcade_s/detection.py', str(tmp_path / 'model.pth')]
    assert main('test', [*arguments, '--data', str(arcade / 'arcade_s'), '--hd95']) == 2
    assert 'boxes have no surface' in capsys.readouterr().err
    assert main('test', [*arguments, '--data', str(arcade / 'arcade_s'), '--score', '2']) == 2
    assert '2.0 is not in [0, 1]' in capsys.readouterr().err


def test_boxes_count_from_a_score_and_none_above_it_is_pointed_out(arcade, tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / 'model.pth', 'arcade_s/detection')
    arguments = ['vasomim::downstream/arcade_s/detection.py', str(checkpoint), '--data', str(arcade / 'arcade_s')]
    arguments += ['--cfg-options', 'model.test_cfg.rcnn.score_thr=0.0']
    found = {}
    for score in ('1', '0'):
        folder = tmp_path / score
        assert main('test', [*arguments, '--work-dir', str(folder), '--score', score]) == 0
        assert ('warning: no box reaches' in capsys.readouterr().out) == (score == '1')
        with open(folder / 'cases.csv', encoding='utf-8') as file:
            found[score] = sum(int(row['predicted_boxes']) for row in csv.DictReader(file))
        metrics = json.loads((folder / 'metrics.json').read_text())['metrics']
        assert metrics['cases/predicted_boxes'] == found[score]
    assert found['1'] == 0 < found['0']
    assert (tmp_path / '1' / 'cases.png').read_bytes() != (tmp_path / '0' / 'cases.png').read_bytes()


@pytest.mark.parametrize(
    'evaluators',
    [
        "[dict(type='SegmentationMetric', measures=['DSC']), dict(type='IoUMetric', iou_metrics=['mIoU'])]",
        "[dict(type='IoUMetric', iou_metrics=['mIoU'])]",
    ],
)
def test_several_evaluators_and_a_config_without_the_other_loaders(arcade, tmp_path, evaluators):
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{SEGMENTATION}'\n"
        f'test_evaluator = {evaluators}\n'
        'train_dataloader = val_dataloader = train_cfg = val_cfg = val_evaluator = optim_wrapper = None\n'
        'param_scheduler = None\n'
    )
    checkpoint = write_checkpoint(tmp_path / 'model.pth', 'arcade_v/segmentation', size=64)
    arguments = [
        str(tmp_path / 'config.py'),
        str(checkpoint),
        '--data',
        str(arcade / 'arcade_v'),
        '--num',
        '1',
        '--hd95',
    ]
    workers = ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    assert main('test', [*arguments, *workers]) == 0
    figures = json.loads((tmp_path / 'test' / 'metrics.json').read_text())['metrics']
    assert {'mIoU', 'DSC'} <= set(figures)
    assert ('HD95' in figures and 'DSC/width/thin' in figures) == ('SegmentationMetric' in evaluators)
    assert len(cases(tmp_path)) == figures['images']


def test_another_folder_is_read_by_each_evaluator(arcade):
    cfg = load_config('vasomim::downstream/arcade_s/detection.py')
    for part in ('val', 'test'):
        own = cfg[f'{part}_evaluator']
        cfg[f'{part}_evaluator'] = [
            *(own if isinstance(own, list) else [own]),
            dict(type='DumpDetResults', out='a.pkl'),
        ]
    cfg.train_dataloader = None
    use_data(cfg, str(arcade / 'arcade_s'))
    for part in ('val', 'test'):
        assert cfg[f'{part}_dataloader'].dataset.data_root == str(arcade / 'arcade_s')
        first, second = cfg[f'{part}_evaluator'][0], cfg[f'{part}_evaluator'][-1]
        assert Path(first.ann_file).is_file() and 'ann_file' not in second


def test_a_config_without_images_to_test_on_is_refused(tmp_path, capsys):
    text = f"_base_ = '{SEGMENTATION}'\n"
    (tmp_path / 'config.py').write_text(f'{text}test_dataloader = test_cfg = test_evaluator = None\n')
    checkpoint = write_checkpoint(tmp_path / 'model.pth', 'arcade_v/segmentation', size=64)
    assert main('test', [str(tmp_path / 'config.py'), str(checkpoint)]) == 2
    assert 'it has no test_dataloader' in capsys.readouterr().err


def test_another_task_is_refused(arcade, tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / 'boxes.pth', 'arcade_s/detection')
    arguments = ['vasomim::downstream/arcade_v/segmentation.py', str(checkpoint), '--data', str(arcade / 'arcade_v')]
    assert main('test', arguments) == 2
    assert 'it is a config of mmseg, and the checkpoint of mmdet' in capsys.readouterr().err
    assert read_file(checkpoint)['meta']['dataset_meta']['classes'] == ('stenosis',)


def test_a_score_of_zero_is_shown_as_a_score_and_hardly_any_prediction_is_pointed_out(capsys):
    show({'images': 1300, 'empty_truth': 1, 'empty_prediction': 1200, 'DSC': 0.0, 'HD95': float('nan')}, 'title')
    out = capsys.readouterr().out
    assert '1,300' in out and '0.0000' in out and 'undefined' in out
    assert 'warning: the prediction is empty for 1200 of 1300 images' in out
    show({'images': 1300, 'empty_truth': 1000, 'empty_prediction': 1200, 'DSC': 0.5}, 'title')
    assert 'warning' not in capsys.readouterr().out


def test_a_model_of_other_classes_is_refused_and_one_of_another_name_pointed_out(capsys):
    def data(*classes: str) -> SimpleNamespace:
        return SimpleNamespace(metainfo={'classes': classes})

    with pytest.raises(ConfigError, match=r'best\.pth: it was trained on vessel, and the data have 4 classes\.'):
        check_classes(['vessel'], data('background', '1', '2', '3', '4'), 'best.pth')
    check_classes(['stenosis'], data('Stenosis'), 'best.pth')
    check_classes([], data('background', 'vessel'), 'best.pth')
    assert not capsys.readouterr().out
    check_classes(['vessel'], data('background', 'stenosis'), 'best.pth')
    assert 'warning: the model was trained on vessel, and is tested on stenosis' in capsys.readouterr().out
