"""Which of the frames found are used: those of a list, those to train on, those held out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.files import read_text
from vasomim.frames.layout import composed, held_out_start

SUBSETS = ('all', 'train', 'held_out')


def choose_subset(names: list[str], subset: str, held_out: float) -> list[str]:
    """Return the frames of one source that belong to a subset.

    Args:
        names: Frames, cine series by cine series.
        subset: 'all', 'train' or 'held_out'.
        held_out: Share at the end that is held out; see :func:`vasomim.frames.layout.held_out_start`.
    """
    if subset == 'all' or not names:
        return names
    start = held_out_start(names, held_out)
    return names[:start] if subset == 'train' else names[start:]


def restrict(
    found: dict[str, list[str]], split: str | Path, root: str | Path, others: Collection[str] = ()
) -> dict[str, list[str]]:
    """Keep the frames that a text file lists.

    Args:
        found: Frames relative to ``root``, by source.
        split: The file: one frame a line, relative to ``root``; blank lines and those that begin with # are comments.
        root: Folder of the data.
        others: Frames in sources that are not used, where they are not files below ``root``.

    Returns:
        As ``found``, in its order. Frames in other sources of ``root`` than those found may be listed; they stay out.

    Raises:
        DatasetError: If the file cannot be read, lists no frame, lists some twice, or some that do not exist.
    """
    text = read_text(Path(split).expanduser(), DatasetError, 'Name a text file, one frame a line, as UTF-8.')
    lines = [composed(line.strip()) for line in text.splitlines()]
    listed = Counter(line for line in lines if line and not line.startswith('#'))
    if not listed:
        raise DatasetError(split, 'this list holds no frame.', f'Write one frame a line, relative to {root}.')
    twice = [name for name, times in listed.items() if times > 1]
    if twice:
        what = f'{len(twice)} of {len(listed)} frames stand there more than once (first: {twice[0]}).'
        raise DatasetError(split, what, 'List each of them once.')
    here = {composed(name) for frames in found.values() for name in frames} | {composed(name) for name in others}
    missing = [name for name in listed if name not in here and not in_other_source(name, found, Path(root))]
    if missing:
        what = f'{len(missing)} of {len(listed)} frames are missing on disk (first: {missing[0]}).'
        raise DatasetError(split, what, f'Correct the list, whose names are relative to {root}, or add the frames.')
    return {source: [name for name in frames if composed(name) in listed] for source, frames in found.items()}


def in_other_source(name: str, found: dict[str, list[str]], root: Path) -> bool:
    """Return whether a frame exists, in a source that is not used."""
    if '.' in found or name.partition('/')[0] in found:
        return False
    return any((root / unicodedata.normalize(form, name)).is_file() for form in ('NFC', 'NFD'))
