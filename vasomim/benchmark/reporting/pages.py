"""Write the leaderboard's pages, or say which differ from what the results give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.reporting.html import html
from vasomim.benchmark.reporting.latex import comma_separated, latex
from vasomim.benchmark.reporting.markdown import Table, found_cells, grid, main_rows, model_card, page, progress
from vasomim.benchmark.reporting.table import build, read_reported
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.schema import LENIENT, Number, checked
from vasomim.benchmark.study.entries import Entries, Protocol
from vasomim.benchmark.study.loading import load_entries, shipped_entries
from vasomim.errors import ConfigError
from vasomim.files import read_json, write_whole

PICTURES = 'pictures'  # Folder beside the pages.


def render(table: Table, pictures: Path | None = None) -> dict[str, str]:
    """Return all pages by file name."""
    pages = {
        'LEADERBOARD.md': page(table),
        'leaderboard.csv': comma_separated(table),
        'leaderboard.tex': latex(table),
        'leaderboard.html': html(table, pictures),
        'leaderboard.json': json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + '\n',
    }
    return pages | {f'cards/{item["name"]}.md': model_card(table, item['name']) for item in table['methods']}


def pages_of(
    store: Store, protocol: Protocol, entries: Entries | None = None, pictures: Path | None = None
) -> dict[str, str]:
    """Return what :func:`write_leaderboard` writes; the same results give the same bytes."""
    entries = load_entries() if entries is None else entries
    reported = read_reported(shipped_entries() / 'reported.yaml')
    return render(build(store, protocol, entries, reported).as_dict(), pictures)


def write_leaderboard(
    store: Store,
    folder: str | Path,
    protocol: Protocol,
    entries: Entries | None = None,
    pictures: Path | None = None,
) -> list[Path]:
    """Write LEADERBOARD.md, CSV, LaTeX, HTML, JSON and model cards.

    Args:
        store: The results.
        folder: Where the pages go.
        protocol: The study.
        entries: Titles and metrics; None reads the project's.
        pictures: Folder of PNG files that the HTML page shows; None for ``pictures/`` in the folder of the pages.

    Returns:
        The files.

    Raises:
        StoreError: If a result is damaged.
        StorageError: If a page cannot be written.
    """
    paths = []
    for name, text in pages_of(store, protocol, entries, pictures or Path(folder) / PICTURES).items():
        paths.append(Path(folder) / name)
        write_whole(paths[-1], text)
    return paths


@LENIENT
class Named(TypedDict):
    """A task or a method of the pages."""

    name: str


@LENIENT
class Shown(TypedDict):
    """What leaderboard.json says that the pages show."""

    protocol: str
    tasks: list[Named]
    methods: list[Named]
    seeds: list[int]
    fractions: list[Number]


SHOWN = TypeAdapter(Shown)


def shown_in(folder: Path) -> tuple[str, list[set[Any]]] | None:
    """Return the study that a folder's pages show, and its tasks, methods, seeds and shares; None without pages.

    Raises:
        ConfigError: If their file is damaged.
    """
    path = folder / 'leaderboard.json'
    if not path.is_file():
        return None
    cure = 'Delete it, or name another folder by --output.'
    found = checked(SHOWN, read_json(path, ConfigError, cure), path, ConfigError, cure)
    names = [{item['name'] for item in found[key]} for key in ('tasks', 'methods')]
    return found['protocol'], [*names, set(found['seeds']), set(found['fractions'])]


def check_pages(folder: Path, protocol: Protocol) -> None:
    """Check that a folder holds no pages of another study, or of more of this one.

    Raises:
        ConfigError: If it does.
    """
    shown = shown_in(folder)
    if shown is None:
        return
    there, more_of = shown
    chosen = (protocol.tasks, protocol.methods, protocol.seeds, protocol.label_fractions)
    if protocol.whole is not None and any(more - set(less) for more, less in zip(more_of, chosen, strict=True)):
        raise ConfigError(
            folder, 'it holds pages of more than this part of the study.', 'Name another folder by --output.'
        )
    if there != protocol.name:
        raise ConfigError(
            folder,
            f"it holds the pages of study '{there}', which those of '{protocol.name}' would overwrite.",
            'Name another folder by --output, or the study by --protocol.',
        )


def check_leaderboard(
    store: Store,
    folder: str | Path,
    protocol: Protocol,
    entries: Entries | None = None,
    pictures: Path | None = None,
) -> list[Path]:
    """Return the pages in a folder that are missing or differ from what the results give."""
    differing = []
    for name, text in pages_of(store, protocol, entries, pictures or Path(folder) / PICTURES).items():
        path = Path(folder) / name
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            differing.append(path)
    return differing


def markers(study: str) -> tuple[str, str]:
    """Return the lines between which a text holds the main table of a study."""
    return f'<!-- leaderboard {study}: begin -->', f'<!-- leaderboard {study}: end -->'


def with_table(readme: str, table: Table, where: str | Path = 'README.md') -> str:
    """Return a text with the main table between its study's markers, or with what runs it where there is no result yet.

    Raises:
        ConfigError: If the markers are not there once each.
    """
    begin, end = markers(table['protocol'])
    if readme.count(begin) != 1 or readme.count(end) != 1 or readme.index(begin) > readme.index(end):
        raise ConfigError(where, 'the place of the table is not marked.', f'Write {begin} and {end} on lines.')
    head, rest = readme.split(begin)
    shown = grid(*main_rows(table)) if found_cells(table)[0] else f'{progress(table)}\n'
    return f'{head}{begin}\n{shown}{end}{rest.split(end)[1]}'
