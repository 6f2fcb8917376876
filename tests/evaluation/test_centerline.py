"""clDice and vessel widths: hand-drawn cases, and the published formula with a thinning written as loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from shapes import vessels
from skimage.morphology import skeletonize

from vasomim.evaluation import centerline, cl_dice, dice, vessel_width
from vasomim.evaluation.centerline import cl_dice_of_centerlines


def slow_thinning(mask: np.ndarray) -> np.ndarray:
    """Thin by the two passes of Zhang and Suen, pixel by pixel."""
    image = np.pad(mask.astype(int), 1)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            doomed = []
            for row, column in np.argwhere(image):
                # Clockwise from the pixel above.
                steps = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
                ring = [image[row + down, column + right] for down, right in steps]
                rises = sum(ring[i] == 0 and ring[(i + 1) % 8] == 1 for i in range(8))
                north, east, south, west = ring[0], ring[2], ring[4], ring[6]
                corners = (
                    north * east * south == 0 and east * south * west == 0
                    if first
                    else north * east * west == 0 and north * south * west == 0
                )
                if 2 <= sum(ring) <= 6 and rises == 1 and corners:
                    doomed.append((row, column))
            for place in doomed:
                image[place] = 0
            changed |= bool(doomed)
    return image[1:-1, 1:-1]


def slow_cl_dice(prediction: np.ndarray, truth: np.ndarray, thin: Callable[[np.ndarray], np.ndarray]) -> float:
    """The formula of Shit et al. 2021, on sets of pixels."""
    predicted, true, predicted_line, true_line = (
        {place for place, value in np.ndenumerate(mask) if value}
        for mask in (prediction, truth, thin(prediction), thin(truth))
    )
    precision = len(predicted_line & true) / len(predicted_line)
    sensitivity = len(true_line & predicted) / len(true_line)
    return 2 * precision * sensitivity / (precision + sensitivity)


@pytest.mark.parametrize('seed', range(6))
def test_cl_dice_matches_the_published_formula(seed):
    truth, prediction = vessels(seed), vessels(seed, lines=2, shift=1.5)
    expected = slow_cl_dice(prediction, truth, skeletonize)
    assert 0.1 < expected < 0.999
    assert cl_dice(prediction, truth) == pytest.approx(expected, abs=1e-12)
    lines = slow_thinning(prediction).astype(bool), slow_thinning(truth).astype(bool)
    assert cl_dice_of_centerlines(prediction, truth, *lines) == pytest.approx(
        slow_cl_dice(prediction, truth, slow_thinning), abs=1e-12
    )


def test_cl_dice_hardly_depends_on_the_thinning():
    """The textbook's thinning keeps steps in diagonals that scikit-image's takes away: 2 points of 100 in the mean."""
    pairs = [(vessels(seed, lines=2, shift=1.5), vessels(seed)) for seed in range(6)]
    differences = [cl_dice(*pair) - slow_cl_dice(*pair, slow_thinning) for pair in pairs]
    assert abs(np.mean(differences)) < 0.025
    assert np.median(np.abs(differences)) < 0.03


def test_cl_dice_of_lines_by_hand():
    truth, prediction = np.zeros((9, 30), int), np.zeros((9, 30), int)
    truth[4, 5:25] = 1  # 20 pixels, 10 of which are found;
    prediction[4, 15:25] = 1
    prediction[7, 5:10] = 1  # 10 of the 15 predicted ones are right.
    precision, sensitivity = 10 / 15, 10 / 20
    assert cl_dice(prediction, truth) == pytest.approx(2 * precision * sensitivity / (precision + sensitivity))


def test_cl_dice_forgives_a_wrong_width_and_not_a_gap():
    truth = np.zeros((21, 60), int)
    truth[8:13, 5:55] = 1
    thin = np.zeros_like(truth)
    thin[10, 7:53] = 1
    assert dice(thin, truth) < 0.35
    assert cl_dice(thin, truth) == cl_dice(truth, thin) > 0.97  # The corners of the wide one's ends fork a little.
    thin[:, 20:35] = 0
    assert cl_dice(thin, truth) < 0.85


def test_cl_dice_of_empty_masks_and_single_pixels():
    empty, pixel, other = np.zeros((5, 5)), np.zeros((5, 5)), np.zeros((5, 5))
    pixel[2, 2] = other[0, 4] = 1
    assert cl_dice(empty, empty) == 1
    assert cl_dice(empty, pixel) == cl_dice(pixel, empty) == 0
    assert cl_dice(pixel, pixel) == 1
    assert cl_dice(pixel, other) == 0


@pytest.mark.parametrize('shape', [(1, 1), (2, 2), (2, 7), (3, 3), (4, 4), (5, 6)])
@pytest.mark.parametrize('border', [0, 2])
def test_no_piece_loses_its_centerline(shape, border):
    block = np.pad(np.ones(shape), border)
    line = centerline(block)
    assert line.any()
    assert not (line & (block == 0)).any()


def test_cl_dice_wants_equal_shapes():
    with pytest.raises(ValueError, match='differ in shape'):
        cl_dice(np.zeros((2, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize(('pixels', 'width'), [(1, 2), (2, 2), (3, 4), (4, 4), (7, 8), (10, 10)])
def test_width_of_a_straight_vessel_across_the_frame(pixels, width):
    mask = np.zeros((40, 80))
    mask[12 : 12 + pixels] = 1
    widths = vessel_width(mask)
    assert len(widths) >= 80 - pixels
    assert np.median(widths) == width
    assert widths.max() == width


@pytest.mark.parametrize('seed', range(2))
def test_width_is_twice_the_distance_to_the_nearest_background_pixel(seed):
    mask = vessels(seed, size=40)
    background = np.argwhere(mask == 0)
    expected = [2 * np.hypot(*(background - point).T).min() for point in np.argwhere(centerline(mask))]
    np.testing.assert_allclose(vessel_width(mask), expected)


def test_width_of_nothing_and_of_everything():
    assert vessel_width(np.zeros((6, 6))).shape == (0,)
    assert vessel_width(np.ones((5, 9))).max() == 6  # Three pixels from the middle row to the outside.
