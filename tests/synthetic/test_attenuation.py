"""Path lengths through tubes and ellipsoids against geometry done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vasomim.synthetic.attenuation import ellipsoid_path_length, transmission, tube_path_length
from vasomim.synthetic.projection import CArm

STEP = 0.1  # mm


def straight(radius_px: float, tilt: float = 90.0, scale: float = 4.0, size: int = 96) -> np.ndarray:
    """Path lengths through a long cylinder along x, tilted to the beam by ``tilt`` degrees; ``scale`` px per mm."""
    along = np.arange(-60 / np.sin(np.radians(tilt)), 60 / np.sin(np.radians(tilt)), STEP)
    x = 47.3 + along * np.sin(np.radians(tilt)) * scale
    points = np.stack([x, np.full(len(x), 47.6)], axis=1)
    return tube_path_length(points, np.full(len(x), radius_px), np.full(len(x), STEP), size)


@pytest.mark.parametrize('radius', [0.8, 1.5, 2.9, 3.4, 4.0, 6.3, 11.0])
@pytest.mark.parametrize('tilt', [90.0, 40.0])
def test_cylinder_has_the_chords_of_a_cylinder(radius: float, tilt: float) -> None:
    scale = 4.0
    column = straight(radius, tilt, scale)[:, 40]
    fine = (np.arange(96 * 64) + 0.5) / 64 - 0.5 - 47.6  # 64 rays in each pixel, distance to the axis in px
    chords = 2 * np.sqrt(np.maximum(radius**2 - fine**2, 0)) / scale / np.sin(np.radians(tilt))
    # Samples spread over a pixel, neighboring radii are mixed, wide discs snap to quarters of pixels.
    expected = np.convolve(chords, np.ones(64) / 64, 'same').reshape(96, 64).mean(axis=1)
    assert column.sum() == pytest.approx(expected.sum(), rel=0.03)
    assert column.max() == pytest.approx(expected.max(), rel=0.08 if radius > 1 else 0.12)
    assert np.abs(column - expected).max() < 0.12 * expected.max()


def test_a_tube_seen_end_on_is_as_deep_as_it_is_long() -> None:
    count = 80
    points = np.full((count, 2), 31.0)
    path = tube_path_length(points, np.full(count, 5.0), np.full(count, STEP), 64)
    assert path[31, 31] == pytest.approx(count * STEP, rel=0.02)
    assert path[31, 31 + 8] == 0


def test_attenuation_is_the_volume_whatever_the_radius() -> None:
    # Mixing kernels, stamping at fractions of pixels and thinning hair-fine tubes must not lose contrast.
    for radius in (0.05, 0.2, 0.31, 1.0, 2.2, 3.58, 3.6, 7.7):
        count = 300
        points = np.stack([np.linspace(20, 100, count), np.linspace(30.2, 81.9, count)], axis=1)
        path = tube_path_length(points, np.full(count, radius), np.full(count, STEP), 128)
        assert path.sum() == pytest.approx(np.pi * radius**2 * count * STEP, rel=2e-3), radius


def test_tubes_may_leave_the_frame() -> None:
    along = np.arange(-80, 200, 0.4)
    for radius in (1.0, 6.0):
        points = np.stack([along, along * 0.3 - 9], axis=1)
        small = tube_path_length(points, np.full(len(along), radius), np.full(len(along), STEP), 64)
        # The same tube in a larger frame, of which the small one is a part.
        large = tube_path_length(points + 100, np.full(len(along), radius), np.full(len(along), STEP), 264)
        np.testing.assert_allclose(small, large[100:164, 100:164], atol=2e-3 * large.max())


def test_nothing_in_the_frame_gives_zeros() -> None:
    path = tube_path_length(np.array([[-50.0, 10.0]]), np.array([3.0]), np.array([1.0]), 32)
    assert path.shape == (32, 32) and not path.any()


def test_doubling_the_contrast_squares_the_transmission() -> None:
    path = straight(6.0)
    once, twice = transmission(path, 0.2), transmission(path, 0.4)
    assert once.min() < 0.6  # Else both would be 1 and the next line would prove nothing.
    np.testing.assert_allclose(twice, once**2, rtol=1e-5)
    dense = transmission(straight(6.0) * 2, 0.2)
    np.testing.assert_allclose(dense, once**2, rtol=1e-5)


def test_ellipsoid_has_the_chords_of_an_ellipsoid() -> None:
    arm = CArm(0.0, 0.0, 0.5, 64)
    source, rays = arm.rays(64)
    path = ellipsoid_path_length(source, rays, np.zeros(3), np.array([10.0, 25.0, 8.0]), np.eye(3))
    # March along every ray in small steps and count those inside.
    along = np.arange(700, 800, 0.05)
    for row, column in ((31, 31), (20, 40), (40, 12), (2, 2)):
        points = source + along[:, None] * rays[row, column]
        inside = ((points / (10.0, 25.0, 8.0)) ** 2).sum(axis=1) < 1
        assert path[row, column] == pytest.approx(inside.sum() * 0.05, abs=0.15)
    assert path[2, 2] == 0
