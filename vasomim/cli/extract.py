"""``vasomim extract``: make the anatomy maps of a folder of angiograms, on all cores."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vasomim.anatomy import FILTERS, extract_anatomy
from vasomim.anatomy.extraction import BORDER
from vasomim.cores import cores
from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.files import LOCK, locked, read_json, write_whole
from vasomim.frames.layout import (
    ANATOMY_SUFFIX,
    SETTINGS_FILE,
    existing_folder,
    list_folder,
    map_names,
    maps_beside,
    merged_sources,
    unread_line,
)
from vasomim.prepare.anatomy_maps import Outcome, Settings, Task, extract_all

SUMMARY = 'Extract vessel anatomy from a folder of angiograms, without labels.'

REPORT_FILE = 'extract_report.json'
SECONDS_BETWEEN_LINES = 30.0
FAILURES_SHOWN = 10
AGAIN = 'Name another DST, or make its maps again: `vasomim extract FRAMES MAPS --filter NAME --overwrite`.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        f'{SUMMARY} A run that was stopped continues where it stopped: maps that are there are kept, and broken ones '
        "among them (unreadable, not of two values, not of their frame's size) are made again, as they were made if no "
        'filter or other setting is given. What failed and why is '
        f'printed and stands in DST/{REPORT_FILE}; the exit status is 1 then.'
    )
    widths = '; '.join(f'{name} {",".join(f"{sigma:g}" for sigma in own.sigmas)}' for name, own in FILTERS.items())
    percentiles = ', '.join(f'{name} {own.percentile:g}' for name, own in FILTERS.items())
    add = parser.add_argument
    add('source', metavar='SRC', type=Path, help='folder of images, with sub-folders or without')
    add(
        'destination',
        metavar='DST',
        type=Path,
        nargs='?',
        help='where the maps go: PNG files of 0 and 255 in the same tree of names. Without it, beside SRC with the '
        'suffix; if SRC is the root of XA-170K, beside each of its sources',
    )
    add(
        '--filter',
        choices=sorted(FILTERS),
        help="sato as the released code, frangi as the paper says, or contrast, this project's own, which agrees "
        'better with the labelled vessels (default: that of the maps at DST, otherwise sato)',
    )
    add(
        '--sigmas',
        metavar='S,S,...',
        type=parse_sigmas,
        help=f"vessel half-widths in pixels (default: the filter's own, {widths})",
    )
    add(
        '--percentile',
        type=float,
        help=f"threshold on the vesselness, in percent of the pixels (default: the filter's own, {percentiles})",
    )
    add('--border', type=int, help=f'pixels at the edge that are never vessel (default: {BORDER})')
    add('--suffix', default=ANATOMY_SUFFIX, help='ending of folders with anatomy maps (default: %(default)s)')
    add('--jobs', type=int, help='processes (default: one per core)')
    add('--overwrite', action='store_true', help='make all maps again, the sound ones among those there too')


def run(options: argparse.Namespace) -> int:
    """Extract, and return 1 if any frame failed.

    Raises:
        DatasetError: If there is nothing to extract from, or the destination cannot take the maps.
        ConfigError: If an option is out of range, or the destination holds maps made with other settings.
    """
    given = (options.filter, options.sigmas, options.percentile, options.border)
    settings = Settings.of(*given)
    check(settings, options.jobs)
    changed = any(value is not None for value in given)
    failed = [
        extract_folder(source, destination, settings if changed else recorded(destination) or settings, options)
        for source, destination in folders(options.source, options.destination, options.suffix)
    ]
    return int(any(failed))


def parse_sigmas(text: str) -> list[float]:
    """Return the numbers of a comma-separated list.

    Raises:
        ConfigError: If one of them is not a number.
    """
    try:
        return [float(part) for part in text.split(',')]
    except ValueError as error:
        raise ConfigError('--sigmas', f"'{text}' is not a list of numbers.", 'Write it like 1,2,3,4.') from error


def check(settings: Settings, jobs: int | None) -> None:
    """Refuse settings before thousands of frames fail on them.

    Raises:
        ConfigError: If one is out of range.
    """
    try:
        extract_anatomy(np.zeros((1, 1), np.uint8), **asdict(settings))
    except ValueError as error:
        raise ConfigError('options', str(error), '`vasomim extract --help` shows the defaults.') from error
    if jobs is not None and jobs < 1:
        raise ConfigError('--jobs', f'{jobs} processes cannot work.', 'Name at least 1, or leave it out for all cores.')


def folders(source: Path, destination: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Pair folders of frames with the folders of their maps.

    Raises:
        DatasetError: If ``source`` is not a folder, or is its own destination.
        ConfigError: If the destination follows from the suffix and that is empty.
    """
    source = existing_folder(source)
    if destination is None:
        if not suffix:
            raise ConfigError('--suffix', 'with an empty one the maps would overwrite the frames.', 'Name DST.')
        pairs = [(source / name, source / f'{name}{suffix}') for name in merged_sources(source, suffix)]
        return pairs or [(source.resolve(), maps_beside(source, suffix))]
    if destination.resolve() == source.resolve():
        raise DatasetError(destination, 'maps here would overwrite the frames.', 'Name another folder for the maps.')
    return [(source, destination)]


