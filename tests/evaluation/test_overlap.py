"""Overlap against loops over pixels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vasomim.evaluation import class_counts, class_dice, dice, dice_of_counts, pooled_dice


def slow_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    predicted = {place for place, value in np.ndenumerate(prediction) if value}
    true = {place for place, value in np.ndenumerate(truth) if value}
    return 2 * len(predicted & true) / (len(predicted) + len(true))


def labels(seed: int, classes: int, size: tuple[int, int] = (9, 7)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes + 1, size)


@pytest.mark.parametrize('seed', range(3))
def test_dice_matches_sets_of_pixels(seed):
    prediction, truth = labels(seed, 1), labels(seed + 50, 1)
    assert dice(prediction, truth) == pytest.approx(slow_dice(prediction, truth), abs=1e-12)
    assert dice(255 * prediction, truth.astype(bool)) == dice(prediction, truth)


def test_dice_of_empty_masks():
    empty, pixel = np.zeros((4, 4)), np.eye(4)[:1].repeat(4, 0)
    assert dice(empty, empty) == 1
    assert dice(empty, pixel) == dice(pixel, empty) == 0


@pytest.mark.parametrize('seed', range(3))
def test_each_class_is_a_dice_of_its_own(seed):
    prediction, truth = labels(seed, 5), labels(seed + 50, 5)
    expected = [slow_dice(prediction == index, truth == index) for index in range(1, 6)]
    np.testing.assert_allclose(class_dice(prediction, truth, 5), expected, atol=1e-12)


def test_absent_classes_are_nan_and_one_sided_ones_zero():
    truth = np.array([[1, 1, 0, 0, 2]])
    prediction = np.array([[1, 0, 3, 0, 0]])
    np.testing.assert_array_equal(class_dice(prediction, truth, 4), [2 / 3, 0, 0, np.nan])
    np.testing.assert_array_equal(class_counts(prediction, truth, 4), [[1, 1, 2], [0, 0, 1], [0, 1, 0], [0, 0, 0]])


def test_pooled_dice_is_the_dice_of_all_pixels_in_one_mask():
    pairs = [(labels(seed, 3), labels(seed + 50, 3)) for seed in range(4)]
    pairs[0] = (np.zeros_like(pairs[0][0]), pairs[0][1])
    everything = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    pooled = pooled_dice(np.stack([class_counts(*pair, 3) for pair in pairs]))
    np.testing.assert_allclose(pooled, [slow_dice(*(side == index for side in everything)) for index in (1, 2, 3)])
    assert not np.allclose(pooled, np.mean([class_dice(*pair, 3) for pair in pairs], axis=0), atol=1e-3)


def test_counts_of_nothing_are_nan():
    assert np.isnan(dice_of_counts(np.zeros(3)))


def test_wrong_shapes_and_values_are_errors():
    with pytest.raises(ValueError, match=r'\(2, 3\) and \(3, 2\)'):
        dice(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match='The truth holds 0 to 255; expected 0 to 2'):
        class_counts(np.zeros((1, 2), int), np.array([[0, 255]]), 2)
    with pytest.raises(ValueError, match='The prediction holds -1 to 0'):
        class_counts(np.array([[0, -1]]), np.zeros((1, 2), int), 2)


def test_the_functions_come_without_torch_and_openmmlab():
    program = (
        'import sys, vasomim.evaluation\n'
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'mmengine', 'mmcv', 'mmseg', 'mmpretrain'})"
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'set()'
