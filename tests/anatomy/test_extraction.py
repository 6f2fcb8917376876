"""Extraction against a slow chain of scikit-image's filter and a region grower that visits pixel after pixel."""

import gzip
import json
import os
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.filters import frangi, sato
from skimage.measure import label

from vasomim.anatomy import extract_anatomy, vesselness
from vasomim.evaluation.overlap import dice

SIGMAS = (1, 2, 3, 4)


def slow_anatomy(response: np.ndarray, percentile: float = 92.0, border: int = 20) -> np.ndarray:
    """Threshold and grow one pixel at a time from the first strongest pixel."""
    height, width = response.shape
    response = response.copy()
    for row in range(height):
        for column in range(width):
            if min(row, column, height - 1 - row, width - 1 - column) < border:
                response[row, column] = 0
    threshold = np.percentile(response, percentile)
    seed = max(((r, c) for r in range(height) for c in range(width)), key=lambda p: (response[p], -p[0], -p[1]))
    mask = np.zeros((height, width), np.uint8)
    if response[seed] == 0:
        return mask
    mask[seed] = 1
    queue = deque([seed])
    while queue:
        row, column = queue.popleft()
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= near[0] < height and 0 <= near[1] < width
            if inside and not mask[near] and response[near] >= threshold and response[near] > 0:
                mask[near] = 1
                queue.append(near)
    return mask


def tree_frame(seed: int, shape: tuple[int, int] = (160, 200)) -> np.ndarray:
    """Dark crossing strokes of several widths on an uneven, noisy ground."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.normal(size=shape), None, 20) * 300 + 140
    strokes = np.zeros(shape, np.uint8)
    for _ in range(6):
        points = rng.integers(0, min(shape), (4, 1, 2)).astype(np.int32)
        cv2.polylines(strokes, [points], False, 255, int(rng.integers(2, 8)), cv2.LINE_AA)
    frame = ground - cv2.GaussianBlur(strokes, None, 1.2) * 0.25 + rng.normal(scale=4, size=shape)
    return np.clip(frame, 0, 255).astype(np.uint8)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return np.logical_and(first, second).sum() / np.logical_or(first, second).sum()


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('name', 'slow'), [('sato', sato), ('frangi', frangi)])
def test_the_mask_is_that_of_the_slow_chain(name, slow, seed):
    frame = tree_frame(seed)
    response = slow(frame, sigmas=SIGMAS)
    expected = slow_anatomy(response.astype(np.uint8) if name == 'sato' else response)
    found = extract_anatomy(frame, name)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    assert overlap(found, expected) > 0.99


def slow_contrast(frame: np.ndarray) -> np.ndarray:
    """The filter 'contrast' with windows at full resolution and scikit-image's derivatives."""
    logarithms = np.log1p(frame.astype(float))
    deviation = logarithms - gaussian_filter(logarithms, 25)
    levels = deviation / (np.sqrt(gaussian_filter(deviation**2, 25)) + 0.02)
    return sato(levels, sigmas=(3, 5), mode='reflect') * np.sqrt(np.clip(-levels, 0, 3))


@pytest.mark.parametrize('seed', range(4))
def test_contrast_keeps_the_largest_region_of_a_slow_computation(seed):
    frame = tree_frame(seed, (300, 360))
    response = slow_contrast(frame)
    response[:20] = response[-20:] = response[:, :20] = response[:, -20:] = 0
    regions = label(response >= np.percentile(response, 91), connectivity=1)
    sizes = [int((regions == number).sum()) for number in range(1, regions.max() + 1)]
    assert overlap(extract_anatomy(frame, 'contrast'), regions == 1 + int(np.argmax(sizes))) > 0.9


def test_contrast_finds_more_of_the_labelled_vessels_of_real_frames(data_root):
    files = json.loads(gzip.decompress((data_root / 'arcade/frames.json.gz').read_bytes()))
    labels = json.loads(gzip.decompress((data_root / 'arcade/syntax_val.json.gz').read_bytes()))
    scores: dict[str, list[float]] = {'sato': [], 'contrast': []}
    for image in labels['images'][:40]:
        file = files[f'syntax/val/images/{image["file_name"]}']
        frame = cv2.imread(str(data_root / f'arcade/frames/{file}.webp'), cv2.IMREAD_GRAYSCALE)
        truth = np.zeros(frame.shape, np.uint8)
        for annotation in labels['annotations']:
            if annotation['image_id'] == image['id']:
                for polygon in annotation['segmentation']:
                    cv2.fillPoly(truth, [np.rint(polygon).astype(np.int32).reshape(-1, 1, 2)], 1)
        for name, values in scores.items():
            values.append(dice(extract_anatomy(frame, name), truth))
    assert np.mean(scores['contrast']) > np.mean(scores['sato']) + 0.05


