"""Every file that a prepared set is read back from, damaged in every way: an error that names it, never a traceback."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.prepare.trees import frame, write_coco, write_png, write_voc
from vasomim.cli import main
from vasomim.data.prepared_split import excluded_names, open_split
from vasomim.errors import DatasetError, VasoMIMError
from vasomim.prepare.check import Findings, check_set
from vasomim.prepare.folder import read_folder
from vasomim.prepare.pool_check import check_source
from vasomim.prepare.prepared import read_split, split_text
from vasomim.prepare.splitting import Choices

DAMAGE = {
    'empty': b'',
    'cut': b'{"name": ',
    'NaN': b'NaN',
    'NaN inside': b'{"exclude": [NaN], "name": NaN}',
    'too large': b'{"exclude": [1e999]}',
    'null': b'null',
    'a list': b'[]',
    'a text': b'"text"',
    'nothing in it': b'{}',
    'deep': b'[' * 100_000,
    'deep and whole': b'{"a":' * 100_000 + b'1' + b'}' * 100_000,
    'surrogate': b'{"name": "\\ud800", "exclude": ["\\ud800"]}',
    'Latin-1': b'{"name": "\xe4", "exclude": ["\xe4"]}',
    'UTF-16': '{"name": 1}'.encode('utf-16'),
    'long number': b'{"a": ' + b'9' * 10_000 + b'}',
}

WRONG: tuple[Any, ...] = (None, True, -1, 10**400, 1.5, 'x', '', [], [[]], [None], {}, {'x': None}, {'train': 'x'})


@pytest.fixture(scope='module')
def boxes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('boxes')
    source = write_voc(root / 'published', [f'{patient}_1_1_1' for patient in range(10)])
    assert main('prepare', ['downstream', 'stenosis', str(source), str(root / 'set')]) == 0
    return root


@pytest.fixture(scope='module')
def pool(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('pool')
    for k in range(4):
        write_png(root / 'source' / f'p{k}_1.png', frame(k))
    assert prepare_pool(root) == 0
    return root


def prepare_pool(root: Path) -> int:
    words = ['pretrain', 'folder', str(root / 'source'), str(root / 'out'), '--name', 'x', '--held-out', '0.3']
    return main('prepare', [*words, '--jobs', '1'])


@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize('file', ['dataset.json', 'train.json', 'splits/train.txt'])
def test_labelled_sets(boxes, capsys, file, damage):
    path = boxes / 'set' / file
    sound = path.read_bytes()
    path.write_bytes(DAMAGE[damage])
    try:
        assert main('check', [str(boxes / 'set'), '--partial']) == 1
        assert path.name in capsys.readouterr().out
        if file != 'train.json':
            with pytest.raises(DatasetError, match=path.name):
                open_split('Reader', boxes / 'set', 'train', needs='boxes')
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize(
    'file', ['x.json', 'x.csv', 'splits/x_train.txt', 'splits/train.txt', 'x_frangi/extract_settings.json']
)
def test_sets_to_pretrain_on(pool, capsys, file, damage):
    path = pool / 'out' / file
    sound = path.read_bytes()
    path.write_bytes(DAMAGE[damage])
    try:
        if path.name == 'extract_settings.json':
            assert prepare_pool(pool) == 2
            assert path.name in capsys.readouterr().err
            return
        assert main('check', [str(pool / 'out'), '--partial', '--jobs', '1']) == 1
        assert path.name in capsys.readouterr().out
        assert prepare_pool(pool) == 0  # What is damaged is written again.
        assert path.read_bytes() == sound
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize('damage', DAMAGE)
def test_annotations_and_lists_of_others(tmp_path, capsys, damage):
    source = tmp_path / 'own'
    write_png(source / 'images' / 'a.png', frame(1))
    (source / 'boxes.json').write_bytes(DAMAGE[damage])
    assert main('prepare', ['downstream', 'folder', str(source), str(tmp_path / 'out')]) == 2
    assert 'boxes.json' in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r'boxes\.json'):
        excluded_names(source / 'boxes.json')


def places(content: Any) -> list[tuple]:
    """The paths to every value in a JSON document, the first two of a list."""
    found: list[tuple] = []
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else list(enumerate(content))[:2]
        for key, value in items:
            found += [(key,), *((key, *rest) for rest in places(value))]
    return found


def replaced(content: Any, place: tuple, value: Any) -> Any:
    copy = json.loads(json.dumps(content))
    *above, last = place
    target = copy
    for key in above:
        target = target[key]
    target[last] = value
    return copy


@pytest.mark.parametrize('file', ['dataset.json', 'train.json'])
def test_every_value_of_a_labelled_set_may_be_wrong(boxes, file):
    path = boxes / 'set' / file
    sound = path.read_text()
    content = json.loads(sound)
    try:
        for place, value in itertools.product(places(content), WRONG):
            path.write_text(json.dumps(replaced(content, place, value)))
            check_set(boxes / 'set', Findings(), partial=True)
            try:
                open_split('Reader', boxes / 'set', 'train', needs='boxes')
            except VasoMIMError as error:
                assert file == 'dataset.json', error
    finally:
        path.write_text(sound)


def test_every_value_of_a_summary_may_be_wrong(pool):
    path = pool / 'out' / 'x.json'
    sound = path.read_text()
    content = json.loads(sound) | {'damaged': [['a.png', 'cut short']]}
    try:
        for place, value in itertools.product(places(content), WRONG):
            path.write_text(json.dumps(replaced(content, place, value)))
            check_source(pool / 'out', 'x', Findings())
    finally:
        path.write_text(sound)


def test_every_value_of_a_coco_file_may_be_wrong(tmp_path):
    source = tmp_path / 'own'
    write_png(source / 'images' / 'a.png', frame(1))
    entry = {
        'id': 1,
        'image_id': 1,
        'category_id': 1,
        'bbox': [2, 2, 4, 4],
        'iscrowd': 0,
        'segmentation': [[2, 2, 6, 6]],
    }
    entry['attributes'] = {'rotation': 30.0}
    write_coco(source / 'train.json', [{'id': 1, 'file_name': 'a.png', 'width': 32, 'height': 32}], [entry], {1: 'x'})
    content = json.loads((source / 'train.json').read_text())
    content['categories'][0]['supercategory'] = 'none'
    sound = 0
    for place, value in itertools.product(places(content), WRONG):
        (source / 'train.json').write_text(json.dumps(replaced(content, place, value)))
        try:
            (plan,) = read_folder(source, Choices())
        except VasoMIMError:
            continue
        sound += 1
        json.dumps([each.box for frame in plan.frames for each in frame.instances], allow_nan=False)
    assert sound


def test_pipes_in_place_of_files_do_not_hang(boxes, pool, capsys):
    for root, names in ((boxes / 'set', ('dataset.json', 'train.json', 'splits/val.txt')), (pool / 'out', ('x.csv',))):
        for name in names:
            path = root / name
            sound = path.read_bytes()
            path.unlink()
            os.mkfifo(path)
            try:
                assert main('check', [str(root), '--partial', '--jobs', '1']) in (1, 2)
                printed = capsys.readouterr()
                assert root.name in printed.out + printed.err
            finally:
                path.unlink()
                path.write_bytes(sound)


def test_lists_that_are_shorter_or_longer_than_prepared_are_found(boxes, pool, capsys):
    train, val = (read_split(boxes / 'set', split) for split in ('train', 'val'))
    paths = {split: boxes / 'set' / 'splits' / f'{split}.txt' for split in ('train', 'val')}
    sound = {split: path.read_bytes() for split, path in paths.items()}
    # As many as were prepared, under a sound hash of their own: one patient has moved.
    paths['train'].write_text(split_text([*train[1:], *val]))
    paths['val'].write_text(split_text(train[:1]))
    assert main('check', [str(boxes / 'set'), '--partial']) == 1
    printed = capsys.readouterr().out
    assert all(f'{path}: it is not the list that was prepared' in printed for path in paths.values())
    for split, path in paths.items():
        path.write_bytes(sound[split])

    splits = pool / 'out' / 'splits'
    for name in ('train.txt', 'x_train.txt'):
        whole = (splits / name).read_bytes()
        lines = whole.splitlines(keepends=True)
        for lines_now in (lines[: len(lines) // 2], [*lines, lines[0]], []):
            (splits / name).write_bytes(b''.join(lines_now))
            assert main('check', [str(pool / 'out'), '--partial', '--jobs', '1']) == 1
            assert f'{splits / name}: it is not the list' in capsys.readouterr().out
        (splits / name).write_bytes(whole)
    # A whole patient of the source moved, and the joint lists with it: nothing is torn, but it is another division.
    both = [(splits / f'x_{subset}.txt').read_text() for subset in ('train', 'held_out')]
    for subset, text in zip(('train', 'held_out'), (both[0] + both[1], ''), strict=True):
        for name in (f'x_{subset}.txt', f'{subset}.txt'):
            (splits / name).write_text(text)
    assert main('check', [str(pool / 'out'), '--partial', '--jobs', '1']) == 1
    assert 'x_train.txt: it is not the list that was prepared' in capsys.readouterr().out
    assert prepare_pool(pool) == 0
    assert main('check', [str(pool / 'out'), '--partial', '--jobs', '1']) == 0
