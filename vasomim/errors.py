"""Errors that say where something is wrong, what is wrong and how to mend it."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

CURES = {  # What to do about what the operating system says, for a file that is to be written.
    errno.ENOSPC: 'Free some space on its disk, or choose a place on another.',
    errno.EDQUOT: 'Your quota on its disk is used up: delete files of yours, or choose another place.',
    errno.EROFS: 'Its file system is read-only: choose another place.',
    errno.EACCES: 'Choose a place that you may write to, or have its permissions changed.',
    errno.EPERM: 'Choose a place that you may write to, or have its permissions changed.',
    errno.ENAMETOOLONG: 'Choose a shorter name, or a place with a shorter path.',
    errno.EMFILE: 'Too many files are open: raise the limit (ulimit -n 4096), or use fewer workers.',
    errno.ENFILE: 'Too many files are open on this machine: end other programs, or use fewer workers.',
    errno.ENOTDIR: 'A part of its path is a file: choose another place.',
    errno.EISDIR: 'It is a folder: name a file.',
    errno.ENOENT: 'Check the path.',
    errno.EEXIST: 'A part of its path is a file: choose another place.',
}


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
        return f'{printable(self.where)}: {printable(self.what)}\n  {printable(self.cure, lines=True)}'


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


class StorageError(VasoMIMError):
    """A file or folder cannot be written, or another process is writing there."""

    @classmethod
    def of(cls, path: str | Path, error: OSError) -> StorageError:
        """Return the error for what the operating system says of a file that is to be written.

        Args:
            path: The file.
            error: What was raised; of its subclasses and causes the first with a number counts.
        """
        reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
        cure = CURES.get(error.errno or 0, 'Check the disk, and choose another place if it fails again.')
        return cls(path, f'it cannot be written: {reason}.', cure)


def printable(text: object, lines: bool = False) -> str:
    r"""Return a text with which no terminal, log or picture has trouble.

    Names of files may hold any byte but two: those that are not UTF-8, line breaks, escape sequences of terminals and
    marks that turn the direction of writing are written as ``\x..`` or ``\u....``.

    Args:
        text: What is to be shown.
        lines: Whether line breaks in it are meant.
    """
    if (plain := str(text)).isprintable():
        return plain
    shown = []
    for character in plain:
        if character.isprintable() or (lines and character == '\n'):
            shown.append(character)
        elif '\udc80' <= character <= '\udcff':  # How Python keeps a byte that is not UTF-8.
            shown.append(f'\\x{ord(character) - 0xDC00:02x}')
        else:
            shown.append(character.encode('unicode_escape').decode())
    return ''.join(shown)


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
