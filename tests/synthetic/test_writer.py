"""The layouts on disk: names, truth, continuing, refusing."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from vasomim.cli import main
from vasomim.errors import DatasetError, StorageError
from vasomim.prepare.catalog import layouts
from vasomim.synthetic import writer

SIZE = 96
synthesize = partial(writer.synthesize, layouts=layouts())


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}


def names(root: Path) -> list[str]:
    return [name for name in files(root) if not name.startswith('.')]


@pytest.mark.parametrize('layout', layouts())
def test_the_number_of_images_is_what_was_asked_for(layout: str, tmp_path: Path) -> None:
    summary = synthesize(tmp_path / 'set', layout, 9, size=SIZE, jobs=1)
    assert (summary.frames, summary.written, summary.kept) == (9, 9, 0)
    images = [name for name in names(tmp_path / 'set') if re.search(r'\.(png|bmp|pgm)$', name)]
    images = [name for name in images if not re.search('masks/|ground_truth/|_gt', name)]
    assert len(images) == 9
    for name in images:
        image = cv2.imread(str(tmp_path / 'set' / name), cv2.IMREAD_UNCHANGED)
        assert image.shape == (SIZE, SIZE) and image.dtype == np.uint8 and image.std() > 3


@pytest.mark.parametrize('layout', ['arcade', 'stenosis', 'xcav'])
def test_a_run_that_stopped_is_continued(layout: str, tmp_path: Path) -> None:
    root = tmp_path / 'set'
    synthesize(root, layout, 12, seed=4, size=SIZE, jobs=1)
    whole = files(root)
    for name in names(root)[::2]:
        (root / name).unlink()
    kept = {name: (root / name).stat().st_mtime_ns for name in names(root)}
    summary = synthesize(root, layout, 12, seed=4, size=SIZE, jobs=1)
    assert summary.written > 0
    assert files(root) == whole
    assert {name: (root / name).stat().st_mtime_ns for name in kept} == kept


def test_a_second_run_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesize(tmp_path / 'set', 'arcade', 8, size=SIZE, jobs=1, truth=True)
    monkeypatch.setattr('vasomim.synthetic.writer.simulate_frame', lambda *_: pytest.fail('simulated again'))
    summary = synthesize(tmp_path / 'set', 'arcade', 8, size=SIZE, jobs=1, truth=True)
    assert (summary.written, summary.kept) == (0, 8)


def test_jobs_and_order_do_not_change_the_files(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    synthesize(tmp_path / 'one', 'xa170k', 14, seed=2, size=SIZE, jobs=1)
    synthesize(tmp_path / 'two', 'xa170k', 14, seed=2, size=SIZE, jobs=2, report=lambda *now: done.append(now))
    assert files(tmp_path / 'one') == files(tmp_path / 'two')
    assert done[0] == (0, 14) and done[-1] == (14, 14)


def test_nothing_half_written_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, 'No space left on device')

    synthesize(tmp_path / 'set', 'folder', 2, size=SIZE, jobs=1)
    first = tmp_path / 'set' / 'patient00001_01.png'
    first.unlink()
    monkeypatch.setattr(os, 'replace', refuse)
    with pytest.raises(StorageError, match=r'patient00001_01\.png.*No space left'):
        synthesize(tmp_path / 'set', 'folder', 2, size=SIZE, jobs=1)
    assert not first.exists()


def test_arcade_is_valid_coco(tmp_path: Path) -> None:
    root = tmp_path / 'arcade'
    synthesize(root, 'arcade', 30, seed=1, size=256, jobs=1)
    shuffled = False
    for task in ('syntax', 'stenosis'):
        for split in ('train', 'val', 'test'):
            folder = root / task / split
            coco = json.loads((folder / 'annotations' / f'{split}.json').read_text())
            assert [category['id'] for category in coco['categories']] == list(range(1, 27))
            assert [coco['categories'][k]['name'] for k in (0, 9, 10, 23, 24, 25)] == [
                '1', '9a', '10', '12b', '14b', 'stenosis',
            ]  # fmt: skip
            assert {image['file_name'] for image in coco['images']} == {p.name for p in (folder / 'images').iterdir()}
            ids = [image['id'] for image in coco['images']]
            assert sorted(ids) == list(range(1, len(ids) + 1))
            shuffled |= ids != [int(Path(image['file_name']).stem) for image in coco['images']]
            assert [entry['id'] for entry in coco['annotations']] == list(range(1, len(coco['annotations']) + 1))
            for image_id in ids:
                assert any(entry['image_id'] == image_id for entry in coco['annotations'])
            for entry in coco['annotations']:
                check_instance(entry, task)
    assert shuffled


def check_instance(entry: dict, task: str) -> None:
    assert entry['category_id'] == 26 if task == 'stenosis' else 1 <= entry['category_id'] <= 25
    drawn = np.zeros((256, 256), np.uint8)
    for polygon in entry['segmentation']:
        assert len(polygon) % 2 == 0 and len(polygon) >= 6
        cv2.fillPoly(drawn, [np.array(polygon, np.float64).reshape(-1, 2).astype(np.int32)], 1)
    x, y, width, height = entry['bbox']
    assert drawn.any() and width > 0 and height > 0
    rows, columns = np.nonzero(drawn)
    assert columns.min() >= x and rows.min() >= y
    assert columns.max() < x + width and rows.max() < y + height
    assert entry['area'] == pytest.approx(drawn.sum(), rel=0.2, abs=24)


def test_stenosis_is_valid_voc(tmp_path: Path) -> None:
    synthesize(tmp_path / 'set', 'stenosis', 10, size=256, jobs=1)
    found = sorted((tmp_path / 'set').glob('*.xml'))
    assert len(found) == 10
    frames = {}
    for path in found:
        patient, study, series, frame = path.stem.split('_')
        frames.setdefault((patient, study, series), []).append(int(frame))
        root = ElementTree.parse(path).getroot()
        assert root.findtext('filename') == f'{path.stem}.bmp' and path.with_suffix('.bmp').exists()
        assert [root.findtext(f'size/{tag}') for tag in ('width', 'height', 'depth')] == ['256', '256', '1']
        boxes = root.findall('object/bndbox')
        assert boxes and {entry.findtext('name') for entry in root.findall('object')} == {'Stenosis'}
        for box in boxes:
            left, top, right, bottom = (int(box.findtext(tag) or 0) for tag in ('xmin', 'ymin', 'xmax', 'ymax'))
            assert 1 <= left < right <= 256 and 1 <= top < bottom <= 256
    for numbers in frames.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_xcav_has_ground_truth_for_few_frames(tmp_path: Path) -> None:
    synthesize(tmp_path / 'set', 'xcav', 10, size=SIZE, jobs=1)
    masks = list((tmp_path / 'set').glob('CVAI-*/ground_truth/*/*.png'))
    plain = [path for path in masks if not path.parent.name.endswith('CATH')]
    assert 2 <= len(plain) < 10 and len(masks) == 2 * len(plain)
    for path in plain:
        view = path.parent.name
        assert re.fullmatch(r'(LAO|RAO)\d+_(CRA|CAU)\d+', view)
        assert (path.parents[2] / 'images' / view / path.name).exists()
        vessels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        both = cv2.imread(str(path.parent.with_name(f'{view}CATH') / path.name), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(vessels)) == {0, 255}
        assert (both >= vessels).all()


def test_caxf_lists_name_its_images_once(tmp_path: Path) -> None:
    root = tmp_path / 'set'
    synthesize(root, 'caxf', 10, size=SIZE, jobs=1)
    lists = [(root / f'{split}.txt').read_text().split() for split in ('train', 'test')]
    assert len(lists[0]) == 6 or len(lists[0]) == 7
    assert sorted(lists[0] + lists[1]) == sorted(path.name for path in (root / 'images').iterdir())
    assert {path.name for path in (root / 'masks').iterdir()} == {path.name for path in (root / 'images').iterdir()}


def test_truth_lies_beside_the_dataset(tmp_path: Path) -> None:
    synthesize(tmp_path / 'set', 'xa170k', 8, size=SIZE, jobs=1, truth=True)
    images, truth = names(tmp_path / 'set'), names(tmp_path / 'set_truth')
    assert images == truth
    assert {name.split('/')[0] for name in images} == {'cadica', 'syntax', 'xcad', 'coronarydominance'}
    for name in truth:
        mask = cv2.imread(str(tmp_path / 'set_truth' / name), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) == {0, 255} and mask.shape == (SIZE, SIZE)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'letter.txt').write_text('dear reader')
    with pytest.raises(DatasetError, match='not a synthetic dataset'):
        synthesize(tmp_path, 'folder', 2, size=SIZE)
    synthesize(tmp_path / 'set', 'folder', 2, size=SIZE, jobs=1)
    with pytest.raises(DatasetError, match=r"other settings: \{'seed': 0\}"):
        synthesize(tmp_path / 'set', 'folder', 2, seed=1, size=SIZE)
    (tmp_path / 'set' / '.synthesis' / 'settings.json').write_text('{"layout"')
    with pytest.raises(DatasetError, match=r'settings\.json'):
        synthesize(tmp_path / 'set', 'folder', 2, size=SIZE)


@pytest.mark.parametrize('wrong', [{'frames': 0}, {'seed': -1}, {'size': 10}])
def test_numbers_out_of_range_are_refused(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=next(iter(wrong))):
        synthesize(tmp_path / 'set', **{'layout': 'folder', 'frames': 2, **wrong})
    assert not (tmp_path / 'set').exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / 'set'), '--layout', 'folder', '--frames', '3', '--size', '96', '--jobs', '1']
    assert main('synthesize', arguments) == 0
    assert '3 frames written' in capsys.readouterr().out
    assert main('synthesize', arguments) == 0
    assert '0 frames written, 3 were there already' in capsys.readouterr().out
    assert main('synthesize', [str(tmp_path / 'set'), '--layout', 'foldr']) == 2
    assert "Did you mean 'folder'?" in capsys.readouterr().err
