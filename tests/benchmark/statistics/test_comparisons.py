"""Every statistic against SciPy, a brute-force count, or what it promises."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from vasomim.benchmark.statistics import comparisons as ours

RNG = np.random.default_rng(7)


def test_mean_and_deviation_never_skip_a_missing_seed() -> None:
    assert ours.mean_and_deviation(np.array([1.0, 2.0, 6.0])) == pytest.approx((3.0, np.std([1, 2, 6], ddof=1)))
    assert np.isnan(ours.mean_and_deviation(np.array([1.0, np.nan]))).all()
    mean, deviation = ours.mean_and_deviation(np.array([0.5]))
    assert mean == 0.5
    assert np.isnan(deviation)


def test_bootstrap_is_that_of_scipy() -> None:
    scores = RNG.normal(0.7, 0.1, size=(1, 200))
    wanted = stats.bootstrap((scores[0],), np.mean, n_resamples=9999, method='percentile', random_state=1)
    low, high = ours.bootstrap_interval(scores, draws=9999)
    assert low == pytest.approx(wanted.confidence_interval.low, abs=1e-3)
    assert high == pytest.approx(wanted.confidence_interval.high, abs=1e-3)
    assert ours.bootstrap_interval(scores) == ours.bootstrap_interval(scores)


def test_bootstrap_equals_a_loop_over_draws() -> None:
    scores = RNG.normal(size=(3, 25)) + 0.3 * np.arange(3)[:, None]
    rng = np.random.default_rng(3)
    means = []
    for quantile in stats.t.ppf(rng.random(20_000), df=2):
        by_seed = scores[:, rng.integers(0, 25, 25)].mean(axis=1)
        means.append(by_seed.mean() + quantile * by_seed.std(ddof=1) / np.sqrt(3))
    wanted = np.percentile(means, [2.5, 97.5])
    assert ours.bootstrap_interval(scores, draws=20_000) == pytest.approx(wanted, abs=0.05 * np.ptp(wanted))


@pytest.mark.parametrize('seeds', [2, 3, 5])
@pytest.mark.parametrize('of_seeds', [0.0, 0.5, 3.0])
def test_an_interval_covers_the_true_mean_as_often_as_it_says(seeds: int, of_seeds: float) -> None:
    rng = np.random.default_rng(seeds)
    covered = []
    for repeat in range(400):
        images = rng.normal(0, 1, 40)
        scores = images + rng.normal(0, of_seeds / np.sqrt(40), (seeds, 1)) + rng.normal(0, 0.1, (seeds, 40))
        low, high = ours.bootstrap_interval(scores, draws=600, seed=repeat)
        covered.append(low <= 0 <= high)
    assert 0.91 <= np.mean(covered) <= 0.995


def test_strata_keep_their_sizes() -> None:
    strata = ['left'] * 30 + ['right'] * 10
    scores = np.array([[0.0] * 30 + [1.0] * 10])
    assert ours.bootstrap_interval(scores, strata) == pytest.approx((0.25, 0.25))
    low, high = ours.bootstrap_interval(scores)
    assert low < 0.2 < 0.3 < high


def test_shared_seeds_leave_a_constant_difference_constant() -> None:
    # Seeds differ much, and methods by 0.5.
    scores = np.random.default_rng(5).normal(size=(1, 3, 20)) + 5 * np.arange(3)[None, :, None]
    both = np.concatenate([scores, scores + 0.5])
    paired, apart = (ours.bootstrap_means(both, shared_seeds=shared) for shared in (True, False))
    assert (paired[:, 1] - paired[:, 0]).tolist() == pytest.approx([0.5] * len(paired))
    assert np.std(apart[:, 1] - apart[:, 0]) > 1
    spreads = [np.ptp(np.percentile(drawn[:, 0], [25, 75])) for drawn in (paired, apart)]
    np.testing.assert_allclose(*spreads, rtol=0.1)


def test_bootstrap_of_missing_scores_is_missing() -> None:
    scores = np.ones((2, 2, 5))
    scores[1, 0, 3] = np.nan
    means = ours.bootstrap_means(scores)
    assert not np.isnan(means[:, 0]).any()
    assert np.isnan(ours.interval(means[:, 1])).all()


def test_wilcoxon() -> None:
    differences = RNG.normal(0.1, 1, size=40)
    assert ours.wilcoxon(differences) == stats.wilcoxon(differences).pvalue
    assert ours.wilcoxon(np.zeros(9)) == 1.0
    assert np.isnan(ours.wilcoxon(np.array([1.0, np.nan])))


def test_sign_flip_counts_all_flips_of_few_cases() -> None:
    differences = np.round(RNG.normal(0.5, 1, size=9), 1)
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=9)]
    wanted = np.mean([value >= abs(differences.sum()) - 1e-9 for value in sums])
    assert ours.sign_flip(differences)[0] == wanted


def test_sign_flip_of_many_cases_is_that_of_scipy() -> None:
    differences = RNG.normal(0.15, 1, size=(2, 80))
    found = ours.sign_flip(differences, draws=20_000)
    for row, p_value in zip(differences, found, strict=True):
        wanted = stats.permutation_test(
            (row,), np.mean, permutation_type='samples', n_resamples=20_000, random_state=2
        ).pvalue
        assert p_value == pytest.approx(wanted, abs=0.012)
    assert ours.sign_flip(np.full(100, 1.0), draws=999)[0] == 1 / 1000  # Never 0.
    assert ours.sign_flip(np.zeros(100))[0] == 1.0
    assert np.isnan(ours.sign_flip(np.array([np.nan] * 20))[0])


def test_holm_by_its_definition() -> None:
    p_values = np.array([0.01, 0.04, 0.03, 0.005])
    assert ours.holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ours.holm(p_values, 5) == pytest.approx([0.04, 0.09, 0.09, 0.025])
    missing = ours.holm(np.array([0.01, np.nan, 0.6]))
    assert np.isnan(missing[1])
    assert missing[[0, 2]] == pytest.approx([0.03, 1.0])
    with pytest.raises(ValueError, match='2 comparisons'):
        ours.holm(p_values, 2)


def test_holm_keeps_the_family_wise_error() -> None:
    rejected = [ours.holm(RNG.uniform(size=6)).min() <= 0.05 for _ in range(4000)]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.012)


def test_tie_groups_are_the_longest_runs_without_a_difference() -> None:
    different = np.zeros((4, 4), dtype=bool)
    for a, b in ((0, 2), (0, 3)):
        different[a, b] = different[b, a] = True
    assert ours.tie_groups('abcd', different) == [('a', 'b'), ('b', 'c', 'd')]
    assert ours.tie_groups('ab', ~np.eye(2, dtype=bool)) == [('a',), ('b',)]
    assert ours.tie_groups('', np.zeros((0, 0))) == []


def test_tie_groups_against_all_subsets() -> None:
    for _ in range(50):
        upper = np.triu(RNG.uniform(size=(5, 5)) < 0.4, 1)
        different = upper | upper.T
        runs = [(a, b) for a in range(5) for b in range(a + 1, 6) if not different[a:b, a:b].any()]
        longest = [r for r in runs if not any(o != r and o[0] <= r[0] and r[1] <= o[1] for o in runs)]
        assert ours.tie_groups('abcde', different) == [tuple('abcde'[a:b]) for a, b in longest]


def test_ranks_are_those_of_scipy_and_missing_ones_get_none() -> None:
    scores = np.round(RNG.uniform(size=(20, 6)), 1)
    assert (ours.ranks(scores) == stats.rankdata(-scores, axis=1)).all()
    assert ours.mean_rank(scores) == pytest.approx(stats.rankdata(-scores, axis=1).mean(axis=0))
    scores[3, 2] = np.nan
    assert np.isnan(ours.mean_rank(scores)).tolist() == [False, False, True, False, False, False]
    rest = np.delete(scores[3], 2)
    assert (np.delete(ours.ranks(scores[3]), 2) == stats.rankdata(-rest)).all()


def test_borda_counts_the_beaten() -> None:
    scores = np.array(list(permutations([0.1, 0.2, 0.2]))[:4])
    wanted = [
        sum((row[m] > other) + 0.5 * (row[m] == other) for row in scores for i, other in enumerate(row) if i != m)
        for m in range(3)
    ]
    assert ours.borda(scores) == pytest.approx(wanted)
