"""Summaries of many cases that never lose a missing value in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean of a measure over cases.

    Attributes:
        mean: Over the cases in which the measure is defined; NaN if there is none.
        count: Number of these cases.
        undefined: Number of the other cases, in which the measure is NaN.
    """

    mean: float
    count: int
    undefined: int


def summarize(values: Iterable[float]) -> Summary:
    """Average a measure over cases, and count the cases in which it is undefined (NaN).

    Raises:
        ValueError: If a value is infinite.
    """
    array = np.fromiter(values, dtype=float)
    if np.isinf(array).any():
        raise ValueError('A value is infinite; undefined values are NaN.')
    defined = array[~np.isnan(array)]
    mean = float(defined.mean()) if defined.size else float('nan')
    return Summary(mean, int(defined.size), int(array.size - defined.size))


@dataclass(frozen=True)
class Terciles:
    """Cuts that divide values into three groups: up to ``low``, above it up to ``high``, above that.

    Equal values always share a group, so the groups are equal in size only as far as ties allow.
    """

    low: float
    high: float

    def group(self, values: np.ndarray) -> np.ndarray:
        """Return 0, 1 or 2 for each value, -1 for NaN; of the shape of ``values``, int."""
        groups = np.searchsorted([self.low, self.high], values, side='left')
        return np.where(np.isnan(values), -1, groups)


def terciles(values: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None) -> Terciles:
    """Find the cuts that divide values into thirds.

    A cut is the smallest value that at least one third, or two thirds, of the values do not exceed.

    Args:
        values: (N,); NaN counts nowhere.
        weights: How often each value counts, (N,) >= 0; once without it.

    Returns:
        The cuts; NaN where there is no value.
    """
    array = np.asarray(values, dtype=float)
    weight = np.ones_like(array) if weights is None else np.asarray(weights, dtype=float)
    known = ~np.isnan(array) & (weight > 0)
    if not known.any():
        return Terciles(float('nan'), float('nan'))
    order = np.argsort(array[known])
    ranked, reached = array[known][order], np.cumsum(weight[known][order])
    # 3 x reached >= k x total keeps whole weights exact, where a division by 3 would not.
    low, high = (ranked[np.argmax(3 * reached >= third * reached[-1])] for third in (1, 2))
    return Terciles(float(low), float(high))
