"""Folders of boxes as exporters lay them out, through the command: Roboflow's, crowds, outlines, accents of macOS."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from tests.prepare.trees import SIZE, coco_entry, frame, write_coco, write_pairs, write_png, write_voc
from vasomim.cli import main
from vasomim.prepare.prepared import read_description, read_split


def prepare(*words: object) -> int:
    return main('prepare', ['downstream', 'folder', *map(str, words)])


def boxes_of(root: Path, split: str) -> list[tuple[str, str, list[float]]]:
    """The image, the class and the box of each object."""
    content = json.loads((root / f'{split}.json').read_text())
    images = {image['id']: image['file_name'] for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    found = [(images[e['image_id']], names[e['category_id']], e['bbox']) for e in content['annotations']]
    return sorted(found)


def image(number: int, name: str) -> dict:
    return {'id': number, 'file_name': name, 'width': SIZE, 'height': SIZE}


ROBOFLOW = [
    {'id': 0, 'name': 'stenosis', 'supercategory': 'none'},  # The project: often called like a class.
    {'id': 1, 'name': 'calcium', 'supercategory': 'stenosis'},
    {'id': 2, 'name': 'stenosis', 'supercategory': 'stenosis'},
]


def write_roboflow(root: Path) -> Path:
    for k, split in enumerate(('train', 'valid', 'test')):
        name = f'{split}_jpg.rf.{k}.png'
        write_png(root / split / name, frame(k))
        entries = [coco_entry(0, 0, 2, 2, 2, 4 + k), coco_entry(1, 0, 1, 9, 9, 4)]
        content = {'images': [image(0, name)], 'annotations': entries[: 1 + (k == 0)], 'categories': ROBOFLOW}
        (root / split / '_annotations.coco.json').write_text(json.dumps(content))
    (root / 'README.dataset.txt').write_text('exported')
    return root


def test_roboflow_s_layout(tmp_path, capsys):
    assert prepare(write_roboflow(tmp_path / 'export'), tmp_path / 'out') == 0
    assert read_description(tmp_path / 'out')['classes'] == ['calcium', 'stenosis']
    assert boxes_of(tmp_path / 'out', 'train') == [
        ('train_jpg.rf.0.png', 'calcium', [9, 9, 4, 4]),
        ('train_jpg.rf.0.png', 'stenosis', [2, 2, 4, 4]),
    ]
    assert boxes_of(tmp_path / 'out', 'val') == [('valid_jpg.rf.1.png', 'stenosis', [2, 2, 5, 5])]
    assert boxes_of(tmp_path / 'out', 'test') == [('test_jpg.rf.2.png', 'stenosis', [2, 2, 6, 6])]
    assert 'only group others left out (0: stenosis' in capsys.readouterr().out
    assert main('check', [str(tmp_path / 'out')]) == 0


def test_a_group_that_is_drawn_and_a_class_of_its_own_group_stay(tmp_path):
    write_png(tmp_path / 'own' / 'images' / 'a.png', frame(1))
    categories = [
        {'id': 1, 'name': 'lesion', 'supercategory': 'none'},
        {'id': 2, 'name': 'calcium', 'supercategory': 'lesion'},
        {'id': 3, 'name': 'person', 'supercategory': 'person'},
        {'id': 4, 'name': 'child', 'supercategory': 'person'},
    ]
    content = {'images': [image(1, 'a.png')], 'annotations': [coco_entry(1, 1, 1, 2, 2, 4)], 'categories': categories}
    (tmp_path / 'own' / 'boxes.json').write_text(json.dumps(content))
    assert prepare(tmp_path / 'own', tmp_path / 'out') == 0
    assert read_description(tmp_path / 'out')['classes'] == ['lesion', 'calcium', 'person', 'child']


def test_valid_json_is_the_validation_split(tmp_path, capsys):
    source = tmp_path / 'own'
    for k, split in enumerate(('train', 'valid', 'test')):
        write_png(source / 'images' / f'{split}.png', frame(k))
        write_coco(source / f'{split}.json', [image(1, f'{split}.png')], [coco_entry(1, 1, 1, 2, 2, 4)], {1: 'lesion'})
    assert prepare(source, tmp_path / 'out') == 0
    assert [read_split(tmp_path / 'out', split) for split in ('train', 'val', 'test')] == [
        ['train'],
        ['valid'],
        ['test'],
    ]
    write_coco(source / 'val.json', [image(1, 'test.png')], [coco_entry(1, 1, 1, 2, 2, 4)], {1: 'lesion'})
    assert prepare(source, tmp_path / 'b') == 2
    assert 'val.json, valid.json' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('value', 'crowd'),
    [
        *((value, True) for value in (1, True, '1', 'true', 'True', 1.0)),
        *((value, False) for value in (0, False, '0', 'false', None, '', 0.0)),
    ],
)
def test_crowds_are_told_by_every_kind_of_value(tmp_path, value, crowd):
    write_png(tmp_path / 'own' / 'images' / 'a.png', frame(1))
    entries = [coco_entry(1, 1, 1, 2, 2, 4), {**coco_entry(2, 1, 1, 9, 9, 4), 'iscrowd': value}]
    write_coco(tmp_path / 'own' / 'train.json', [image(1, 'a.png')], entries, {1: 'lesion'})
    assert prepare(tmp_path / 'own', tmp_path / 'out') == 0
    assert len(boxes_of(tmp_path / 'out', 'train')) == 2 - crowd


def test_boxes_need_no_outline_and_turned_ones_are_taken_upright(tmp_path, capsys):
    write_png(tmp_path / 'own' / 'images' / 'a.png', frame(1))
    entries = [
        {**coco_entry(1, 1, 1, 2, 2, 4), 'segmentation': [[2, 2, 6, 6]]},
        {**coco_entry(2, 1, 1, 9, 9, 4), 'segmentation': {'counts': 'abc', 'size': [SIZE, SIZE]}},
        {'id': 3, 'image_id': 1, 'category_id': 1, 'bbox': [20, 10, 4, 8], 'attributes': {'rotation': 90.0}},
    ]
    write_coco(tmp_path / 'own' / 'train.json', [image(1, 'a.png')], entries, {1: 'lesion'})
    assert prepare(tmp_path / 'own', tmp_path / 'out') == 0
    found = [box for _, _, box in boxes_of(tmp_path / 'out', 'train')]
    assert found == [[2, 2, 4, 4], [9, 9, 4, 4], [18, 12, 8, 4]]
    write_coco(tmp_path / 'own' / 'train.json', [image(1, 'a.png')], [{**entries[0], 'iscrowd': 'some'}], {1: 'lesion'})
    assert prepare(tmp_path / 'own', tmp_path / 'b') == 2
    assert "train.json annotation 1 of a.png: its iscrowd is 'some'" in capsys.readouterr().err


def test_accents_that_macos_keeps_apart_are_the_same_name(tmp_path):
    """Names of the files with the accent apart, in lists and annotation files as one letter, and the reverse."""
    one, two = (unicodedata.normalize(form, 'Größe_1') for form in ('NFC', 'NFD'))
    assert one != two
    pairs = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', one])
    (pairs / 'images' / f'{one}.png').rename(pairs / 'images' / f'{two}.png')
    for split, name in (('train', two), ('val', 'a_1'), ('test', 'b_1')):
        (pairs / f'{split}.txt').write_text(f'{name}.png\n', encoding='utf-8')
    voc = write_voc(tmp_path / 'voc', [one])
    (voc / f'{one}.xml').rename(voc / f'{two}.xml')
    write_png(tmp_path / 'coco' / 'images' / two / f'{two}.png', frame(1))
    write_coco(
        tmp_path / 'coco' / 'train.json', [image(1, f'{one}/{one}.png')], [coco_entry(1, 1, 1, 2, 2, 4)], {1: 'x'}
    )
    for kind, name in (('pairs', one), ('voc', one), ('coco', f'{one}_{one}')):
        assert prepare(tmp_path / kind, tmp_path / f'{kind}_out') == 0
        assert read_split(tmp_path / f'{kind}_out', 'train') == [name]
