"""Read entries: files of the project, of a user, or of another package.

A file holds lists under ``tasks``, ``methods`` and ``protocols``, or a single entry, known by its folder. Another
package adds its own by an entry point of the group ``vasomim.benchmark``: a path, or a list of paths.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import vasomim
from vasomim.benchmark.schema import (
    adapter_of,
    checked,
    shortened,
)
from vasomim.benchmark.study.checks import CHECKS
from vasomim.benchmark.study.entries import (
    Entries,
    Family,
    FinetuningOptions,
    LeftOut,
    Method,
    PretrainingOptions,
    Protocol,
    Simulated,
    Task,
)
from vasomim.benchmark.study.entry_files import read_yaml
from vasomim.errors import ConfigError, did_you_mean

GROUP = 'vasomim.benchmark'


NOT_WRITTEN = ('origin', 'whole', 'changes')  # What an entry's file does not say.


FOLDERS: dict[str, Any] = {'tasks': Task, 'methods': Method, 'protocols': Protocol}


def benchmark_folder() -> Path:
    """Return the folder of results and of the leaderboard: ``benchmark`` of a checkout, else of the present folder."""
    checkout = Path(vasomim.__file__).parents[1] / 'benchmark'
    return checkout if (checkout / 'tasks').is_dir() else Path('benchmark')


def shipped_entries() -> Path:
    """Return the folder of the project's own entries: that of a checkout, else the package's copy."""
    folder = benchmark_folder()
    return folder if (folder / 'tasks').is_dir() else Path(vasomim.__file__).parent / '.mim' / 'benchmark'


def load_entries(sources: Iterable[str | Path] = (), own: Path | None = None) -> Entries:
    """Read the project's entries, those of installed packages, and a user's own.

    Args:
        sources: Further files, or folders that hold ``tasks``, ``methods`` and ``protocols``.
        own: Folder of the project's entries; None finds it.

    Raises:
        ConfigError: If a file or an entry is wrong, or two entries share a name.
    """
    found: dict[str, dict[str, Any]] = {kind: {} for kind in FOLDERS}
    own = shipped_entries() if own is None else own
    installed = [Path(path) for point in importlib.metadata.entry_points(group=GROUP) for path in as_list(point.load())]
    places = [*([own] if own.is_dir() else []), *installed, *(Path(source) for source in sources)]
    for file, kind in (pair for place in places for pair in files_of(place)):
        for section, content in entries_of(file, kind):
            entry = parse(section, content, file)
            if entry.name in found[section]:
                other = found[section][entry.name].origin
                raise ConfigError(
                    file, f"the {section[:-1]} '{entry.name}' is in {other} already.", 'Give it another name.'
                )
            found[section][entry.name] = entry
    return Entries(**found)


def as_list(value: Any) -> list[Any]:
    """Return a list, or one thing as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def files_of(place: Path) -> list[tuple[Path, str | None]]:
    """Return YAML files with what their entries are where a folder says it.

    Raises:
        ConfigError: If there is no such file or folder.
    """
    if place.is_dir():
        return [(file, kind) for kind in FOLDERS for file in sorted((place / kind).glob('*.yaml'))]
    if not place.is_file():
        raise ConfigError(
            place, 'there is no such file of entries.', 'Pass a YAML file, or a folder with tasks/ in it.'
        )
    return [(place, None)]


def entries_of(file: Path, kind: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the raw entries of a file with their sections.

    Raises:
        ConfigError: If the file is no YAML, names a key twice, or holds something else than entries.
    """
    content = read_yaml(file)
    if kind is not None and isinstance(content, Mapping) and 'name' in content:
        return [(kind, content)]
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(file, 'it holds no entries.', f'Write lists under {", ".join(FOLDERS)}.')
    for key, value in content.items():
        if key not in FOLDERS:
            raise ConfigError(
                f'{file}: {key}', f'no such section.{did_you_mean(str(key), FOLDERS)}', f'Use {", ".join(FOLDERS)}.'
            )
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise ConfigError(f'{file}: {key}', 'it is no list of entries.', 'Begin each entry with "- name: ...".')
    return [(section, item) for section, items in content.items() for item in items]


ADAPTERS = {section: adapter_of(kind, NOT_WRITTEN) for section, kind in FOLDERS.items()}


KNOWN: dict[str, Any] = {  # Keys by section of an entry and of the parts in it.
    section: {'': [item.name for item in fields(kind) if item.name not in NOT_WRITTEN]}
    for section, kind in FOLDERS.items()
}


KNOWN['protocols'] |= {
    'pretraining': list(PretrainingOptions.__annotations__),
    'finetuning': list(FinetuningOptions.__annotations__),
    'family': list(Family.__annotations__),
    'synthetic': list(Simulated.__annotations__),
    'left_out': list(LeftOut.__annotations__),
}


def parse(section: str, content: Mapping[str, Any], file: Path) -> Any:
    """Build an entry from what YAML gave.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of another type.
    """
    name = content.get('name')
    where = f'{file}: {section[:-1]} {"without a name" if name is None else shortened(name, quoted=False)}'
    values = checked(ADAPTERS[section], dict(content), where, ConfigError, 'Correct it.', KNOWN[section])
    entry = FOLDERS[section](**values, origin=str(file))
    CHECKS[section](entry, where)
    return entry
