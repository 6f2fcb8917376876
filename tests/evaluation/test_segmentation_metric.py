"""The registered metric: mmseg's own samples in, figures at the annotation's resolution out."""

from __future__ import annotations

import csv
import json
import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from shapes import vessels
from torch.nn import functional

import vasomim.evaluation.segmentation_metric  # noqa: F401
from vasomim.errors import ConfigError, DatasetError, TrainingError
from vasomim.evaluation import cl_dice, dice

# After the import above, which prepares the stack.
from mmengine.config import ConfigDict  # isort: skip
from mmengine.dataset import DefaultSampler  # isort: skip
from mmengine.evaluator import Evaluator  # isort: skip
from mmengine.structures import PixelData  # isort: skip
from mmseg.registry import DATASETS, METRICS, MODELS  # isort: skip
from mmseg.structures import SegDataSample  # isort: skip

BINARY = ('background', 'vessel')


def build(classes=BINARY, **settings):
    metric = METRICS.build(dict(type='SegmentationMetric', **settings))
    metric.dataset_meta = dict(classes=classes)
    return metric


def make_sample(name='a.png', truth=None, labels=None, logits=None, **meta):
    sample = SegDataSample(metainfo=dict(img_path=name, **meta))
    for key, data in (('gt_sem_seg', truth), ('pred_sem_seg', labels), ('seg_logits', logits)):
        if data is not None:
            data = torch.as_tensor(np.asarray(data))
            setattr(sample, key, PixelData(data=data if data.ndim == 3 else data[None]))
    return sample


def evaluate(metric, *samples):
    evaluator = Evaluator(metric)
    evaluator.process(list(samples))
    return evaluator.evaluate(len(samples))


def test_figures_of_predictions_at_full_size():
    pairs = [(vessels(seed, 48, shift=1), vessels(seed, 48)) for seed in range(3)]
    samples = [
        make_sample(f'{index}.png', truth, prediction.astype(np.float32), ori_shape=truth.shape)
        for index, (prediction, truth) in enumerate(pairs)
    ]
    figures = evaluate(build(measures=['DSC', 'clDice']), *samples)
    assert figures['DSC'] == pytest.approx(np.mean([dice(*pair) for pair in pairs]))
    assert figures['clDice'] == pytest.approx(np.mean([cl_dice(*pair) for pair in pairs]))
    assert evaluate(build(prefix='test'), samples[0])['test/DSC'] == pytest.approx(dice(*pairs[0]))


def test_logits_are_interpolated_before_classes_are_chosen():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 12, 12, generator=generator)
    truth = torch.randint(0, 4, (30, 42), generator=generator)
    full = functional.interpolate(logits[None], size=(30, 42), mode='bilinear', align_corners=False)[0].argmax(0)
    sample = make_sample(truth=truth, labels=logits.argmax(0), logits=logits, ori_shape=(30, 42))
    figures = evaluate(build(classes=('background', 'a', 'b', 'c')), sample)
    expected = [dice((full == index).numpy(), (truth == index).numpy()) for index in (1, 2, 3)]
    assert [figures[f'DSC/class/{name}'] for name in 'abc'] == pytest.approx(expected)
    enlarged = np.kron(logits.argmax(0), np.ones((3, 4), int))[:30, :42]
    assert dice(enlarged == 1, (truth == 1).numpy()) != pytest.approx(expected[0], abs=1e-3)


@pytest.mark.parametrize('threshold', [0.3, 0.5])
def test_probabilities_of_one_channel_are_interpolated_before_the_threshold(threshold):
    probability = torch.zeros(1, 2, 2)
    probability[0, :, 1] = 1  # Across 8 columns: 0, 0, 1/8, 3/8, 5/8, 7/8, 1, 1.
    expected = np.tile(np.array([0, 0, 1, 3, 5, 7, 8, 8]) / 8 > threshold, (8, 1))
    sample = make_sample(truth=expected.astype(int), labels=(probability > 0.9).float(), logits=probability)
    assert evaluate(build(threshold=threshold), sample)['DSC'] == 1


