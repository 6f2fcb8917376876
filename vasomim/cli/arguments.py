"""Types of options that several verbs take."""

from __future__ import annotations

from vasomim.errors import ConfigError

LARGEST_SEED = 2**32 - 1  # NumPy's.


def seed(text: str) -> int:
    """Return a seed for Python's, NumPy's and PyTorch's random numbers.

    Raises:
        ConfigError: If it is no whole number, or out of their common range.
    """
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= LARGEST_SEED:
        raise ConfigError('--seed', f"'{text}' is no seed.", f'Take a whole number from 0 to {LARGEST_SEED}.')
    return value
