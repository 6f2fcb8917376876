"""Do 200 frames look like real ones, in numbers?

The ranges are the 5th and the 95th percentile over 250 frames of ARCADE's syntax training split (512 x 512), those of
the boxes over all of its stenosis training split. Widths are twice the distance to the border, along the skeleton of
the labelled vessels; the same measure was taken of the real masks.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from skimage.morphology import skeletonize

from vasomim.synthetic import simulate_frame

FRAMES = 200
REAL = {
    'grey mean': (83, 149),
    'grey standard deviation': (17, 58),
    'vessel share, %': (1.6, 5.4),
    'narrow vessel width, px': (2.8, 7.2),
    'vessel width, px': (6.4, 13.2),
    'wide vessel width, px': (12, 22),
    'segments': (3, 7),
}
REAL_WIDTHS = (3, 22)  # px, over all frames
REAL_BOXES = {'box width, px': (22, 134), 'box height, px': (18, 171)}


@dataclass(frozen=True)
class Measures:
    frame: dict[str, float]
    widths: list[float]
    boxes: list[tuple[int, int]]


def measure(seed: int) -> Measures:
    cv2.setNumThreads(1)
    frame = simulate_frame(seed)
    labelled = frame.labelled
    distance = cv2.distanceTransform(labelled, cv2.DIST_L2, 5)
    widths = 2 * distance[skeletonize(labelled > 0)]
    narrow, middle, wide = np.percentile(widths, (5, 50, 95))
    return Measures(
        {
            'grey mean': float(frame.image.mean()),
            'grey standard deviation': float(frame.image.std()),
            'vessel share, %': 100 * float(labelled.mean()),
            'narrow vessel width, px': float(narrow),
            'vessel width, px': float(middle),
            'wide vessel width, px': float(wide),
            'segments': len(frame.segments),
        },
        widths.tolist(),
        [stenosis.box[2:] for stenosis in frame.stenoses],
    )


@pytest.fixture(scope='session')
def measures() -> list[Measures]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn')) as pool:
        return list(pool.map(measure, range(FRAMES), chunksize=10))


@pytest.mark.slow
@pytest.mark.parametrize('name', REAL)
def test_frames_lie_in_the_range_of_real_ones(measures: list[Measures], name: str) -> None:
    values = np.array([measured.frame[name] for measured in measures])
    low, high = REAL[name]
    assert low <= np.median(values) <= high
    assert ((values >= low) & (values <= high)).mean() >= 0.8


@pytest.mark.slow
def test_widths_of_all_frames_lie_in_the_range_of_real_ones(measures: list[Measures]) -> None:
    widths = np.concatenate([measured.widths for measured in measures])
    low, high = REAL_WIDTHS
    assert low <= np.median(widths) <= high
    assert ((widths >= low) & (widths <= high)).mean() >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize('name', REAL_BOXES)
def test_boxes_lie_in_the_range_of_real_ones(measures: list[Measures], name: str) -> None:
    axis = list(REAL_BOXES).index(name)
    values = np.array([box[axis] for measured in measures for box in measured.boxes])
    low, high = REAL_BOXES[name]
    assert len(values) >= 200
    assert low <= np.median(values) <= high
    assert ((values >= low) & (values <= high)).mean() >= 0.8


@pytest.mark.slow
def test_frames_differ_from_one_another_as_real_ones_do(measures: list[Measures]) -> None:
    # A simulator that hits every median with one and the same frame would pass the tests above.
    for name, (low, high) in REAL.items():
        values = [measured.frame[name] for measured in measures]
        spread = np.percentile(values, 90) - np.percentile(values, 10)
        assert spread > 0.35 * (high - low), name