def test_labels_alone_are_enlarged_by_the_nearest():
    labels = np.array([[0, 1], [1, 0]])
    truth = np.kron(labels, np.ones((3, 3), int))
    assert evaluate(build(), make_sample(truth=truth, labels=labels))['DSC'] == 1


def test_mmseg_segmentor_from_files_on_disk(tmp_path):
    """Frames of 40 x 56, the model sees 32 x 32, annotations stay as they are."""
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    for seed in range(3):
        mask = vessels(seed, 56)[:40]
        cv2.imwrite(str(tmp_path / 'masks' / f'{seed}.png'), mask)
        cv2.imwrite(str(tmp_path / 'images' / f'{seed}.png'), 200 - 120 * mask)
    dataset = DATASETS.build(
        dict(
            type='BaseSegDataset',
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path='masks'),
            seg_map_suffix='.png',
            img_suffix='.png',
            metainfo=dict(classes=BINARY, palette=[[0] * 3, [255] * 3]),
            pipeline=[
                dict(type='mmseg.LoadImageFromFile'),
                dict(type='mmseg.Resize', scale=(32, 32), keep_ratio=False),
                dict(type='mmseg.LoadAnnotations'),
                dict(type='mmseg.PackSegInputs'),
            ],
        )
    )
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[0] * 3, std=[255] * 3),
            backbone=dict(type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, norm_cfg=dict(type='BN')),
            decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=2),
            test_cfg=ConfigDict(mode='whole'),
        )
    ).eval()
    metric = build(per_case_file=str(tmp_path / 'cases.csv'))
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dataset.metainfo
    expected = []
    for item in dataset:
        batch = {'inputs': [item['inputs']], 'data_samples': [item['data_samples']]}
        with torch.no_grad():
            logits = model(model.data_preprocessor(batch)['inputs'], mode='tensor')
            evaluator.process(model.test_step(batch))
        assert logits.shape[-1] < 32
        middle = functional.interpolate(logits, size=(32, 32), mode='bilinear')
        full = functional.interpolate(middle, size=(40, 56), mode='bilinear')[0].argmax(0).numpy()
        mask = cv2.imread(item['data_samples'].seg_map_path, cv2.IMREAD_GRAYSCALE)
        expected.append(dice(full, mask))
    assert evaluator.evaluate(3)['DSC'] == pytest.approx(np.mean(expected), abs=1e-3)
    rows = list(csv.DictReader((tmp_path / 'cases.csv').open()))
    assert [Path(row['image']).name for row in rows] == ['0.png', '1.png', '2.png']
    assert [float(row['DSC']) for row in rows] == pytest.approx(expected, abs=1e-3)


def test_sides_and_json(tmp_path):
    mask = vessels(0, 32)
    samples = [make_sample(f'{side}.png', mask, mask * (side == 'left'), side=side) for side in ('left', 'right')]
    path = tmp_path / 'cases.json'
    figures = evaluate(build(subgroups=['side', 'width'], per_case_file=str(path)), *samples)
    assert (figures['DSC/side/left'], figures['DSC/side/right'], figures['DSC/width/thin']) == (1, 0, 0.5)
    assert json.loads(path.read_text())['cases'][1]['side'] == 'right'


def error_of(sample, kind=DatasetError, **settings):
    with pytest.raises(kind) as caught:
        build(**settings).process(None, [sample.to_dict()])
    return str(caught.value)


def test_a_mask_of_0_and_255_is_named_with_its_cure():
    text = error_of(make_sample(truth=np.array([[0, 255]]), labels=np.zeros((1, 2)), seg_map_path='masks/7.png'))
    assert text.startswith('masks/7.png: the annotation holds 255; class indices are 0 to 1.')
    assert 'divide it by 255' in text


def test_unknown_and_negative_classes_are_named():
    sample = make_sample(truth=np.array([[-1, 0, 3, 26, 26]]), labels=np.zeros((1, 5)))
    text = error_of(sample, classes=('background', *map(str, range(25))))
    assert text.startswith('a.png: the annotation holds -1, 26; class indices are 0 to 25.')


