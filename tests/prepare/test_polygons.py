"""Polygons and boxes against pixel-by-pixel tests and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vasomim.prepare.plan import Instance, Repairs
from vasomim.prepare.polygons import area, clip, fill, paint, read_box


def inside(x: float, y: float, points: np.ndarray) -> bool:
    """Count the edges that a ray to the right crosses, edge by edge."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x:
            crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize('seed', range(5))
def test_filled_are_the_pixels_whose_centers_lie_inside(seed):
    points = np.random.default_rng(seed).uniform(-5, 30, (9, 2))  # Crosses itself and the edges of the image.
    slow = [[inside(column + 0.5, row + 0.5, points) for column in range(25)] for row in range(20)]
    assert np.array_equal(fill(points, 20, 25), slow)


def test_a_rectangle_covers_its_own_area():
    points = np.array([[2, 3], [6, 3], [6, 5], [2, 5]], float)
    assert area(points) == 8
    filled = fill(points, 10, 10)
    assert filled.sum() == 8
    assert filled[3:5, 2:6].all()


@pytest.mark.parametrize('seed', range(5))
def test_cutting_at_the_edge_changes_no_pixel(seed):
    points = np.random.default_rng(seed).uniform(-20, 50, (7, 2))
    cut = clip(points, 30, 20)
    assert cut.min() >= 0 and (cut <= (30, 20)).all()
    assert np.array_equal(fill(cut, 20, 30), fill(points, 20, 30))


def test_a_triangle_cut_by_hand():
    cut = clip(np.array([[-2.0, 0], [2, 0], [2, 4]]), 10, 10)  # Its long side meets x = 0 at y = 2.
    assert area(cut) == pytest.approx(8 - 2)


def test_where_segments_overlap_the_smaller_one_shows_whatever_the_order():
    def rectangle(category, left, top, right, bottom):
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
        return Instance(category, (left, top, right - left, bottom - top), (points,))

    trunk, branch, twin = rectangle(3, 0, 0, 8, 4), rectangle(1, 4, 2, 8, 6), rectangle(2, 6, 2, 10, 6)
    expected = np.zeros((8, 12), np.uint8)
    expected[0:4, 0:8] = 3
    expected[2:6, 4:8] = 1  # 16 square pixels over 32.
    expected[2:6, 6:10] = 2  # As large as the branch: the higher class.
    for order in ([trunk, branch, twin], [twin, branch, trunk], [branch, trunk, twin]):
        assert np.array_equal(paint(order, 8, 12), expected)


def test_a_missing_box_is_none():
    assert read_box(None, 10, 10, 'here', Repairs()) is None
