"""Paired differences over seeds and cases, against SciPy where it knows the answer and against draws where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vasomim.benchmark.statistics.paired import Paired

CASES = 200


def drawn(rng: np.random.Generator, seeds: int, of_seeds: float, shift: float = 0.0, noise: float = 0.03) -> np.ndarray:
    """Differences of a true mean ``shift``, whose seeds, cases and pairs of them vary independently."""
    own = rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, 0.08, (1, CASES))
    return shift + own + rng.normal(0, noise, (seeds, CASES))


def known(seeds: int, of_seeds: float) -> Paired:
    """The spread of :func:`drawn` itself."""
    squares = 0.08**2 / CASES, of_seeds**2 / seeds
    noise = 0.03**2 / (seeds * CASES)
    return Paired(0.0, float(np.sqrt(squares[0] + noise)), float(np.sqrt(squares[1] + noise)), CASES, seeds)


def test_one_seed_is_the_t_test_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.08, (1, 30))
    paired, theirs = Paired.of(values), stats.ttest_1samp(values[0], 0)
    assert paired.p_value() == pytest.approx(theirs.pvalue)
    assert paired.interval() == pytest.approx(tuple(theirs.confidence_interval()))
    shift = paired.detectable(0.01, 0.7)
    scale = np.sqrt(30) * paired.of_cases
    again = np.random.default_rng(1).normal(shift, scale, (4000, 30))
    assert (stats.ttest_1samp(again, 0, axis=1).pvalue <= 0.01).mean() == pytest.approx(0.7, abs=0.03)


def test_cases_that_agree_leave_the_t_test_of_the_seeds() -> None:
    by_seed = np.array([0.01, 0.03, 0.02, 0.05])
    paired, theirs = Paired.of(np.repeat(by_seed[:, None], 50, axis=1)), stats.ttest_1samp(by_seed, 0)
    assert paired.p_value() == pytest.approx(theirs.pvalue)
    assert paired.interval() == pytest.approx(tuple(theirs.confidence_interval()))


def test_it_is_the_sum_of_a_normal_and_a_t_distribution() -> None:
    paired = Paired.of(drawn(np.random.default_rng(2), 3, 0.01, 0.03))
    rng = np.random.default_rng(3)
    sums = paired.of_cases * rng.standard_normal(400_000) + paired.of_seeds * rng.standard_t(2, 400_000)
    assert paired.p_value() == pytest.approx((np.abs(sums) > abs(paired.mean)).mean(), rel=0.03)
    half = np.quantile(np.abs(sums), 0.95)
    assert paired.interval() == pytest.approx((paired.mean - half, paired.mean + half), abs=0.02 * half)


@pytest.mark.parametrize('seeds', [2, 3, 5])
@pytest.mark.parametrize('of_seeds', [0.0, 0.005, 0.02])
@pytest.mark.parametrize('alpha', [0.05, 0.05 / 8])
def test_it_finds_nothing_more_often_than_it_says_and_the_detectable_as_often(
    seeds: int, of_seeds: float, alpha: float
) -> None:
    rng = np.random.default_rng(4)
    detectable = known(seeds, of_seeds).detectable(alpha)
    found = {
        shift: np.mean([Paired.of(drawn(rng, seeds, of_seeds, shift)).p_value() <= alpha for _ in range(800)])
        for shift in (0.0, detectable)
    }
    assert found[0.0] <= alpha + 2.5 * np.sqrt(alpha / 800)
    assert found[detectable] == pytest.approx(0.8, abs=0.06)


def test_the_interval_excludes_zero_where_the_p_value_is_below_its_level() -> None:
    rng = np.random.default_rng(5)
    several = [Paired.of(drawn(rng, 3, 0.005, 0.02)) for _ in range(100)]
    below = [paired.p_value() < 0.05 for paired in several]
    assert below == [paired.interval()[0] > 0 or paired.interval()[1] < 0 for paired in several]
    assert 10 < sum(below) < 90


def test_what_is_missing_or_does_not_vary() -> None:
    nothing = Paired.of(np.zeros((3, 10)))
    assert (nothing.p_value(), nothing.interval()) == (1.0, (0.0, 0.0))
    constant = Paired.of(np.full((3, 10), 0.25))
    assert (constant.p_value(), constant.interval()) == (0.0, (0.25, 0.25))
    assert np.isnan([nothing.detectable(), constant.detectable()]).all()
    for values in (np.full((3, 10), np.nan), np.zeros((1, 1))):
        paired = Paired.of(values)
        assert np.isnan([paired.p_value(), paired.detectable(), *paired.interval()]).all()