def test_an_annotation_of_another_size_than_its_image_is_named():
    sample = make_sample(truth=np.zeros((4, 6), int), labels=np.zeros((8, 8)), ori_shape=(8, 8))
    text = error_of(sample)
    assert 'a.png: the annotation is 4 x 6, its image 8 x 8.' in text
    assert 'LoadAnnotations behind Resize' in text


def test_a_missing_annotation_and_a_missing_path_are_named():
    assert 'a.png: no annotation reached the metric.' in error_of(make_sample(labels=np.zeros((2, 2))))
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 2, 2)))
    assert 'img_path is missing' in error_of(sample, ConfigError)


def test_output_that_is_not_finite_is_no_empty_prediction():
    logits = torch.full((1, 2, 2), float('nan'))
    sample = make_sample(truth=np.zeros((2, 2), int), labels=logits > 0.5, logits=logits)
    assert "a.png: the model's output is NaN" in error_of(sample, TrainingError)


def test_a_model_of_more_classes_than_the_data_set_is_named():
    sample = make_sample(truth=np.zeros((2, 2), int), labels=np.full((2, 2), 7))
    assert 'the model predicts class 7, the data set has 0 to 1' in error_of(sample, ConfigError)


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        (dict(measures=['cldice']), "there is no 'cldice'. Did you mean 'clDice'?"),
        (dict(measures='DSC'), "Write ['DSC']"),
        (dict(measures=[]), 'it is empty'),
        (dict(subgroups=['widht']), "Did you mean 'width'?"),
        (dict(per_case_file='cases.txt'), 'neither a .csv nor a .json'),
        (dict(spacing=0), 'no size of a pixel'),
        (dict(threshold=50), 'no probability'),
    ],
)
def test_wrong_arguments_are_errors(settings, text):
    with pytest.raises(ConfigError) as caught:
        build(**settings)
    assert text in str(caught.value)


def test_wrong_classes_are_errors():
    sample = make_sample(truth=np.zeros((2, 2), int), labels=np.zeros((2, 2)))
    assert 'a background and at least one class' in error_of(sample, ConfigError, classes=('vessel',))
    text = error_of(sample, ConfigError, classes=('background', 'a', 'b'), subgroups=['lesion_size'])
    assert "'lesion_size' divides the pixels of one class" in text


def test_a_missed_image_and_one_that_is_listed_twice_are_errors():
    sample = make_sample(truth=np.zeros((2, 2), int), labels=np.zeros((2, 2)))
    with pytest.raises(DatasetError, match='1 different images were evaluated, but the data set has 2'):
        evaluate(build(), sample, sample)


def evaluate_share(rank: int, folder: Path, reports: multiprocessing.Queue) -> None:
    """Evaluate what the sampler gives to one of two processes: three of five images, the first image going to both."""
    store = (folder / 'store').as_uri()
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    metric = build(per_case_file=str(folder / 'cases.csv'))
    evaluator = Evaluator(metric)
    for index in DefaultSampler(range(5), shuffle=False):
        truth = vessels(index, 32)
        evaluator.process([make_sample(f'{index}.png', truth, truth if index == 0 else 0 * truth)])
    reports.put((rank, len(metric.results), evaluator.evaluate(5)['DSC'], len(metric.results)))
    reports.close()
    reports.join_thread()
    torch.distributed.destroy_process_group()


def test_two_processes_count_each_image_once(tmp_path):
    context = multiprocessing.get_context('fork')  # The libraries are loaded already.
    reports = context.Queue()
    processes = [context.Process(target=evaluate_share, args=(rank, tmp_path, reports)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = sorted(reports.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    # Five images, one of them found; counted twice, it would be two of six.
    assert found == [(0, 3, 0.2, 0), (1, 3, 0.2, 0)]
    rows = list(csv.DictReader((tmp_path / 'cases.csv').open()))
    assert [row['image'] for row in rows] == [f'{index}.png' for index in range(5)]
    assert [row['DSC'] for row in rows] == ['1.0', '0.0', '0.0', '0.0', '0.0']
