"""Names of files as they come: any bytes but two, and one umlaut in two spellings."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.frames.layout import composed


def refuse_unlistable(names: Iterable[str], root: str | Path) -> None:
    """Refuse names that no list of a name a line can hold: with line breaks, or of bytes that are not UTF-8.

    Args:
        names: Paths of frames relative to ``root``.
        root: Where they lie, for the error.

    Raises:
        DatasetError: If there is one.
    """
    wrong = [name for name in names if not is_listable(name)]
    if wrong:
        what = f'{len(wrong)} names hold a line break, or bytes that are not UTF-8 (first: {wrong[0]}).'
        raise DatasetError(root, what, 'Rename these files: `ls -b` shows what is in their names.')


def is_listable(name: str) -> bool:
    """Return whether a name can stand in a list of a name a line."""
    if name.isascii() and name.isprintable():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name.splitlines() == [name]


def other_spellings(wanted: Iterable[str], here: Collection[str]) -> dict[str, str]:
    """Find names that are there under another spelling of their accents.

    Args:
        wanted: Names that are not in ``here``.
        here: The names that there are, without those that stand for something else already.

    Returns:
        The spelling in ``here`` of those that have exactly one.
    """
    spellings: dict[str, list[str]] = {}
    for name in here:
        if not name.isascii():
            spellings.setdefault(composed(name), []).append(name)
    found = {name: spellings.get(composed(name), []) for name in wanted if not name.isascii()}
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def on_disk(path: Path) -> Path:
    """Return a file's path as its folder spells its name; as it was given where no file is called so."""
    if path.name.isascii() or path.is_file() or not path.parent.is_dir():
        return path
    return path.with_name(other_spellings([path.name], os.listdir(path.parent)).get(path.name, path.name))