def extract_folder(source: Path, destination: Path, settings: Settings, options: argparse.Namespace) -> int:
    """Make the maps of one folder that are not there yet or broken, and report.

    Returns:
        The number of frames that failed.

    Raises:
        DatasetError: If there are no frames.
        ConfigError: If the destination holds maps made with other settings.
        StorageError: If it cannot be written, or another extraction writes there.
    """
    tasks, unread = plan(source, destination, options.suffix)
    busy = 'another `vasomim extract` writes here.'
    with locked(destination / LOCK, busy, 'Wait until it has ended; the same command then continues.', keep=False):
        done = [task for task in tasks if task.target.exists()]
        if options.overwrite:
            for task in done:  # Before the settings change, so that a stop in between leaves no mixture behind.
                task.target.unlink()
            done = []
        claim(destination, settings, has_maps=bool(done), overwrite=options.overwrite)
        made = show_progress(source.name, extract_all(tasks, settings, options.jobs or cores()), len(tasks))
        outcomes = list(made)
        report(source, destination, settings, outcomes)
        if unread:
            print(unread_line(unread))
    return sum(bool(outcome.error) for outcome in outcomes)


def plan(source: Path, destination: Path, suffix: str) -> tuple[list[Task], list[str]]:
    """List the frames with their maps, and the pictures that are not read; a destination inside the source holds none.

    Raises:
        DatasetError: If there are no frames, or two would share one map.
    """
    found = list_folder(source, suffix, without=destination)
    named = map_names(found.images, source)
    return [Task(name, source / name, destination / target) for name, target in named.items()], found.unread


def recorded(destination: Path) -> Settings | None:
    """Return the settings that the maps of a folder were made with; None where it does not say.

    Raises:
        ConfigError: If what it says cannot be read.
    """
    path = destination / SETTINGS_FILE
    if not path.exists():
        return None
    content = read_json(path, ConfigError, AGAIN)
    try:
        found = Settings(**content)
        extract_anatomy(np.zeros((1, 1), np.uint8), **asdict(found))
    except (ValueError, TypeError) as error:
        raise ConfigError(path, f'no settings of an extraction: {error}.', AGAIN) from error
    return found


def claim(destination: Path, settings: Settings, has_maps: bool, overwrite: bool) -> None:
    """Record the settings at the destination, or compare them with those recorded there.

    Where maps lie without a record, as in a published set, they are kept, and nothing is recorded, as the settings of
    the missing ones need not be theirs.

    Raises:
        ConfigError: If the maps there were made with other settings.
    """
    path = destination / SETTINGS_FILE
    wanted = asdict(settings)
    if path.exists() and not overwrite:
        found = recorded(destination)
        if found is not None and found != settings:
            there = asdict(found)
            changed = [f'{key} {there[key]} instead of {wanted[key]}' for key in wanted if there[key] != wanted[key]]
            raise ConfigError(destination, f'its maps were made with {", ".join(changed)}.', AGAIN)
    elif has_maps and not overwrite:
        print(
            f'{printable(destination)} holds maps, but no {SETTINGS_FILE} that says how they were made: they are kept, '
            f'and missing or broken ones are made with the {settings.filter} filter.'
        )
        return
    write_whole(path, json.dumps(wanted, indent=2))


def show_progress(title: str, outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    """Pass the outcomes on under a bar with rate and time left; without a terminal, print a line now and then."""
    console = Console()
    rate_column = TextColumn('{task.fields[rate]:.1f} frames/s')
    name_column = TextColumn('{task.description}', markup=False)  # Brackets in a folder's name are no colours.
    columns = (name_column, BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn())
    start = said = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=total, rate=0.0)
        for number, outcome in enumerate(outcomes, start=1):
            now = time.monotonic()
            rate = number / max(now - start, 1e-6)
            progress.update(bar, advance=1, rate=rate)
            if not console.is_terminal and now - said > SECONDS_BETWEEN_LINES:
                said = now
                left = (total - number) / rate
                print(f'{title}: {number} of {total} frames, {rate:.1f} frames/s, {left:.0f} s left', flush=True)
            yield outcome


def report(source: Path, destination: Path, settings: Settings, outcomes: Sequence[Outcome]) -> None:
    """Print what happened, and write it to the destination."""
    ordered = [(printable(outcome.name), outcome) for outcome in sorted(outcomes, key=lambda each: each.name)]
    failed = {name: printable(outcome.error) for name, outcome in ordered if outcome.error}
    empty = [name for name, outcome in ordered if outcome.empty]
    kept = sum(outcome.kept for outcome in outcomes)
    broken = {name: printable(outcome.broken) for name, outcome in ordered if outcome.broken}
    made = len(outcomes) - len(failed) - kept
    content = {
        'source': printable(source),
        'settings': asdict(settings),
        'made': made,
        'already_there': kept,
        'broken': broken,
        'failed': failed,
        'made_without_vessel': empty,
    }
    write_whole(destination / REPORT_FILE, json.dumps(content, indent=2))
    print(f'{printable(destination)}: {made} maps made, {kept} there already, {len(failed)} frames failed.')
    if broken:
        first, fault = next(iter(broken.items()))
        print(f'{len(broken)} maps were broken, and are made again if their frame is sound (first: {first}, {fault})')
    if empty:
        print(f'{len(empty)} new maps hold no vessel; {printable(destination / REPORT_FILE)} lists them.')
    for name, error in list(failed.items())[:FAILURES_SHOWN]:
        print(f'  {printable(source)}/{name}: {error}')
    if len(failed) > FAILURES_SHOWN:
        print(f'  and {len(failed) - FAILURES_SHOWN} more, listed in {printable(destination / REPORT_FILE)}.')
