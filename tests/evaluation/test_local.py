"""Counts by vessel width and lesion against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import vessels

from vasomim.evaluation import centerline, counts_by_lesion, counts_by_width
from vasomim.evaluation.local import LocalCounts


def two_bars() -> np.ndarray:
    """A vessel of 2 and one of 8 pixels across the frame."""
    truth = np.zeros((60, 50), int)
    truth[10:12] = 1
    truth[40:48] = 1
    return truth


def near(counts: LocalCounts, low: float, high: float) -> tuple[list[int], list[int]]:
    rows = (counts.size >= low) & (counts.size <= high)
    return counts.overlap[rows].sum(axis=0).tolist(), counts.lines[rows].sum(axis=0).tolist()


def test_thin_and_wide_vessels_are_counted_apart():
    truth = two_bars()
    prediction = np.zeros_like(truth)
    prediction[40:44] = 1  # Half of the wide vessel;
    prediction[20, 5:15] = 1  # 10 pixels in the void, nearer to the thin one.
    counts = counts_by_width(prediction, truth)
    thin_pixels, thin_lines = near(counts, 0, 2)
    assert thin_pixels == [0, 10, 100]
    assert thin_lines[:2] == [0, 10]
    assert thin_lines[2:] == [0, counts.weight[counts.size == 2].sum()]
    assert counts.overlap.sum(axis=0).tolist() == [200, 210, 500]
    wide_pixels, _ = near(counts, 7, 8)
    assert wide_pixels[0] <= 200
    assert counts.weight[counts.size == 8].sum() > 35  # The ends of its centerline fork into the corners.


@pytest.mark.parametrize('count', [counts_by_width, counts_by_lesion])
@pytest.mark.parametrize('seed', range(3))
def test_parts_sum_up_to_the_whole(count, seed):
    truth, prediction = vessels(seed), vessels(seed + 9)
    counts = count(prediction, truth)
    line, predicted_line = centerline(truth), centerline(prediction)
    assert counts.overlap.sum(axis=0).tolist() == [(prediction & truth).sum(), prediction.sum(), truth.sum()]
    whole = [(predicted_line & (truth > 0)).sum(), predicted_line.sum(), (line & (prediction > 0)).sum(), line.sum()]
    assert counts.lines.sum(axis=0).tolist() == whole
    assert (np.diff(counts.size) > 0).all()


@pytest.mark.parametrize('seed', range(2))
def test_every_pixel_counts_at_a_nearest_point_of_the_centerline(seed):
    truth, prediction = vessels(seed, size=32), vessels(seed + 3, size=32)
    background = np.argwhere(truth == 0)
    points = np.argwhere(centerline(truth))
    widths = np.array([2 * np.hypot(*(background - point).T).min() for point in points])
    counts = counts_by_width(prediction, truth)
    np.testing.assert_allclose(counts.size, np.unique(widths))
    # Several points may be equally near, so the cumulative counts lie between those of the widest and the narrowest.
    distance = np.hypot(*(np.argwhere(prediction)[:, None] - points[None]).transpose(2, 0, 1))
    nearest = distance <= distance.min(axis=1, keepdims=True) + 1e-9
    narrowest = np.where(nearest, widths, np.inf).min(axis=1)
    widest = np.where(nearest, widths, -np.inf).max(axis=1)
    for row, size in enumerate(counts.size):
        reached = counts.overlap[: row + 1, 1].sum()
        assert (widest <= size + 1e-9).sum() <= reached <= (narrowest <= size + 1e-9).sum()


def test_lesions_are_counted_by_their_area():
    truth = np.zeros((20, 40), int)
    truth[2:4, 2:4] = 1
    truth[4:6, 4:6] = 1  # Touches the first at a corner: one lesion of 8 pixels.
    truth[10:18, 30:38] = 1
    prediction = np.zeros_like(truth)
    prediction[2:4, 2:8] = 1
    counts = counts_by_lesion(prediction, truth)
    assert counts.size.tolist() == [8, 64]
    assert counts.weight.tolist() == [1, 1]
    assert counts.overlap.tolist() == [[4, 12, 8], [0, 0, 64]]


@pytest.mark.parametrize('count', [counts_by_width, counts_by_lesion])
def test_an_empty_truth_has_no_parts(count):
    empty = np.zeros((6, 6), int)
    counts = count(np.ones((6, 6), int), empty)
    assert counts.size.shape == (0,)
    assert counts.overlap.shape == (0, 3)
    assert counts.lines.shape == (0, 4)
    assert count(empty, np.eye(6, dtype=int)).overlap.tolist() == [[0, 0, 6]]
