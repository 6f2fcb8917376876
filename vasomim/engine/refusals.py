"""A value that a class refuses when it is built from a config is the config's error, and is told as one."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import build_functions

from vasomim.engine.strict import sections_of, unexpected_key
from vasomim.errors import ConfigError

LOADER = 'build_dataloader'  # mmengine builds the loaders without a registry.


@contextmanager
def blamed_on(cfg: Config) -> Iterator[None]:
    """Turn what classes raise about the keys and values that they are built from into an error of the config.

    Args:
        cfg: The config that is built from inside.

    Raises:
        ConfigError: In place of a ``TypeError``, ``ValueError``, ``AssertionError`` or ``ArithmeticError`` that speaks
            of the config; others pass.
    """
    try:
        yield
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        slip = unexpected_key(cfg, error) if isinstance(error, TypeError) else None
        slip = slip or refused_value(cfg, error)
        if slip is None:
            raise
        raise slip from error


def refused_value(cfg: Config, error: Exception) -> ConfigError | None:
    """Return the error for a value that a class does not take; None for what was not raised while building one.

    Args:
        cfg: The config that was being built.
        error: What was raised.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    built = [place for place, frame in enumerate(frames) if is_building(frame)]
    if not built:
        return None
    inside = [frame for frame in frames[built[-1] :] if frame.f_code.co_name == '__init__']
    if not inside and built[-1] != len(frames) - 1:
        return None  # A function or method at work: its traceback tells more.
    owner: Any = next((frame.f_locals['self'] for frame in reversed(inside or frames) if owns(frame)), None)
    name = type(owner).__name__
    path = next((path for path, builder in sections_of(cfg) if builder in type(owner).__mro__), name)
    return ConfigError(
        str(cfg.filename or 'config'),
        f'{path}: {str(error).removeprefix(f"{name}: ").rstrip(".")}.',
        'Correct the value in the config or in --cfg-options.',
    )


def is_building(frame: Any) -> bool:
    """Return whether a frame is mmengine's, building something from its config."""
    return frame.f_code.co_filename == build_functions.__file__ or frame.f_code.co_name == LOADER


def owns(frame: Any) -> bool:
    """Return whether a frame is the building of an object."""
    return frame.f_code.co_name == '__init__' and 'self' in frame.f_locals
