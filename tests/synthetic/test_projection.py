"""Where the C-arm sees points, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vasomim.synthetic.projection import CArm


def test_frontal_view_by_hand() -> None:
    # Source 750 mm from the isocenter, 0.25 mm per pixel there. The point lies 50 mm in front of it, so that it is
    # seen from 800 mm at 750 / 800 / 0.25 = 3.75 pixels per mm: 37.5 px to the right and 75 px up from 255.5.
    pixels, scale = CArm(0, 0, 0.25, 512).project(np.array([[10.0, -50.0, 20.0]]))
    np.testing.assert_allclose(pixels, [[293.0, 180.5]])
    np.testing.assert_allclose(scale, [3.75])


def test_oblique_view_by_hand() -> None:
    # LAO 30, cranial 20, with sin 30 = 0.5, cos 30 = 0.86603, sin 20 = 0.34202, cos 20 = 0.93969:
    # right (0.86603, 0.5, 0), up (-0.17101, 0.29620, 0.93969), beam (0.46985, -0.81380, 0.34202).
    # (10, 20, 30): 18.6603 to the right, 32.4046 up, -1.3170 along the beam, so 748.683 mm from the source.
    pixels, scale = CArm(30, 20, 0.25, 512).project(np.array([[10.0, 20.0, 30.0]]))
    np.testing.assert_allclose(scale, [4.00704], rtol=1e-5)
    np.testing.assert_allclose(pixels, [[255.5 + 18.6603 * 4.00704, 255.5 - 32.4046 * 4.00704]], rtol=1e-5)


def test_lao_shows_the_spine_on_the_right_and_rao_on_the_left() -> None:
    spine = np.array([[0.0, 80.0, 0.0]])
    assert CArm(40, 0, 0.25, 512).project(spine)[0][0, 0] > 300
    assert CArm(-40, 0, 0.25, 512).project(spine)[0][0, 0] < 200


def test_what_lies_nearer_to_the_source_is_larger() -> None:
    back, front = np.array([[0.0, 60.0, 0.0]]), np.array([[0.0, -60.0, 0.0]])
    arm = CArm(0, 0, 0.25, 512)
    assert arm.project(back)[1] / arm.project(front)[1] == pytest.approx(810 / 690)


def test_axes_are_orthonormal_and_the_isocenter_is_in_the_middle() -> None:
    for primary, secondary in ((0, 0), (35, -25), (-40, 40)):
        arm = CArm(primary, secondary, 0.3, 256, isocenter=(5.0, -7.0, 11.0))
        np.testing.assert_allclose(arm.axes @ arm.axes.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(arm.project(np.array([[5.0, -7.0, 11.0]]))[0], [[127.5, 127.5]])


def test_rays_meet_the_points_that_are_seen_at_their_pixels() -> None:
    arm = CArm(-20, 30, 0.25, 128, isocenter=(3.0, 4.0, 5.0))
    source, rays = arm.rays(128)
    for row, column in ((0, 0), (17, 90), (127, 64)):
        point = source + 700 * rays[row, column]
        np.testing.assert_allclose(arm.project(point[None])[0], [[column, row]], atol=1e-6)
