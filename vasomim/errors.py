"""Errors that say where something is wrong, what is wrong and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class VasoMIMError(Exception):
    """An error that its reader can mend; the command line prints it without a traceback.

    Args:
        where: The file, folder, option or configuration key at fault.
        what: What is wrong there.
        cure: What to do about it.
    """

    def __init__(self, where: str | Path, what: str, cure: str) -> None:
        super().__init__(where, what, cure)  # All three, so that the error survives pickling in a worker process.
        self.where = where
        self.what = what
        self.cure = cure

    def __str__(self) -> str:
        return f'{self.where}: {self.what}\n  {self.cure}'


class DatasetError(VasoMIMError):
    """Data on disk is missing, damaged or laid out differently than its reader expects."""


class ConfigError(VasoMIMError):
    """A configuration or a command-line option is wrong."""


class CheckpointError(VasoMIMError):
    """A checkpoint cannot be read or does not fit the model."""


class TrainingError(VasoMIMError):
    """Training has gone wrong, for instance a loss that is no longer finite."""


class StackError(VasoMIMError):
    """The installed libraries lack something that is needed."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Suggest the choice that resembles a misspelled name most.

    Args:
        name: The name that was not found.
        choices: The names that exist.

    Returns:
        ``" Did you mean 'x'?"`` with its leading blank, or the empty string where nothing resembles the name.
    """
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ''
