"""``vasomim extract``: make the anatomy maps of a folder of angiograms, on all cores."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.anatomy import FILTERS
from vasomim.anatomy.extraction import BORDER
from vasomim.apis.extracting import REPORT_FILE, ExtractedFolder
from vasomim.errors import ConfigError, printable
from vasomim.frames.layout import ANATOMY_SUFFIX, SETTINGS_FILE, unread_line

SUMMARY = 'Extract vessel anatomy from a folder of angiograms, without labels.'

FAILURES_SHOWN = 10


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
        StorageError: If the destination cannot be written, or another extraction writes there.
    """
    done = apis.extract(
        options.source,
        options.destination,
        filter=options.filter,
        sigmas=options.sigmas,
        percentile=options.percentile,
        border=options.border,
        suffix=options.suffix,
        jobs=options.jobs,
        overwrite=options.overwrite,
        progress=True,
        finished=show,
    )
    return int(done.failed > 0)


def parse_sigmas(text: str) -> list[float]:
    """Return the numbers of a comma-separated list.

    Raises:
        ConfigError: If one of them is not a number.
    """
    try:
        return [float(part) for part in text.split(',')]
    except ValueError as error:
        raise ConfigError('--sigmas', f"'{text}' is not a list of numbers.", 'Write it like 1,2,3,4.') from error


def show(folder: ExtractedFolder) -> None:
    """Print what came of a folder."""
    if not folder.recorded:
        show_unrecorded(folder.destination, folder.settings.filter)
    report = printable(folder.destination / REPORT_FILE)
    counts = f'{folder.made} maps made, {folder.kept} there already, {len(folder.failed)} frames failed.'
    print(f'{printable(folder.destination)}: {counts}')
    if folder.broken:
        name, fault = (printable(text) for text in next(iter(folder.broken.items())))
        what = f'{len(folder.broken)} maps were broken, and are made again if their frame is sound'
        print(f'{what} (first: {name}, {fault})')
    if folder.empty:
        print(f'{len(folder.empty)} new maps hold no vessel; {report} lists them.')
    for name, error in list(folder.failed.items())[:FAILURES_SHOWN]:
        print(f'  {printable(folder.source)}/{printable(name)}: {printable(error)}')
    if len(folder.failed) > FAILURES_SHOWN:
        print(f'  and {len(folder.failed) - FAILURES_SHOWN} more, listed in {report}.')
    if folder.unread:
        print(unread_line(folder.unread))


def show_unrecorded(maps: Path, filter: str) -> None:
    """Print that a folder does not say how its maps were made."""
    print(
        f'{printable(maps)} holds maps, but no {SETTINGS_FILE} that says how they were made: they are kept, '
        f'and missing or broken ones are made with the {filter} filter.'
    )
