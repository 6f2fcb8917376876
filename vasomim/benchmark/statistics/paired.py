"""A paired difference of two methods over seeds and cases: test, interval, and what it could have found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

Array = np.ndarray
BISECTIONS = 40
QUANTILES = 50  # Of the error over seeds that another draw of seeds would show.
# The normal part of the cases: by Gauss and Legendre, up to nine deviations.
PLACES, WIDTHS = 9 * np.array(np.polynomial.legendre.leggauss(100))
WEIGHTS = WIDTHS * stats.norm.pdf(PLACES)


@dataclass(frozen=True)
class Paired:
    """A mean difference, and how far other seeds and other cases would have moved it.

    Every seed meets every case, and both could have been others: the squared errors over the ones and the others add
    up, as in min F' (Clark 1973). The many cases give a normal part, the few seeds a part that follows a t distribution
    with S - 1 degrees of freedom: their sum is that of Behrens and Fisher. Satterthwaite's approximation by one t
    distribution is too optimistic where two or three seeds differ more than cases do.

    Attributes:
        mean: Over seeds and cases.
        of_cases: Standard error over cases of the differences averaged over seeds; NaN for a single case.
        of_seeds: Standard error over seeds of the differences averaged over cases; 0 for a single seed, which says
            nothing of others.
        cases: Number of cases, N.
        seeds: Number of seeds, S.
    """

    mean: float
    of_cases: float
    of_seeds: float
    cases: int
    seeds: int

    @classmethod
    def of(cls, differences: Array) -> Paired:
        """Return that of differences, seeds x cases, (S, N); all figures are NaN if one is missing."""
        differences = np.asarray(differences, dtype=float)
        seeds, cases = differences.shape
        of_cases = error_of_mean(differences.mean(axis=0)) if cases > 1 else float('nan')
        of_seeds = error_of_mean(differences.mean(axis=1)) if seeds > 1 else 0.0
        return cls(float(differences.mean()), of_cases, of_seeds, cases, seeds)

    @property
    def is_known(self) -> bool:
        """Whether there is something to compute with: no difference is missing, and they vary."""
        return self.of_cases + self.of_seeds > 0

    def p_value(self) -> float:
        """Return the two-sided p-value; without any variation 1 for no difference and 0 for one."""
        if self.of_cases + self.of_seeds == 0:
            return float(self.mean == 0)
        return float(self.chance_beyond(np.abs([self.mean]), np.array([self.of_seeds]))[0])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the mean; NaN if a difference is missing."""
        half = float(self.limits(1 - level, np.array([self.of_seeds]))[0]) if self.is_known else self.of_cases
        return self.mean - half, self.mean + half

    def detectable(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """Return the smallest true mean difference that the test finds with a given power.

        Args:
            alpha: Level after correction: alpha / K is the strictest step of Holm's method for K comparisons.
            power: Chance to find it.

        Returns:
            The difference; NaN where nothing varies or a difference is missing, as nothing tells it then.
        """
        if not self.is_known:
            return float('nan')
        limits = self.likely_limits(alpha)
        return float(optimize.brentq(lambda size: self.power(size, limits) - power, 0.0, 2 * limits.max()))

    def power(self, difference: float, limits: Array) -> float:
        """Return the chance to find a true mean difference, given :meth:`likely_limits`."""
        error = np.hypot(self.of_cases, self.of_seeds)
        found = stats.norm.sf((limits - difference) / error) + stats.norm.cdf((-limits - difference) / error)
        return float(found.mean())

    def likely_limits(self, alpha: float) -> Array:
        """Return the distances from 0 that a mean has to exceed, for each of the errors that other draws would show."""
        places = (np.arange(QUANTILES) + 0.5) / QUANTILES
        if self.seeds == 1:
            scale = np.sqrt(stats.chi2.ppf(places, self.cases - 1) / (self.cases - 1))
            return np.asarray(stats.t.isf(alpha / 2, self.cases - 1) * self.of_cases * scale)
        scale = np.sqrt(stats.chi2.ppf(places, self.seeds - 1) / (self.seeds - 1))
        return self.limits(alpha, self.of_seeds * scale)

    def limits(self, alpha: float, of_seeds: Array) -> Array:
        """Return the distances beyond which a mean lies with chance ``alpha`` if there is no true difference.

        Args:
            alpha: Two-sided.
            of_seeds: Errors over seeds, (K,).
        """
        low: Array = np.zeros(len(of_seeds))
        # The chance is less beyond the sum of what either part exceeds at half the level.
        high = stats.t.isf(alpha / 4, self.cases - 1) * self.of_cases + np.zeros(len(of_seeds))
        if self.seeds > 1:
            high = high + stats.t.isf(alpha / 4, self.seeds - 1) * of_seeds
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            beyond = self.chance_beyond(middle, of_seeds) > alpha
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return np.asarray((low + high) / 2)

    def chance_beyond(self, distances: Array, of_seeds: Array) -> Array:
        """Return how often a mean lies further from 0 than distances, (K,), with errors over seeds, (K,)."""
        if self.seeds == 1:
            return np.asarray(2 * stats.t.sf(distances / self.of_cases, self.cases - 1))
        if self.of_cases == 0:
            return np.asarray(2 * stats.t.sf(distances / of_seeds, self.seeds - 1))
        left = (distances[:, None] - self.of_cases * PLACES) / np.maximum(of_seeds, 0.01 * self.of_cases)[:, None]
        return np.asarray(2 * special.stdtr(self.seeds - 1, -left) @ WEIGHTS)


def error_of_mean(values: Array) -> float:
    """Return the standard error of a mean of values, (N,) with N > 1."""
    return float(np.sqrt(values.var(ddof=1) / len(values)))
