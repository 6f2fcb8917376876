"""Boxes count by what was predicted, whatever else stands beside them."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.scoring.measures import STATISTICS, coco_scores, parse_boxes, parse_mask, read_truth
from vasomim.benchmark.study.entries import BOX_METRICS
from vasomim.errors import DatasetError

TRUTH = {
    'images': [{'id': 1, 'file_name': 'a.png', 'width': 64, 'height': 64}],
    'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [10, 10, 20, 20], 'area': 400, 'iscrowd': 0}],
    'categories': [{'id': 1, 'name': 'stenosis'}],
}
RIGHT = {'image_id': 1, 'category_id': 1, 'bbox': [10, 10, 20, 20], 'score': 0.5}
WRONG = {'image_id': 1, 'category_id': 1, 'bbox': [40, 40, 20, 20], 'score': 0.9}


def boxes(*rows: dict) -> list[dict]:
    return parse_boxes(json.dumps(rows).encode(), 'boxes.json', TRUTH)


def test_the_benchmarks_metrics_are_those_of_entries() -> None:
    assert (*STATISTICS, 'F1') == BOX_METRICS


def test_neither_captions_nor_false_areas_lift_the_precision() -> None:
    """Forty wrong boxes above the right one, so 1/41; pycocotools alone takes the marked ones for none at all."""
    wrong = [{**WRONG, 'bbox': [40 + number / 10, 40, 20, 20]} for number in range(40)]
    hidden = {'caption': '', 'area': 1e12, 'iscrowd': 0, 'id': 7, 'segmentation': [], 'keypoints': []}
    marked = [*({**box, **hidden} for box in wrong), {**RIGHT, **hidden, 'area': 400}]
    assert coco_scores(TRUTH, boxes(*wrong, RIGHT))['mAP'] == pytest.approx(1 / 41)
    assert coco_scores(TRUTH, boxes(*marked)) == coco_scores(TRUTH, boxes(*wrong, RIGHT))


@pytest.mark.parametrize(
    'changes',
    [
        {'image_id': 2},
        {'image_id': True},
        {'image_id': 1.0},
        {'image_id': '1'},
        {'image_id': [1]},
        {'category_id': 3},
        {'category_id': None},
        {'bbox': [0, 0, 1]},
        {'bbox': [0, 0, 1, 1, 1]},
        {'bbox': [0, 0, -1, 1]},
        {'bbox': ['0', 0, 1, 1]},
        {'bbox': [1e300, 0, 1, 1]},
        {'bbox': None},
        {'bbox': {}},
        {'score': None},
        {'score': '0.9'},
        {'score': True},
        {'score': 10**400},
    ],
)
def test_a_box_that_is_none_is_an_error_that_names_its_place(changes: dict) -> None:
    with pytest.raises(StoreError, match=r'boxes\.json: box 1'):
        boxes(RIGHT, {**RIGHT, **changes})


@pytest.mark.parametrize('key', RIGHT)
def test_a_box_that_lacks_something_is_an_error(key: str) -> None:
    with pytest.raises(StoreError, match='box 0'):
        boxes({name: value for name, value in RIGHT.items() if name != key})


@pytest.mark.parametrize('content', [[1], [None], [[]], ['x']])
def test_what_is_no_box_is_an_error(content: list) -> None:
    with pytest.raises(StoreError, match='box 0'):
        parse_boxes(json.dumps(content).encode(), 'boxes.json', TRUTH)


def test_a_damaged_truth_is_an_error_of_the_data(tmp_path: Path) -> None:
    for key, value in (('images', {}), ('annotations', [{'image_id': 9, 'category_id': 1, 'bbox': [0, 0, 1, 1]}])):
        (tmp_path / 'test.json').write_text(json.dumps({**TRUTH, key: value}))
        with pytest.raises(DatasetError, match=r'test\.json'):
            read_truth(tmp_path, 'test')


def png(mask: np.ndarray, kind: str = '.png') -> bytes:
    return cv2.imencode(kind, mask)[1].tobytes()


def test_a_mask_is_read_as_it_was_written() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (5, 7), dtype=np.uint8)
    np.testing.assert_array_equal(parse_mask(png(mask), 'a.png', (5, 7), 2), mask)


def bomb(width: int, height: int) -> bytes:
    """A small file that says that it is large."""
    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    chunk = b'IHDR' + head
    return b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk)) + bytes(50)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\x89PNG\r\n\x1a\n',
        png(np.zeros((7, 5), np.uint8)),
        png(np.zeros((5, 7, 3), np.uint8)),
        png(np.zeros((5, 7), np.uint16)),
        png(np.zeros((5, 7), np.uint8), '.bmp'),
        png(np.full((5, 7), 3, np.uint8)),
        png(np.random.default_rng(0).integers(0, 3, (5, 7), dtype=np.uint8))[:60],
        bomb(60_000, 60_000),
        bomb(7, 5),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error(content: bytes) -> None:
    with pytest.raises(StoreError, match=r'a\.png'):
        parse_mask(content, 'a.png', (5, 7), 2)
