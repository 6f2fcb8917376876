"""What a person sees of a training: warnings, errors and a few plain lines. The log file holds everything."""

from __future__ import annotations

import logging

import rich

# What the stack says on every run and nobody can act on; the log file keeps it.
ROUTINE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    'The prefix is not set in metric class',
)


class TerminalHandler(logging.Handler):
    """Prints the lines of :func:`tell`, warnings and errors above rich's progress bar.

    Args:
        level: The lowest level that is looked at; a process other than the first one passes ``logging.ERROR``.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.warned: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is meant for a person; a warning is so once."""
        if record.levelno < logging.WARNING:
            return bool(getattr(record, 'terminal', False))
        text = record.getMessage()
        if record.levelno == logging.WARNING and (text in self.warned or text.startswith(ROUTINE)):
            return False
        self.warned.add(text)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        level = f'{record.levelname.capitalize()}: ' if record.levelno >= logging.WARNING else ''
        rich.get_console().print(f'{level}{record.getMessage()}', markup=False, highlight=False, soft_wrap=True)


def replace_terminal_handler(logger: logging.Logger) -> None:
    """Let a logger write to the terminal through :class:`TerminalHandler` only; its files stay as they are."""
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            logger.handlers.remove(handler)
            logger.handlers.append(TerminalHandler(handler.level))


def tell(logger: logging.Logger, line: str) -> None:
    """Write a line to the log and to the terminal."""
    logger.info(line, extra={'terminal': True})


def count(number: int, noun: str) -> str:
    """Return a number with its noun: '1 process', '2 processes', '1,200 frames'."""
    plural = noun if number == 1 else f'{noun}es' if noun.endswith('s') else f'{noun}s'
    return f'{number:,} {plural}'


def duration(seconds: float) -> str:
    """Return a time span for reading: '0:07', '12:30', '3:05:00'."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f'{hours}:{minute:02}:{second:02}' if hours else f'{minute}:{second:02}'


def millions(number: int) -> str:
    """Return a number of parameters for reading: '85.8 M', '24.1 k'."""
    return f'{number / 1e6:.1f} M' if number >= 1e5 else f'{number / 1e3:.1f} k'
