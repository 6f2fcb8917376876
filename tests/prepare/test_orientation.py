"""Boxes and outlines of pictures that EXIF turns: both conventions of annotation tools end at the right pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasomim.cli import main
from vasomim.frames.images import read_grey

HEIGHT, WIDTH = 30, 48
BOX = (6, 4, 12, 9)  # Left, top, width and height of the dark object in the stored picture.


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels, 1),
    }[orientation]


def stored_picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(100, 256, (height, width), dtype=np.uint8)
    left, top, wide, high = BOX
    pixels[top : top + high, left : left + wide] = 0
    return pixels


def box_in(pixels: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(pixels == 0)
    return [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def write_set(root: Path, orientation: int, shown: bool, kind: str, size: tuple[int, int] | None = None) -> None:
    """Write three frames with a box each, annotated as they are shown or as they are stored."""
    stored = stored_picture()
    seen = turn(stored, orientation) if shown else stored
    left, top, wide, high = (int(value) for value in box_in(seen))
    width, height = size or seen.shape[::-1]
    exif = Image.Exif()
    exif[0x112] = orientation
    (root / 'images').mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 4):
        name = f'p{number}_a'
        Image.fromarray(stored).save(root / 'images' / f'{name}.png', exif=exif)
        outline = [left, top, left + wide, top, left + wide, top + high, left, top + high]
        images.append({'id': number, 'file_name': f'{name}.png', 'width': width, 'height': height})
        entry = {'id': number, 'image_id': number, 'category_id': 1, 'bbox': [left, top, wide, high]}
        annotations.append(entry | {'segmentation': [outline], 'area': wide * high, 'iscrowd': 0})
        if kind == 'voc':
            corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), (left + 1, top + 1, left + wide, top + high), strict=True)
            box = ''.join(f'<{tag}>{value}</{tag}>' for tag, value in corners)
            (root / 'images' / f'{name}.xml').write_text(
                f'<annotation><size><width>{width}</width><height>{height}</height></size>'
                f'<object><name>thing</name><bndbox>{box}</bndbox></object></annotation>'
            )
    if kind == 'coco':
        content = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'thing'}]}
        (root / 'boxes.json').write_text(json.dumps(content))


@pytest.mark.parametrize('kind', ['coco', 'voc'])
@pytest.mark.parametrize(
    ('orientation', 'shown'),
    [*((orientation, True) for orientation in range(1, 9)), *((orientation, False) for orientation in (5, 6, 7, 8))],
)
def test_boxes_lie_on_their_objects_whichever_picture_they_were_made_on(tmp_path, orientation, shown, kind):
    write_set(tmp_path / 'own', orientation, shown, kind)
    assert main('prepare', ['downstream', 'folder', str(tmp_path / 'own'), str(tmp_path / 'out')]) == 0
    expected = turn(stored_picture(), orientation)
    found = 0
    for split in ('train', 'val', 'test'):
        content = json.loads((tmp_path / 'out' / f'{split}.json').read_text())
        for image, entry in zip(content['images'], content['annotations'], strict=True):
            pixels = read_grey(tmp_path / 'out/images' / image['file_name'])
            assert np.array_equal(pixels, expected)
            assert (image['height'], image['width']) == pixels.shape
            assert entry['bbox'] == box_in(pixels)
            found += 1
    assert found == 3


@pytest.mark.parametrize('kind', ['coco', 'voc'])
@pytest.mark.parametrize('size', [(WIDTH + 1, HEIGHT), (WIDTH, WIDTH)])
def test_a_size_that_is_neither_is_refused(tmp_path, capsys, kind, size):
    write_set(tmp_path / 'own', 6, False, kind, size)
    assert main('prepare', ['downstream', 'folder', str(tmp_path / 'own'), str(tmp_path / 'out')]) == 2
    assert 'p1_a.png' in capsys.readouterr().err
