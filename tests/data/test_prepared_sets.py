"""The readers of prepared sets in mmseg and mmdet: what they hand out, and what they refuse."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope, init_default_scope

from tests.prepare.trees import SIZE, write_arcade, write_pairs, write_png, write_voc
from vasomim.apis.configs import config_path
from vasomim.cli import main
from vasomim.data import detection, segmentation
from vasomim.data.detection import ARCADEStenosisBoxes, DanilovStenosis, FolderDetection
from vasomim.data.prepared_split import choose_part, config_of
from vasomim.data.segmentation import CAXF, XCAV, ARCADESegments, ARCADEStenosis, ARCADEVessels, FolderSegmentation
from vasomim.errors import ConfigError, DatasetError
from vasomim.frames.images import read_grey
from vasomim.prepare.catalog import all_datasets

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMask'),
    dict(type='PackSegInputs', meta_keys=('img_path', 'side')),
]


@pytest.fixture
def scope(monkeypatch):
    def choose(name: str) -> None:
        init_default_scope(name)

    before = DefaultScope.get_current_instance()
    yield choose
    if before is not None:
        init_default_scope(before.scope_name)


@pytest.fixture(scope='module')
def arcade(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('arcade')
    assert main('prepare', ['downstream', 'arcade', str(write_arcade(root / 'published')), str(root / 'sets')]) == 0
    return root / 'sets'


@pytest.fixture(scope='module')
def danilov(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('danilov')
    source = write_voc(root / 'published', [f'{patient}_1_1_{k}' for patient in range(20) for k in range(2)])
    assert main('prepare', ['downstream', 'stenosis', str(source), str(root / 'set')]) == 0
    return root / 'set'


@pytest.fixture
def pairs(tmp_path) -> Path:
    source = write_pairs(tmp_path / 'published', [f'p{k}_1' for k in range(10)])
    assert main('prepare', ['downstream', 'folder', str(source), str(tmp_path / 'set')]) == 0
    return tmp_path / 'set'


@pytest.mark.parametrize(
    ('reader', 'folder', 'classes'),
    [(ARCADEVessels, 'arcade_v', 2), (ARCADESegments, 'arcade_vs', 26), (ARCADEStenosis, 'arcade_s', 2)],
)
def test_masks_reach_the_model_as_class_indices(arcade, scope, reader, folder, classes):
    scope('mmseg')
    dataset = reader(arcade / folder, 'val', pipeline=LOAD)
    assert len(dataset) == 2 and len(dataset.metainfo['classes']) == classes
    for k in range(2):
        sample = dataset[k]
        path = Path(sample['data_samples'].img_path)
        mask = sample['data_samples'].gt_sem_seg.data.numpy()[0]
        assert np.array_equal(mask, read_grey(path.parents[1] / 'masks' / path.name))
        assert set(np.unique(mask)) <= set(range(classes)) and mask.max() > 0
        assert np.array_equal(sample['inputs'].numpy(), np.repeat(read_grey(path)[None], 3, axis=0))
    assert dataset[1]['data_samples'].get('side') == (None if folder == 'arcade_s' else 'left')


def test_segments_carry_the_published_names_in_the_order_of_their_ids(arcade):
    classes = ARCADESegments(arcade / 'arcade_vs').metainfo['classes']
    assert classes[0] == 'background'
    assert (classes[1], classes[10], classes[16], classes[20], classes[25]) == ('1', '9a', '13', '16', '14b')


@pytest.mark.parametrize(
    ('name', 'masks', 'boxes', 'needs', 'task'),
    [
        ('arcade_v', True, False, 'boxes', 'segmentation'),
        ('arcade_vs', True, False, 'masks', 'segmentation'),
        ('arcade_s', True, True, 'boxes', 'detection'),
        ('arcade_s', True, True, 'masks', 'segmentation'),
        ('caxf', True, False, 'masks', 'segmentation'),
        ('dca1', True, False, 'masks', 'segmentation'),
        ('xcav', True, False, 'masks', 'segmentation'),
        ('stenosis', False, True, 'masks', 'detection'),
        ('folder', False, True, 'masks', 'detection'),
        ('folder', True, False, 'boxes', 'segmentation'),
    ],
)
def test_the_config_of_a_set_exists(name, masks, boxes, needs, task):
    found = config_of({'name': name, 'masks': masks, 'boxes': boxes}, needs)
    assert found == f'vasomim::downstream/{name}/{task}.py'
    assert config_path(found).is_file()


def test_published_readers_are_classes_of_their_modules():
    for dataset in all_datasets():
        for each in dataset.sets:
            for module, name in ((segmentation, each.mask_reader), (detection, each.box_reader)):
                if name:
                    reader = getattr(module, name)
                    assert pickle.loads(pickle.dumps(reader)) is reader and module.DATASETS.get(name) is reader
                    assert each.name == reader.SET and reader.METAINFO['classes'][-len(each.classes) :] == each.classes
    vessels = {'classes': ('background', 'vessel'), 'palette': [[0, 0, 0], [230, 60, 60]]}
    assert ARCADEVessels.METAINFO == CAXF.METAINFO == XCAV.METAINFO == vessels
    assert 'palette' not in ARCADESegments.METAINFO and len(ARCADESegments.METAINFO['classes']) == 26
    assert DanilovStenosis.METAINFO == {'classes': ('Stenosis',), 'palette': [(250, 190, 40)]}


def test_a_label_fraction_is_seeded_and_nested(pairs):
    def names(fraction, seed=0):
        return FolderSegmentation(pairs, label_fraction=fraction, seed=seed).names

    whole = names(1.0)
    parts = [names(fraction) for fraction in (0.2, 0.4, 0.8)]
    assert [len(part) for part in parts] == [round(fraction * len(whole)) for fraction in (0.2, 0.4, 0.8)]
    assert set(parts[0]) < set(parts[1]) < set(parts[2]) < set(whole)
    assert parts[1] == names(0.4)
    assert len({tuple(names(0.4, seed)) for seed in range(8)}) > 1
    assert choose_part(['b', 'a'], 0.01, 0) in (['a'], ['b'])


def test_listed_frames_are_left_out(arcade, tmp_path):
    (tmp_path / 'list.json').write_text(json.dumps({'exclude': ['syntax_train_2', 'stenosis_train_1']}))
    assert ARCADEVessels(arcade / 'arcade_v', exclude=tmp_path / 'list.json').names == ['syntax_train_1']
    (tmp_path / 'list.json').write_text('{}')
    with pytest.raises(DatasetError, match="no list 'exclude'"):
        ARCADEVessels(arcade / 'arcade_v', exclude=tmp_path / 'list.json')


def test_boxes_reach_mmdet(arcade, danilov, scope):
    scope('mmdet')
    boxes = ARCADEStenosisBoxes(arcade / 'arcade_s', 'test')
    found = [[instance['bbox'] for instance in boxes.get_data_info(k)['instances']] for k in range(2)]
    assert [sorted(each) for each in found] == [[[4, 4, 12, 12], [8, 8, 12, 12]], [[20, 20, 26, 26]]]
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_path',)),
    ]
    whole = DanilovStenosis(danilov, pipeline=pipeline)
    sample = whole[0]
    assert sample['inputs'].shape == (3, SIZE, SIZE)
    assert sample['data_samples'].gt_instances.bboxes.tensor.tolist() == [[2, 4, 12, 9]]
    assert sample['data_samples'].gt_instances.labels.tolist() == [0]
    half = DanilovStenosis(danilov, label_fraction=0.5)
    assert len(half) == len(whole) // 2
    assert FolderDetection(danilov).metainfo['classes'] == ('Stenosis',)


@pytest.mark.parametrize(
    ('build', 'error', 'message'),
    [
        (lambda root: ARCADEVessels(root / 'arcade_vs'), DatasetError, "'arcade_vs'; ARCADEVessels reads 'arcade_v'"),
        (lambda root: CAXF(root / 'arcade_v'), DatasetError, "CAXF reads 'caxf'"),
        (lambda root: XCAV(root), DatasetError, 'Name one of them: arcade_s, arcade_v, arcade_vs'),
        (lambda root: ARCADEVessels(root.parent / 'published'), DatasetError, 'this looks like ARCADE as published'),
        (lambda root: ARCADEVessels(root / 'arcade_v', 'vall'), ConfigError, "Did you mean 'val'"),
        (lambda root: ARCADEVessels(root / 'arcade_v', label_fraction=10), ConfigError, 'is no part'),
        (lambda root: FolderDetection(root / 'arcade_v'), DatasetError, 'masks, but no boxes'),
        (lambda root: ARCADEVessels(root / 'arcade_x'), DatasetError, 'Did you mean'),
    ],
)
def test_the_wrong_folder_or_option_is_named(arcade, build, error, message):
    with pytest.raises(error, match=message):
        build(arcade)


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (np.full((SIZE, SIZE), 255, np.uint8), 'holds 255; class indices are 0 to 1'),
        (np.zeros((SIZE, SIZE // 2), np.uint8), f'{SIZE // 2} x {SIZE} pixels, its image {SIZE} x {SIZE}'),
    ],
)
def test_masks_changed_after_preparation_are_refused(pairs, scope, mask, message):
    scope('mmseg')
    dataset = FolderSegmentation(pairs, pipeline=LOAD)
    write_png(Path(dataset.get_data_info(0)['seg_map_path']), mask)
    with pytest.raises(DatasetError, match=message):
        dataset[0]


def test_missing_files_are_named(pairs):
    path = pairs / 'masks' / f'{FolderSegmentation(pairs).names[0]}.png'
    path.unlink()
    with pytest.raises(DatasetError, match=path.name):
        FolderSegmentation(pairs)
    (pairs / 'dataset.json').unlink()
    with pytest.raises(DatasetError, match='its preparation did not finish'):
        FolderSegmentation(pairs)


def test_classes_that_do_not_match_the_categories_are_an_error(danilov):
    with pytest.raises(DatasetError, match="no category 'stenosis' in it"):
        FolderDetection(danilov, metainfo={'classes': ('stenosis',)})


def test_a_prepared_image_is_grey_and_of_8_bits(arcade):
    image = cv2.imread(str(arcade / 'arcade_v' / 'images' / 'syntax_train_2.png'), cv2.IMREAD_UNCHANGED)
    assert image.ndim == 2 and image.dtype == np.uint8


def test_files_in_the_other_spelling_of_accents_are_found(tmp_path):
    """As a copy by way of some file systems and archives leaves them."""
    source = write_pairs(tmp_path / 'published', [f'm\u00fcller{k}_1' for k in range(10)])
    boxes = write_voc(tmp_path / 'boxes', [f'm\u00fcller{k}_1' for k in range(10)])
    for published, out in ((source, 'masks'), (boxes, 'objects')):
        assert main('prepare', ['downstream', 'folder', str(published), str(tmp_path / out)]) == 0
        for path in [*(tmp_path / out / 'images').iterdir(), *(tmp_path / out).glob('masks/*')]:
            path.rename(path.with_name(path.name.replace('\u00fc', 'u\u0308')))
    dataset = FolderSegmentation(tmp_path / 'masks', split='train')
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert infos and all(Path(info[key]).is_file() for info in infos for key in ('img_path', 'seg_map_path'))
    detection = FolderDetection(tmp_path / 'objects', split='train')
    infos = [detection.get_data_info(index) for index in range(len(detection))]
    assert infos and all(Path(info['img_path']).is_file() for info in infos)


def test_a_damaged_list_of_sides_is_an_error_with_its_name(arcade, tmp_path):
    shutil.copytree(arcade / 'arcade_vs', tmp_path / 'set')
    for content in ('[]', '{"a": NaN}', '[' * 100_000, ''):
        (tmp_path / 'set/sides.json').write_text(content)
        with pytest.raises(DatasetError, match=r'sides\.json: '):
            ARCADESegments(tmp_path / 'set')
