"""Types of options that several verbs take."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vasomim.apis.arguments import check_seed


def seed(text: str) -> int:
    """Return a seed for Python's, NumPy's and PyTorch's random numbers.

    Raises:
        ConfigError: If it is no whole number, or out of their common range.
    """
    value: Any = text
    with suppress(ValueError):
        value = int(text)
    return check_seed(value)