@pytest.mark.parametrize(('percentile', 'border'), [(80.0, 0), (97.5, 5), (100.0, 20), (0.0, 20)])
def test_growing_is_exact_for_a_given_vesselness(percentile, border):
    frame = tree_frame(7)
    expected = slow_anatomy(vesselness(frame), percentile, border)
    np.testing.assert_array_equal(extract_anatomy(frame, percentile=percentile, border=border), expected)


def test_growing_starts_at_the_first_of_two_equal_maxima_and_takes_no_diagonal_step():
    frame = np.full((120, 120), 200, np.uint8)
    frame[30:35, 30:60] = 100
    frame[85:90, 60:90] = 100  # The same bar below, so that both are equally strong.
    mask = extract_anatomy(frame, percentile=95)
    assert mask[32, 45] == 1
    assert not mask[60:].any()
    count, _ = cv2.connectedComponents(mask, connectivity=4)
    assert count == 2  # The ground and one region.


def test_the_border_is_never_vessel():
    frame = np.full((100, 100), 200, np.uint8)
    frame[:, 8:12] = 20  # The strongest tube lies inside the border.
    frame[50:54, :] = 120
    mask = extract_anatomy(frame)
    assert mask.any()
    assert not mask[:20].any() and not mask[-20:].any() and not mask[:, :20].any() and not mask[:, -20:].any()
    assert extract_anatomy(frame, border=0)[:, 9].all()


@pytest.mark.parametrize('shape', [(1, 1), (1, 300), (39, 300), (40, 40)])
def test_a_frame_within_the_border_has_no_vessel(shape):
    frame = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    mask = extract_anatomy(frame)
    assert mask.shape == shape
    assert not mask.any()


def test_the_smallest_frame_beyond_the_border_has_one_pixel_to_offer():
    frame = np.full((41, 41), 200, np.uint8)
    frame[:, 19:22] = 20
    assert extract_anatomy(frame).nonzero() == (20, 20)


@pytest.mark.parametrize('name', ['sato', 'frangi'])
@pytest.mark.parametrize('level', [0, 90, 255])
def test_a_constant_frame_has_no_vessel(name, level):
    assert not extract_anatomy(np.full((64, 80), level, np.uint8), name).any()


def test_a_mostly_flat_frame_yields_its_vessel_and_not_the_whole_frame():
    frame = np.full((200, 200), 180, np.uint8)
    frame[90:94, 80:120] = 60  # Well under 8 % of the frame, so that the percentile is zero.
    assert 100 < extract_anatomy(frame).sum() < 2000


def test_frame_is_left_as_it_was_and_may_be_a_view():
    frame = tree_frame(2)
    before = frame.copy()
    mask = extract_anatomy(frame[::2, ::-1])
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(mask, extract_anatomy(np.ascontiguousarray(frame[::2, ::-1])))


@pytest.mark.parametrize(
    ('options', 'message'),
    [({'percentile': 101}, 'percentile'), ({'percentile': float('nan')}, 'percentile'), ({'border': -1}, 'border')],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        extract_anatomy(np.zeros((64, 64), np.uint8), **options)


def test_agreement_with_the_released_code_on_real_frames():
    if 'VASOMIM_REFERENCE' not in os.environ or 'VASOMIM_DATA' not in os.environ:
        pytest.skip('VASOMIM_REFERENCE or VASOMIM_DATA is not set.')
    golden = np.load(Path(os.environ['VASOMIM_REFERENCE']) / 'anatomy.npz')
    folder = Path(os.environ['VASOMIM_DATA']) / 'arcade' / 'frames'
    overlaps = []
    for name, packed in zip(golden['frames'], golden['mask'], strict=True):
        frame = cv2.imread(str(folder / f'{name}.webp'), cv2.IMREAD_GRAYSCALE)
        overlaps.append(overlap(extract_anatomy(frame), np.unpackbits(packed, axis=-1)))
    assert np.mean(overlaps) >= 0.995
    assert min(overlaps) >= 0.97
