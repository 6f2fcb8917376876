"""Logs and pictures may fail, on a full disk for instance, and a training goes on without them."""

from __future__ import annotations

import functools
import io
import logging
import sys
from typing import Any

from mmengine.visualization import Visualizer

from vasomim.errors import printable


class UnfailingBackend:
    """A visualizer's backend whose failures are a warning each, said once.

    Args:
        backend: Of mmengine, such as ``TensorboardVisBackend``.
        logger: Gets the warnings.
    """

    def __init__(self, backend: Any, logger: logging.Logger) -> None:
        self.backend = backend
        self.logger = logger
        self.warned: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.backend, name)
        return functools.partial(self.attempt, name, value) if name.startswith(('add_', 'close')) else value

    def attempt(self, name: str, method: Any, *args: Any, **kwargs: Any) -> None:
        """Call a method of the backend.

        Raises:
            ImportError: If its library is not installed, which is known before the training starts.
        """
        try:
            method(*args, **kwargs)
        except ImportError:
            raise
        except Exception as error:
            if name not in self.warned:
                self.warned.add(name)
                reason = ' '.join(str(error).split()) or type(error).__name__
                self.logger.warning(printable(f'{type(self.backend).__name__}.{name} failed: {reason}'))


def guard_visualizer(visualizer: Visualizer, logger: logging.Logger) -> None:
    """Let no backend of a visualizer end a training."""
    backends = visualizer._vis_backends
    backends.update({name: UnfailingBackend(backend, logger) for name, backend in backends.items()})


def guard_files(logger: logging.Logger) -> None:
    """Let the log file of a logger take any name, and say once, instead of a traceback a line, where it is full."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            if isinstance(handler.stream, io.TextIOWrapper):
                handler.stream.reconfigure(encoding='utf-8', errors='backslashreplace')
            handler.handleError = LogFailure(handler.baseFilename)  # type: ignore[method-assign]


class LogFailure:
    """What a handler does with a line that it cannot write.

    Args:
        path: The log file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.told = False

    def __call__(self, record: logging.LogRecord) -> None:
        """Say the first time what is wrong."""
        if not self.told:
            self.told = True
            print(f'warning: {printable(self.path)} cannot be written: {sys.exc_info()[1]}', file=sys.stderr)
