"""HD95 against loops over all pairs of edge pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shapes import vessels

from vasomim.evaluation import hausdorff95


def slow_edge(mask: np.ndarray) -> list[tuple[int, int]]:
    height, width = mask.shape
    return [
        (row, column)
        for (row, column), value in np.ndenumerate(mask)
        if value
        and any(
            not (0 <= row + down < height and 0 <= column + right < width) or not mask[row + down, column + right]
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


def percentile95(values: list[float]) -> float:
    ranked = sorted(values)
    place = 0.95 * (len(ranked) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def slow_hausdorff95(prediction: np.ndarray, truth: np.ndarray, height: float = 1, width: float = 1) -> float:
    first, second = slow_edge(prediction), slow_edge(truth)

    def directed(origins: list, targets: list) -> float:
        return percentile95(
            [min(math.hypot((a - c) * height, (b - d) * width) for c, d in targets) for a, b in origins]
        )

    return max(directed(first, second), directed(second, first))


@pytest.mark.parametrize('seed', range(4))
def test_hausdorff95_matches_all_pairs(seed):
    truth, prediction = vessels(seed, size=40), vessels(seed + 1, size=40, lines=2)
    expected = slow_hausdorff95(prediction, truth)
    assert expected > 1
    assert hausdorff95(prediction, truth) == pytest.approx(expected, abs=1e-9)
    assert hausdorff95(truth, prediction) == pytest.approx(expected, abs=1e-9)
    anisotropic = hausdorff95(prediction, truth, spacing=(0.3, 0.2))
    assert anisotropic == pytest.approx(slow_hausdorff95(prediction, truth, 0.3, 0.2), abs=1e-9)


def test_hausdorff95_of_pixels_by_hand():
    first, second = np.zeros((10, 10)), np.zeros((10, 10))
    first[1, 1] = second[4, 5] = 1
    assert hausdorff95(first, second) == 5
    assert hausdorff95(first, second, spacing=0.2) == pytest.approx(1)
    assert hausdorff95(first, first) == 0


def test_hausdorff95_is_the_larger_direction():
    truth = np.zeros((5, 40))
    truth[2] = 1
    prediction = np.zeros_like(truth)
    prediction[2, :20] = 1  # Its pixels all lie on the truth; the truth goes on for 20 pixels.
    distances = [0] * 20 + list(range(1, 21))
    assert hausdorff95(prediction, truth) == pytest.approx(percentile95(distances))


def test_hausdorff95_of_empty_masks():
    empty, full = np.zeros((4, 4)), np.ones((4, 4))
    assert hausdorff95(empty, empty) == 0
    assert math.isnan(hausdorff95(empty, full))
    assert math.isnan(hausdorff95(full, empty))
    assert hausdorff95(full, full) == 0


@pytest.mark.parametrize('spacing', [0, -1.0, (1, 0)])
def test_hausdorff95_wants_a_positive_spacing(spacing):
    with pytest.raises(ValueError, match='not positive'):
        hausdorff95(np.ones((2, 2)), np.ones((2, 2)), spacing)
