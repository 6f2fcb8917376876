"""``vasomim prepare`` on small published trees: what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.prepare.trees import SIZE, coco_entry, frame, write_arcade, write_coco, write_pairs, write_png, write_voc
from vasomim.cli import main
from vasomim.data.prepared_split import open_split
from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey
from vasomim.prepare.prepared import read_description, read_split
from vasomim.prepare.sets.arcade import CATEGORIES
from vasomim.prepare.splitting import Choices


def prepare(*words: object) -> int:
    return main('prepare', ['downstream', *map(str, words)])


def refused(capsys, *words: object) -> str:
    capsys.readouterr()
    assert prepare(*words) == 2
    return capsys.readouterr().err


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def masks(root: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_grey(path) for path in sorted((root / 'masks').iterdir())}


@pytest.fixture
def arcade(tmp_path) -> Path:
    return write_arcade(tmp_path / 'arcade')


def test_arcade_becomes_three_sets(arcade, tmp_path, capsys):
    assert prepare('arcade', arcade, tmp_path / 'out') == 0
    vessels, segments, stenoses = (tmp_path / 'out' / name for name in ('arcade_v', 'arcade_vs', 'arcade_s'))
    for root, task in ((vessels, 'syntax'), (segments, 'syntax'), (stenoses, 'stenosis')):
        for split in ('train', 'val', 'test'):
            assert read_split(root, split) == [f'{task}_{split}_1', f'{task}_{split}_2']
        for name in read_split(root, 'train'):
            published = arcade / task / 'train' / 'images' / f'{name[-1]}.png'
            image = cv2.imread(str(root / 'images' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
            assert image.shape == (SIZE, SIZE)
            assert np.array_equal(image, cv2.imread(str(published), cv2.IMREAD_GRAYSCALE))

    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[4:12, 4:12] = 1
    expected[8:12, 8:12] = 16  # The smaller one, on top.
    assert np.array_equal(masks(segments)['syntax_train_1'], expected)
    assert np.array_equal(masks(vessels)['syntax_train_1'], expected > 0)
    assert read_description(segments)['classes'][15] == '13'
    assert read_description(vessels)['counts']['train'] == {
        'frames': 2,
        'instances': 3,
        'frames_without_instances': 0,
    }
    # Segment 1 is right and 13 is left: together they tell nothing.
    assert json.loads((segments / 'sides.json').read_text()) == {
        f'syntax_{split}_2': 'left' for split in ('train', 'val', 'test')
    }

    boxes = json.loads((stenoses / 'train.json').read_text())
    assert boxes['categories'] == [{'id': 1, 'name': 'stenosis'}]
    names = {image['id']: image['file_name'] for image in boxes['images']}
    found = sorted((names[each['image_id']], each['bbox']) for each in boxes['annotations'])
    assert found == [
        ('stenosis_train_1.png', [4, 4, 8, 8]),
        ('stenosis_train_1.png', [8, 8, 4, 4]),
        ('stenosis_train_2.png', [20, 20, 6, 6]),
    ]
    assert '2 train, 2 val, 2 test' in capsys.readouterr().out


def test_a_zip_file_gives_the_same_as_its_folder(arcade, tmp_path):
    archive = tmp_path / 'arcade.zip'
    with zipfile.ZipFile(archive, 'w') as packed:
        for path in arcade.rglob('*'):
            packed.write(path, Path('deep', 'arcade', path.relative_to(arcade)))
            if path.is_file():  # What macOS adds.
                packed.writestr(f'__MACOSX/arcade/{path.relative_to(arcade).parent}/._{path.name}', b'resource')
    assert prepare('arcade', arcade, tmp_path / 'a') == 0
    assert prepare('arcade', archive, tmp_path / 'b') == 0
    assert files(tmp_path / 'a') == files(tmp_path / 'b')
    assert {path.name for path in tmp_path.iterdir()} == {'arcade', 'arcade.zip', 'a', 'b'}


def test_a_stopped_run_continues_and_keeps_what_is_there(arcade, tmp_path, monkeypatch):
    from vasomim.prepare import write

    assert prepare('arcade', arcade, tmp_path / 'whole') == 0
    original, calls = write.write_frame, []

    def stop_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(write, 'write_frame', stop_at_the_third)
    assert prepare('arcade', arcade, tmp_path / 'out') == 130
    assert not (tmp_path / 'out' / 'arcade_v' / 'dataset.json').exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*.png')}
    assert len(kept) == 4
    monkeypatch.undo()
    assert prepare('arcade', arcade, tmp_path / 'out') == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert files(tmp_path / 'out') == files(tmp_path / 'whole')


def test_a_destination_with_something_else_is_left_alone(arcade, tmp_path, capsys):
    pairs = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    assert prepare('folder', pairs, tmp_path / 'out') == 0
    before = files(tmp_path / 'out')
    write_pairs(pairs, ['a_1', 'b_1', 'c_1', 'd_1'])
    assert 'prepared from other data' in refused(capsys, 'folder', pairs, tmp_path / 'out')
    assert files(tmp_path / 'out') == before
    assert 'is no prepared set' in refused(capsys, 'folder', pairs, pairs)


def test_a_mask_or_image_that_was_corrected_is_noticed(tmp_path, capsys):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    mask = read_grey(source / 'masks' / 'a_1.png')
    (source / 'masks' / 'a_1.png').unlink()
    write_png(source / 'masks' / 'a_1.bmp', mask)  # As large whatever it shows.
    assert prepare('folder', source, tmp_path / 'out') == 0
    assert prepare('folder', source, tmp_path / 'out') == 0
    for path in (source / 'masks' / 'a_1.bmp', source / 'images' / 'b_1.png'):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 255]))
        assert 'prepared from other data' in refused(capsys, 'folder', source, tmp_path / 'out')
        path.write_bytes(whole)
    assert prepare('folder', source, tmp_path / 'out') == 0


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['categories'][25].update(name='Stenosis'), "'Stenosis'. Did you mean 'stenosis'?"),
        (lambda c: c['categories'][0].update(name='2'), "category '2' has the id 1"),
        (lambda c: c['annotations'][0].update(category_id=99), 'category id 99'),
        (lambda c: c['categories'].pop(0), 'category id 1'),
        (lambda c: c['images'][0].update(id=7), "1 ids stand more than once in 'images'"),
        (lambda c: c['images'][0].update(file_name='9.png'), '1 of 2 images are missing on disk'),
        (lambda c: c['images'][0].update(width=SIZE + 1), 'Annotation and image do not belong together'),
        (lambda c: c.pop('categories'), "it has no list 'categories'"),
        (lambda c: c['images'][0].pop('width'), "has no 'width'"),
        (lambda c: c['images'][0].update(width=None), "'2.png' has the width None"),
        (lambda c: c['annotations'].append(5), "an entry of 'annotations' has no 'id'"),
        (lambda c: c['annotations'][0].update(segmentation={'counts': []}), 'run-length codes'),
        (lambda c: c['annotations'][0].update(image_id=[7]), 'has the image_id [7]'),
        (lambda c: c['categories'][0].update(id='1'), "an entry of 'categories' has the id '1'"),
        (lambda c: c['annotations'].clear(), 'no usable annotation: none is listed'),
        (
            lambda c: [each.update(category_id=26) for each in c['annotations']],
            'no usable annotation: 3 annotations of other classes left out',
        ),
        (
            lambda c: [each.update(id=str(each['id'])) for each in c['images']],
            'no usable annotation: 3 annotations of images that are not listed left out',
        ),
    ],
)
def test_wrong_annotations_are_errors(arcade, tmp_path, capsys, change, message):
    path = arcade / 'syntax' / 'train' / 'annotations' / 'train.json'
    edit(path, change)
    error = refused(capsys, 'arcade', arcade, tmp_path / 'out')
    assert message in error
    assert 'train' in error
    assert 'Traceback' not in error


def test_repairs_are_printed_and_stored(arcade, tmp_path, capsys):
    path = arcade / 'syntax' / 'train' / 'annotations' / 'train.json'

    def change(content):
        content['annotations'] += [
            coco_entry(3, 7, 2, 30, 30, 8),  # An id that is taken, and over the edge.
            {**coco_entry(5, 7, 2, 0, 0, 4), 'segmentation': [[1, 1, 2, 2, 3, 3]]},
            coco_entry(6, 5, 2, 0, 0, 4),
            coco_entry(9, 7, 26, 0, 0, 4),
        ]

    edit(path, change)
    write_png(path.parents[1] / 'images' / 'extra.png', frame(5))
    (path.parents[1] / 'images' / '2.png').unlink()
    assert prepare('arcade', arcade, tmp_path / 'out', '--skip-missing') == 0
    printed = capsys.readouterr().out
    assert "1 polygons cut at the image's edge (syntax/train annotation 3 of 1.png)" in printed
    assert read_description(tmp_path / 'out' / 'arcade_vs')['repairs'] == {
        'annotation ids that stood more than once made unique': ['syntax/train id 3'],
        'images missing on disk left out': ['syntax/train 2.png'],
        'images without an entry left out': ['syntax/train extra.png'],
        "polygons cut at the image's edge": ['syntax/train annotation 3 of 1.png'],
        "boxes cut at the image's edge": ['syntax/train annotation 3 of 1.png'],
        'polygons without an area left out': ['syntax/train annotation 5 of 1.png'],
        'instances without a usable polygon left out': ['syntax/train annotation 5 of 1.png'],
        'annotations of other classes left out': ['syntax/train annotation 9 of 1.png'],
        'annotations of images that are not listed left out': ['syntax/train annotation 6'],
    }
    mask = masks(tmp_path / 'out' / 'arcade_vs')['syntax_train_1']
    assert (mask[30:, 30:] == 2).all()


@pytest.mark.parametrize(('low', 'high'), [(0, 255), (0, 1), (7, 90)])
def test_masks_of_any_two_grey_values_become_0_and_1(tmp_path, low, high):
    names = [f'p{k}_1' for k in range(6)] + ['full_1']
    source = write_pairs(tmp_path / 'pairs', names, (low, high))
    write_png(source / 'masks' / 'full_1.png', np.full((SIZE, SIZE), high, np.uint8))  # Uniform, but not empty.
    assert prepare('folder', source, tmp_path / 'out') == 0
    found = masks(tmp_path / 'out')
    assert [int(found[name].sum()) for name in names[:-1]] == [SIZE * (k + 1) for k in range(6)]
    assert found['full_1'].min() == 1
    splits = [read_split(tmp_path / 'out', split) for split in ('train', 'val', 'test')]
    assert all(splits) and sorted(name for part in splits for name in part) == sorted(names)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda root: write_png(root / 'masks/b_1.png', frame(3)), 'a set of masks has two grey values'),
        (lambda root: write_png(root / 'masks/b_1.png', np.zeros((8, 9), np.uint8)), 'the mask is 9 x 8 pixels'),
        (lambda root: (root / 'masks/b_1.png').unlink(), 'this image has no mask of its name'),
        (lambda root: (root / 'images/b_1.png').unlink(), 'this mask has no image of its name'),
        (lambda root: (root / 'masks/b_1.png').write_bytes(b'\x89PNG broken'), 'damaged, cut short'),
        (lambda root: (root / 'images/b_1.png').write_bytes(b''), 'the file is empty'),
        (lambda root: write_png(root / 'images/b_1.bmp', frame(3)), 'differ in their endings only'),
        (lambda root: (root / 'train.txt').write_text('a_1.png\nb_l.png\n'), "Did you mean 'b_1'?"),
        (lambda root: (root / 'train.txt').write_bytes(bytes(range(256))), 'train.txt: it is not UTF-8'),
        (
            lambda root: [(root / f'{split}.txt').write_text('a_1.png\n') for split in ('train', 'test')],
            'A frame belongs to one split',
        ),
    ],
)
def test_wrong_masks_and_lists_are_errors(tmp_path, capsys, spoil, message):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    spoil(source)
    assert message in refused(capsys, 'folder', source, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'dataset.json').exists()


def test_blurred_masks_are_read_with_a_threshold(tmp_path):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    blurred = cv2.GaussianBlur(read_grey(source / 'masks' / 'c_1.png'), (3, 3), 0)
    write_png(source / 'masks' / 'c_1.png', blurred)
    assert prepare('folder', source, tmp_path / 'out', '--threshold', '127') == 0
    assert np.array_equal(masks(tmp_path / 'out')['c_1'], blurred > 127)


def test_masks_without_a_second_value_are_refused(tmp_path, capsys):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1'], (0, 0))
    assert 'every pixel of its 2 masks is 0' in refused(capsys, 'folder', source, tmp_path / 'out')


def test_deep_masks_name_a_cure_that_keeps_their_values(tmp_path, capsys):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    write_png(source / 'masks' / 'b_1.png', np.eye(SIZE, dtype=np.uint16))
    error = refused(capsys, 'folder', source, tmp_path / 'out')
    assert 'b_1.png: uint16 values; masks are 8-bit.' in error
    assert 'values as they are' in error and 'window' not in error


def test_masks_of_something_else_than_vessels_are_called_so(tmp_path, capsys):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    assert prepare('folder', source, tmp_path / 'out', '--class', 'stenosis') == 0
    assert read_description(tmp_path / 'out')['classes'] == ['stenosis']
    assert "'background' is what no class covers" in refused(
        capsys, 'folder', source, tmp_path / 'b', '--class', 'background'
    )
    boxes = write_voc(tmp_path / 'boxes', ['1_1', '2_1', '3_1'])
    assert 'their files name the classes' in refused(capsys, 'folder', boxes, tmp_path / 'b', '--class', 'stenosis')


@pytest.mark.parametrize(('ending', 'classes'), [('png', True), ('jpg', False)])
def test_several_classes_are_told_from_blurred_masks(tmp_path, capsys, ending, classes):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1', 'c_1'])
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[8:16, 5:13], mask[20:28, 20:28] = (1, 2) if classes else (255, 255)
    (source / 'masks' / 'b_1.png').unlink()
    write_png(source / 'masks' / f'b_1.{ending}', mask)
    error = refused(capsys, 'folder', source, tmp_path / 'out')
    assert ('Several classes are not read' in error) == classes
    assert ('--threshold' in error) != classes


def test_caxf_keeps_the_lists_of_its_owners(tmp_path):
    names = [f'{k:04d}' for k in range(12)]
    source = write_pairs(tmp_path / 'caxf', names)
    (source / 'train.txt').write_text('\n'.join(f'{name}.png' for name in names[:9]))
    (source / 'test.txt').write_text('\n'.join(names[9:]))
    assert prepare('caxf', source, tmp_path / 'out', '--val', '0.2') == 0
    assert read_split(tmp_path / 'out', 'test') == names[9:]
    train, val = (read_split(tmp_path / 'out', split) for split in ('train', 'val'))
    assert len(val) == 2 and sorted(train + val) == names[:9]
    assert prepare('caxf', source, tmp_path / 'again', '--val', '0.2') == 0
    assert files(tmp_path / 'out') == files(tmp_path / 'again')


def test_the_stenosis_set_is_split_by_patient_and_its_corners_are_inclusive(tmp_path):
    names = [f'{patient:02d}_001_{cine}_{k:04d}' for patient in range(8) for cine in (1, 2) for k in range(3)]
    source = write_voc(tmp_path / 'stenosis', names)
    write_png(source / '99_001_1_0001.bmp', frame(9))  # Nobody looked at this one.
    assert prepare('stenosis', source, tmp_path / 'out') == 0
    patient_of = {
        split: {name[:2] for name in read_split(tmp_path / 'out', split)} for split in ('train', 'val', 'test')
    }
    assert len(patient_of['val']) == len(patient_of['test']) == 1 and len(patient_of['train']) == 6
    assert not patient_of['train'] & patient_of['val'] and not patient_of['train'] & patient_of['test']
    boxes = json.loads((tmp_path / 'out' / 'test.json').read_text())['annotations']
    assert {tuple(each['bbox']) for each in boxes} == {(2, 4, 10, 5)}  # Columns 3 to 12 and rows 5 to 9, from 1.
    assert read_description(tmp_path / 'out')['repairs'] == {
        'images without an annotation file left out': ['99_001_1_0001']
    }


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda root: write_voc(root, ['1_1_1_1'], label='stenosis'), "'stenosis'. Did you mean 'Stenosis'?"),
        (lambda root: (root / '1_1_1_1.xml').write_text('<annotation><size>'), 'not valid XML'),
        (lambda root: (root / '1_1_1_1.xml').write_text('<annotation/>'), 'there is no <size/width>'),
        (lambda root: (root / '1_1_1_1.bmp').unlink(), 'this annotation has no image of its name'),
        (lambda root: write_png(root / '1_1_1_1.bmp', frame(0, 40)), 'Annotation and image do not belong together'),
    ],
)
def test_wrong_voc_files_are_errors(tmp_path, capsys, spoil, message):
    source = write_voc(tmp_path / 'stenosis', ['1_1_1_1', '2_1_1_1', '3_1_1_1'])
    spoil(source)
    assert message in refused(capsys, 'stenosis', source, tmp_path / 'out')


def test_boxes_of_zero_size_are_left_out_and_counted(tmp_path, capsys):
    source = write_voc(tmp_path / 'stenosis', ['1_1_1_1', '2_1_1_1'])
    write_voc(source, ['3_1_1_1'], box=(5, 5, 5, 9))
    assert prepare('stenosis', source, tmp_path / 'out') == 0
    assert '1 boxes without a size (3_1_1_1.xml object 1)' in capsys.readouterr().out


def test_xcav_takes_frames_with_a_mask_of_vessels_by_patient(tmp_path):
    source = tmp_path / 'xcav'
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:4] = 255
    for patient in range(1, 5):
        for view in ('LAO30', 'RAO20_CRA5'):
            for k in range(4):
                write_png(source / f'CVAI-{patient:04d}/images/{view}/{k:05d}.png', frame(patient * 10 + k))
            for folder in (view, f'{view}CATH'):
                write_png(source / f'CVAI-{patient:04d}/ground_truth/{folder}/00003.png', mask)
    write_png(source / 'CVAI-0001/ground_truth/LAO30CATH/00002.png', mask)
    assert prepare('xcav', source, tmp_path / 'out') == 0
    names = {split: read_split(tmp_path / 'out', split) for split in ('train', 'val', 'test')}
    assert {split: len({name[:9] for name in part}) for split, part in names.items()} == {
        'train': 2,
        'val': 1,
        'test': 1,
    }
    assert sorted(name for part in names.values() for name in part)[:2] == [
        'CVAI-0001_LAO30_00003',
        'CVAI-0001_RAO20_CRA5_00003',
    ]
    assert read_description(tmp_path / 'out')['repairs'] == {
        'frames whose only mask shows vessel and catheter left out': ['CVAI-0001/LAO30CATH/00002']
    }


def test_a_folder_of_coco_boxes(tmp_path, capsys):
    source = tmp_path / 'own'
    for split, k in (('train', 0), ('val', 1), ('test', 2)):
        write_png(source / f'images/{k}.png', frame(k))
        image = {'id': 5, 'file_name': f'{k}.png', 'width': SIZE, 'height': SIZE}
        write_coco(
            source / f'annotations/{split}.json', [image], [coco_entry(1, 5, 9, 2, 2, 4)], {4: 'stent', 9: 'lesion'}
        )
    assert prepare('folder', source, tmp_path / 'out', '--skip-missing') == 0
    found = json.loads((tmp_path / 'out' / 'test.json').read_text())
    assert [category['name'] for category in found['categories']] == ['stent', 'lesion']
    assert [each['category_id'] for each in found['annotations']] == [2]
    edit(source / 'annotations' / 'val.json', lambda content: content['categories'][0].update(name='wire'))
    assert 'are not those of the other files' in refused(capsys, 'folder', source, tmp_path / 'other')


def write_boxes(source: Path, names: list[str]) -> Path:
    """Write a COCO file that lists images by these names, each with one box."""
    images = [{'id': k, 'file_name': name, 'width': SIZE, 'height': SIZE} for k, name in enumerate(names)]
    entries = [coco_entry(k + 1, k, 1, 2, 2, 4 + k) for k in range(len(names))]
    write_coco(source / 'boxes.json', images, entries, {1: 'lesion'})
    return source


def test_files_of_windows_tools_are_read(tmp_path):
    boxes = write_boxes(tmp_path / 'boxes', [f'JPEGImages\\{name}_1.png' for name in 'abc'])
    for k, name in enumerate('abc'):
        write_png(boxes / 'images' / f'{name}_1.png', frame(k))
    pairs = write_pairs(tmp_path / 'pairs', ['a', 'b', 'c'])
    (pairs / 'train.txt').write_text('images\\a.png\n')
    for split, name in (('val', 'b'), ('test', 'c')):
        (pairs / f'{split}.txt').write_text(f'{name}.png\n')
    for path in (boxes / 'boxes.json', pairs / 'train.txt', pairs / 'test.txt'):
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert prepare('folder', boxes, tmp_path / 'a') == 0
    assert prepare('folder', pairs, tmp_path / 'b') == 0
    assert [read_split(tmp_path / 'b', split) for split in ('train', 'val', 'test')] == [['a'], ['b'], ['c']]


def test_coco_images_in_folders_are_found_and_keep_names_of_their_own(tmp_path, capsys):
    source = write_boxes(tmp_path / 'own', ['p1/1.png', 'p2/1.png', 'images/p3/1.png', '/home/me/own/images/4.png'])
    for k, place in enumerate(('p1/1.png', 'p2/1.png', 'p3/1.png', '4.png', 'p3/2.png')):
        write_png(source / 'images' / place, frame(k))
    assert prepare('folder', source, tmp_path / 'out') == 0
    assert 'without an entry left out (boxes.json p3/2.png)' in capsys.readouterr().out
    splits = [read_split(tmp_path / 'out', split) for split in ('train', 'val', 'test')]
    assert sorted(name for names in splits for name in names) == ['4', 'p1_1', 'p2_1', 'p3_1']
    for k, name in enumerate(('p1_1', 'p2_1', 'p3_1', '4')):
        assert np.array_equal(read_grey(tmp_path / 'out' / 'images' / f'{name}.png'), frame(k))
    (source / 'images' / 'p2' / '1.png').unlink()
    assert '1 of 4 images are missing on disk (first: p2/1' in refused(capsys, 'folder', source, tmp_path / 'b')


def test_crowds_are_left_out_and_classes_have_names_of_their_own(tmp_path, capsys):
    source = tmp_path / 'boxes'
    for k in range(4):
        write_png(source / 'images' / f'{"abcd"[k]}_1.png', frame(k))
    images = [{'id': k, 'file_name': f'{"abcd"[k]}_1.png', 'width': SIZE, 'height': SIZE} for k in range(4)]
    entries = [coco_entry(1, 0, 1, 2, 2, 8), {**coco_entry(2, 1, 2, 2, 2, 8), 'iscrowd': 1}]
    write_coco(source / 'boxes.json', images, entries, {1: 'stenosis', 2: 'calcium'})
    assert prepare('folder', source, tmp_path / 'out') == 0
    assert '1 annotations of crowds left out (boxes.json annotation 2 of b_1.png)' in capsys.readouterr().out
    counts = read_description(tmp_path / 'out')['counts']
    assert sum(counts[split]['instances'] for split in counts) == 1
    write_coco(source / 'boxes.json', images, entries, {1: 'stenosis', 2: 'stenosis'})
    assert "2 categories are called 'stenosis'" in refused(capsys, 'folder', source, tmp_path / 'other')


def test_inverted_masks_and_empty_splits_are_pointed_out(tmp_path, capsys):
    source = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1'], (255, 0))
    assert prepare('folder', source, tmp_path / 'out') == 0
    printed = capsys.readouterr().out
    assert f'{source / "masks"}: 95 % are 255' in printed  # Of 64 columns 1 + 2 are dark.
    assert 'warning: no frame for val' in printed and 'no frame for train' not in printed


def test_names_of_one_series_name_the_way_to_splits(tmp_path, capsys):
    source = write_pairs(tmp_path / 'pairs', [f'img{k:03d}' for k in range(12)])
    assert prepare('folder', source, tmp_path / 'out') == 0
    printed = capsys.readouterr().out
    assert '12 train, 0 val, 0 test' in printed and 'by series (1 of them)' in printed
    assert "--group '.+' takes each frame for itself" in printed
    with pytest.raises(DatasetError, match='val') as caught:
        open_split('Reader', tmp_path / 'out', 'val')
    assert "--group '.+'" in caught.value.cure
    assert prepare('folder', source, tmp_path / 'each', '--group', '.+') == 0
    assert all(read_split(tmp_path / 'each', split) for split in ('train', 'val', 'test'))
    voc = write_voc(tmp_path / 'voc', [f'frame_{k:03d}' for k in range(8)])
    assert prepare('folder', voc, tmp_path / 'boxes', '--group', '.+') == 0
    assert all(read_split(tmp_path / 'boxes', split) for split in ('train', 'val', 'test'))
    listed = write_pairs(tmp_path / 'caxf', [f'img{k:03d}' for k in range(12)])
    (listed / 'train.txt').write_text('\n'.join(f'img{k:03d}' for k in range(9)))
    (listed / 'test.txt').write_text('\n'.join(f'img{k:03d}' for k in range(9, 12)))
    assert prepare('caxf', listed, tmp_path / 'lists', '--group', '.+') == 0
    assert read_split(tmp_path / 'lists', 'val')


def test_sets_with_a_layout_of_their_own_are_not_taken_for_folders(arcade, tmp_path, capsys):
    assert 'looks like ARCADE; did you mean `arcade`?' in refused(capsys, 'folder', arcade, tmp_path / 'out')
    assert 'looks like ARCADE syntax; did' in refused(capsys, 'folder', arcade / 'syntax', tmp_path / 'out')
    assert 'looks like ARCADE syntax; did' in refused(capsys, 'stenosis', arcade / 'syntax', tmp_path / 'out')
    assert prepare('arcade', arcade, tmp_path / 'sets') == 0
    for kind in ('folder', 'caxf'):
        error = refused(capsys, kind, tmp_path / 'sets' / 'arcade_v', tmp_path / 'again')
        assert 'a set that is prepared already' in error
    assert not (tmp_path / 'again').exists()


def test_a_folder_of_another_set_is_recognized(arcade, tmp_path, capsys):
    voc = write_voc(tmp_path / 'danilov', ['1_1_1_1'])
    pairs = write_pairs(tmp_path / 'pairs', ['a_1'])
    (tmp_path / 'empty').mkdir()
    out = tmp_path / 'out'
    assert 'this looks like ARCADE; did you mean `arcade`?' in refused(capsys, 'caxf', arcade, out)
    assert 'this looks like ARCADE syntax; did you mean `arcade`?' in refused(capsys, 'xcav', arcade / 'syntax', out)
    assert 'ARCADE syntax alone.\n  Name the folder' in refused(capsys, 'arcade', arcade / 'syntax', out)
    assert 'this looks like the Stenosis set; did you mean `stenosis`?' in refused(capsys, 'arcade', voc, out)
    assert 'images and masks; did you mean `folder`?' in refused(capsys, 'stenosis', pairs, out)
    assert "this is not the layout of 'xcav'" in refused(capsys, 'xcav', tmp_path / 'empty', out)
    assert "Did you mean 'arcade'?" in refused(capsys, 'xcav', tmp_path / 'arcad', out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'frames', 'size'), [('xcav', 18, 64), ('caxf', 8, 64), ('stenosis', 34, 96), ('arcade', 8, 128)]
)
def test_simulated_sets_go_the_same_way(tmp_path, kind, frames, size):
    assert prepare('synthetic', kind, tmp_path / 'out', '--frames', frames, '--size', size, '--jobs', '1') == 0
    roots = [tmp_path / 'out'] if kind != 'arcade' else sorted((tmp_path / 'out').iterdir())
    for root in roots:
        assert read_description(root)['synthetic'] is True
        assert all(read_split(root, split) for split in ('train', 'val', 'test'))
    shutil.rmtree(tmp_path / 'out_published')


def test_real_arcade_annotations_have_the_published_counts(data_root, tmp_path):
    """The annotations only: the frames are stood in for by empty files, as nothing reads them."""
    import gzip

    from vasomim.prepare.sets import arcade

    for task in ('syntax', 'stenosis'):
        for split in ('train', 'val', 'test'):
            content = gzip.decompress((data_root / 'arcade' / f'{task}_{split}.json.gz').read_bytes())
            folder = tmp_path / task / split
            (folder / 'annotations').mkdir(parents=True)
            (folder / 'images').mkdir()
            (folder / 'annotations' / f'{split}.json').write_bytes(content)
            for image in json.loads(content)['images']:
                (folder / 'images' / image['file_name']).touch()
    found = {}
    for plan in arcade.read(tmp_path, Choices()):
        for split in ('train', 'val', 'test'):
            frames = [each for each in plan.frames if each.split == split]
            found[plan.name, split] = len(frames), sum(len(each.instances) for each in frames)
    assert found == {
        **{(name, 'train'): (1000, 4976) for name in ('arcade_v', 'arcade_vs')},
        **{(name, 'val'): (200, 1168) for name in ('arcade_v', 'arcade_vs')},
        **{(name, 'test'): (300, 1672) for name in ('arcade_v', 'arcade_vs')},
        ('arcade_s', 'train'): (1000, 1625),
        ('arcade_s', 'val'): (200, 406),
        ('arcade_s', 'test'): (300, 386),
    }
    assert set(CATEGORIES) == set(range(1, 27))


def test_the_real_stenosis_sample(data_root, tmp_path):
    source = tmp_path / 'sample'
    source.mkdir()
    for png in (data_root / 'stenosis_sample').glob('*.png'):
        write_png(source / f'{png.stem}.bmp', read_grey(png))
        shutil.copy(png.with_suffix('.xml'), source)
    assert prepare('stenosis', source, tmp_path / 'out') == 0
    counts = read_description(tmp_path / 'out')['counts']
    assert {split: part['frames'] for split, part in counts.items()} == {'train': 6, 'val': 0, 'test': 0}
    assert counts['train']['instances'] == 7
    assert read_description(tmp_path / 'out')['repairs'] == {}
