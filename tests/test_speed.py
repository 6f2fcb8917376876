"""The speed benchmark: its references compute the same, and its rows say what was measured."""

import numpy as np
import pytest
import speed

from vasomim.anatomy import extract_anatomy
from vasomim.synthetic import simulate_frame


def test_the_reference_extracts_the_same_anatomy():
    frame = simulate_frame(3).image
    ours, reference = extract_anatomy(frame), speed.slow_anatomy(frame)
    assert np.logical_and(ours, reference).sum() / np.logical_or(ours, reference).sum() > 0.995


def test_anatomy_is_measured_beside_its_reference():
    one_core, all_cores = speed.measure_anatomy(frames=1, files=3)
    assert one_core.ratio == one_core.reference / one_core.ours
    assert one_core.ours > 0
    assert all_cores.ours > 0


def test_a_clock_decides_how_long_something_takes():
    ticks = iter([10.0, 12.5])
    done = []
    assert speed.seconds(lambda: next(ticks), done.append, 7) == 2.5
    assert done == [7]


def test_steps_are_measured_beside_mae():
    rows = speed.measure_steps(arch='tiny', batch=1, rounds=1, side=64)
    assert [row.name.split(',')[1].strip() for row in rows] == ['simmim', 'simmim', 'vasomim', 'vasomim']
    for row in rows:
        assert row.ours > 0
        assert row.reference > 0
        assert row.ratio == pytest.approx(row.ours / row.reference)
