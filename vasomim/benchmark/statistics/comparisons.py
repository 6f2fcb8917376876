"""Statistics of comparisons: pure functions on arrays. NaN means missing, and what depends on it is missing as well."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy import stats

Array = np.ndarray
DRAWS = 2000
FLIPS = 10_000
EXACT = 12  # Up to this many cases all 2^N flips of signs are counted.


def mean_and_deviation(values: Array) -> tuple[float, float]:
    """Return mean and standard deviation (N - 1) over seeds.

    Args:
        values: One per seed, (S,).

    Returns:
        Mean, NaN if a value is missing; deviation, NaN for a single seed too.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0 or np.isnan(values).any():
        return float('nan'), float('nan')
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else float('nan')


def bootstrap_means(
    scores: Array, strata: Sequence[str] | None = None, draws: int = DRAWS, seed: int = 0, shared_seeds: bool = False
) -> Array:
    """Draw what other cases and other seeds would have given on average.

    Cases are drawn with replacement, the same for all methods, so that differences are paired, and as many of each
    stratum as there are. Seeds are too few for that: drawn with replacement, three of them give an interval no wider
    than from the lowest to the highest, which covers the true mean in three of four cases. Their part of the deviation
    of a mean follows a t distribution with S - 1 degrees of freedom instead. A single seed has no such part.

    Args:
        scores: Methods, seeds, cases, (M, S, N).
        strata: The stratum of each case, (N,); None for one stratum.
        draws: Number of draws, B.
        seed: Of the random numbers.
        shared_seeds: Whether a seed means the same for all methods, so that differences are paired in seeds as well.

    Returns:
        Means, (B, M); NaN for a method of which anything is missing.
    """
    methods, seeds, cases = scores.shape
    rng = np.random.default_rng(seed)
    labels = np.zeros(cases, dtype=int) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    weights = np.zeros((draws, cases))
    for stratum in np.unique(labels):
        here = np.flatnonzero(labels == stratum)
        weights[:, here] = rng.multinomial(len(here), np.full(len(here), 1 / len(here)), size=draws)
    by_seed = np.einsum('msn,bn->bms', scores, weights / cases, optimize=True)
    means: Array = by_seed.mean(axis=2)
    if seeds == 1:
        return means
    independent = (draws, 1 if shared_seeds else methods)
    normal = rng.standard_normal((*independent, seeds))
    # The sum is normal with (S - 1) times the variance of the seeds: over the root of a chi-square it is a t variable.
    pulled = (normal * (by_seed - means[..., None])).sum(axis=2)
    return means + pulled / np.sqrt(seeds * rng.chisquare(seeds - 1, independent))


def interval(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of draws, (B,); NaN if one is NaN."""
    if draws.size == 0 or np.isnan(draws).any():
        return float('nan'), float('nan')
    low, high = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def bootstrap_interval(
    scores: Array, strata: Sequence[str] | None = None, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of one method's mean over cases and seeds; scores are (S, N)."""
    return interval(bootstrap_means(scores[None], strata, draws, seed)[:, 0], level)


def wilcoxon(differences: Array) -> float:
    """Return the two-sided p-value of the signed-rank test; 1 if all differences are 0, NaN if one is missing."""
    differences = np.asarray(differences, dtype=float)
    if differences.size == 0 or np.isnan(differences).any():
        return float('nan')
    return 1.0 if not differences.any() else float(stats.wilcoxon(differences).pvalue)


def sign_flip(differences: Array, draws: int = FLIPS, seed: int = 0) -> Array:
    """Return two-sided p-values of the paired permutation test of the mean.

    All flips of signs are counted for up to :data:`EXACT` cases; otherwise random ones, and the observed one with them
    (Phipson and Smyth 2010), so that p is never 0.

    Args:
        differences: Comparisons, cases, (P, N).
        draws: Number of random flips.
        seed: Of the random numbers.

    Returns:
        (P,); NaN where a difference is missing.
    """
    differences = np.atleast_2d(np.asarray(differences, dtype=float))
    number = differences.shape[1]
    if number == 0:
        return np.full(len(differences), np.nan)
    observed = np.abs(differences.sum(axis=1))
    limit = observed - 1e-12 * np.abs(differences).sum(axis=1)  # Equal sums may differ in their last bits.
    if number <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=number)))
        p_values = (np.abs(signs @ differences.T) >= limit).mean(axis=0)
    else:
        rng = np.random.default_rng(seed)
        extreme = np.zeros(len(differences))
        for start in range(0, draws, 1000):  # In parts, for memory.
            signs = rng.integers(0, 2, size=(min(1000, draws - start), number)) * 2.0 - 1.0
            extreme += (np.abs(signs @ differences.T) >= limit).sum(axis=0)
        p_values = (extreme + 1) / (draws + 1)
    return np.where(np.isnan(observed), np.nan, p_values)


def holm(p_values: Array, size: int | None = None) -> Array:
    """Adjust p-values by Holm's method.

    Args:
        p_values: (P,); NaN for a comparison that could not be made.
        size: Number of comparisons in the family that was written down; P by default. Missing ones count.

    Returns:
        Adjusted p-values, (P,), NaN where they were.
    """
    p_values = np.asarray(p_values, dtype=float)
    size = len(p_values) if size is None else size
    if size < len(p_values):
        raise ValueError(f'The family has {size} comparisons, and {len(p_values)} p-values are given.')
    adjusted = np.full(len(p_values), np.nan)
    order = [index for index in np.argsort(p_values, kind='stable') if not np.isnan(p_values[index])]
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (size - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def tie_groups(order: Sequence[str], different: Sequence[Sequence[bool]] | Array) -> list[tuple[str, ...]]:
    """Return the cliques of a critical-difference diagram.

    A group is a longest run of methods, in the order of their means, of which no two differ significantly. Runs of one
    method are groups only where nothing ties with it.

    Args:
        order: Methods, best first, (M,).
        different: Whether two of them differ significantly, in that order, (M, M).
    """
    different = np.asarray(different, dtype=bool)
    groups: list[tuple[int, int]] = []
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and not different[start : stop + 1, start : stop + 1].any():
            stop += 1
        if not groups or stop > groups[-1][1]:
            groups.append((start, stop))
    return [tuple(order[start:stop]) for start, stop in groups]


def ranks(scores: Array) -> Array:
    """Rank methods on tasks: 1 is the best, ties share the mean of their ranks.

    Args:
        scores: The larger the better; (..., M), NaN for missing.

    Returns:
        (..., M); NaN for missing ones, which take no place from others.
    """
    scores = np.asarray(scores, dtype=float)
    with np.errstate(invalid='ignore'):
        above = (scores[..., None, :] > scores[..., :, None]).sum(axis=-1)
        equal = (scores[..., None, :] == scores[..., :, None]).sum(axis=-1)
    return np.where(np.isnan(scores), np.nan, above + (equal + 1) / 2)


def mean_rank(scores: Array) -> Array:
    """Return the mean rank over tasks, (..., M) for scores (..., T, M); NaN for a method with a missing task."""
    return ranks(scores).mean(axis=-2)


def borda(scores: Array) -> Array:
    """Return Borda counts: methods beaten, summed over tasks, a tie counts half; shapes as of :func:`mean_rank`."""
    present = (~np.isnan(scores)).sum(axis=-1, keepdims=True)
    return (present - ranks(scores)).sum(axis=-2)
