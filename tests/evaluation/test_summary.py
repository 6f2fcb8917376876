"""Means that count what is missing, and thirds with ties."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vasomim.evaluation import Summary, summarize, terciles


def test_undefined_cases_are_counted():
    assert summarize([1.0, float('nan'), 0.5]) == Summary(0.75, 2, 1)
    nothing = summarize([float('nan')] * 3)
    assert math.isnan(nothing.mean)
    assert (nothing.count, nothing.undefined) == (0, 3)
    assert summarize(iter([])).count == 0


def test_infinite_values_are_errors():
    with pytest.raises(ValueError, match='infinite'):
        summarize([1.0, float('inf')])


def test_terciles_by_hand():
    cuts = terciles([5, 1, 4, 2, 6, 3])
    assert (cuts.low, cuts.high) == (2, 4)
    assert cuts.group(np.array([1, 2, 3, 4, 4.5, 6, np.nan])).tolist() == [0, 0, 1, 1, 2, 2, -1]


def test_equal_values_share_a_group():
    cuts = terciles([1, 1, 1, 1, 2, 9])
    assert cuts.group(np.array([1.0, 2.0, 9.0])).tolist() == [0, 2, 2]
    alike = terciles([7, 7])
    assert alike.group(np.array([7.0])).tolist() == [0]


def test_weights_repeat_values():
    generator = np.random.default_rng(0)
    values, weights = generator.integers(0, 9, 30), generator.integers(0, 5, 30)
    assert terciles(values, weights) == terciles(np.repeat(values, weights))


def test_unknown_values_move_no_cut():
    assert terciles([3, float('nan'), 1, 2]) == terciles([1, 2, 3])
    nothing = terciles([float('nan')])
    assert math.isnan(nothing.low)
    assert nothing.group(np.array([np.nan])).tolist() == [-1]
