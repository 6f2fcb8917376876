"""Checks of arguments that several functions take; they need no library."""

from __future__ import annotations

from vasomim.errors import ConfigError

LARGEST_SEED = 2**32 - 1  # NumPy's.


def check_seed(seed: int) -> int:
    """Return a seed for Python's, NumPy's and PyTorch's random numbers.

    Raises:
        ConfigError: If it is no whole number, or out of their common range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise ConfigError('--seed', f"'{seed}' is no seed.", f'Take a whole number from 0 to {LARGEST_SEED}.')
    return seed
