"""Masks against distances computed pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np

from vasomim.synthetic.masks import bounding_box, outline, tube_mask


def test_mask_holds_the_pixels_within_the_radius() -> None:
    along = np.linspace(0, 1, 400)
    points = np.stack([15 + 90 * along, 60 + 30 * np.sin(4 * along)], axis=1)
    radii = 9 - 6 * along
    mask = tube_mask(points, radii, 128)
    rows, columns = np.mgrid[:128, :128]
    distance = np.hypot(columns[..., None] - points[:, 0], rows[..., None] - points[:, 1])
    inside, outside = (distance < radii - 0.8).any(axis=-1), (distance > radii + 0.8).all(axis=-1)
    assert mask[inside].all() and not mask[outside].any()
    exact = (distance < radii).any(axis=-1).sum()
    assert abs(int(mask.sum()) - int(exact)) < 0.03 * exact


def test_mask_of_nothing_is_empty() -> None:
    assert not tube_mask(np.zeros((0, 2)), np.zeros(0), 32).any()
    assert not tube_mask(np.array([[-40.0, 5.0]]), np.array([3.0]), 32).any()


def test_outline_encloses_the_mask() -> None:
    points = np.stack([np.linspace(10, 50, 60), np.linspace(12, 40, 60)], axis=1)
    mask = tube_mask(points, np.full(60, 5.0), 64)
    polygons = outline(mask)
    drawn = np.zeros_like(mask)
    for polygon in polygons:
        cv2.fillPoly(drawn, [np.array(polygon, np.int32).reshape(-1, 2)], 1)
    assert len(polygons) == 1
    np.testing.assert_array_equal(drawn, mask)
    assert outline(np.zeros((8, 8), np.uint8)) == []


def test_bounding_box_by_hand() -> None:
    mask = np.zeros((10, 12), np.uint8)
    mask[3:7, 2:11] = 1
    assert bounding_box(mask) == (2, 3, 9, 4)
    assert bounding_box(np.zeros((4, 4), np.uint8)) == (0, 0, 0, 0)
