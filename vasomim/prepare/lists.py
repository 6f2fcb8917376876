"""Divide prepared sources into frames to train on and frames held out, patient by patient, as lists for the readers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vasomim.errors import ConfigError, DatasetError
from vasomim.files import read_regular, write_whole
from vasomim.prepare.grouping import split_by_group

FOLDER = 'splits'
SUBSETS = ('train', 'held_out')


def write_lists(
    rows: Sequence[dict[str, str]], root: Path, name: str, share: float, seed: int
) -> dict[str, dict[str, int | str]]:
    """Write lists of a source, ``splits/NAME_{train,held_out}.txt``, and of all sources that have lists.

    The readers take such a file by ``split``, which names frames relative to ``root``.

    Args:
        rows: The manifest of the source.
        root: DST.
        name: Name of the source.
        share: Part of the frames that is held out, in (0, 1); whole patients, or series where no patient is known.
        seed: Another seed, other patients.

    Returns:
        The number of ``frames`` in each list, and the ``sha256`` of the file, by which a change shows.

    Raises:
        ConfigError: If ``share`` is none.
        StorageError: If a list cannot be written.
    """
    if not 0 < share < 1:
        raise ConfigError('--held-out', f'{share:g} is no share that leaves frames to train on.', 'Try 0.05.')
    groups = {row['file']: row['patient'] or row['series'] or row['file'] for row in rows}
    split_of = split_by_group(groups, {'held_out': share}, seed)
    folder = root / FOLDER
    written: dict[str, dict[str, int | str]] = {}
    for subset in SUBSETS:
        names = [f'{name}/{row["file"]}' for row in rows if split_of[row['file']] == subset]
        content = ''.join(f'{line}\n' for line in names).encode()
        write_whole(folder / f'{name}_{subset}.txt', content)
        write_whole(folder / f'{subset}.txt', joined(folder, subset))
        written[subset] = {'frames': len(names), 'sha256': hashlib.sha256(content).hexdigest()}
    return written


def joined(folder: Path, subset: str) -> bytes:
    """Return the lists of all sources, one after the other."""
    return b''.join(read_regular(part, DatasetError) for part in sorted(folder.glob(f'*_{subset}.txt')))
