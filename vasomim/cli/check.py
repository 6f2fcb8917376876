"""``vasomim check``: prepared sets, labelled or to pre-train on, and what leaks between them."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.errors import printable

SUMMARY = 'Check prepared data: files, counts, masks, boxes, anatomy maps, grey levels, duplicates across splits.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f'{SUMMARY} The exit status is 1 if there is an error; warnings are listed.'
    add = parser.add_argument
    add(
        'sets',
        metavar='DST',
        type=Path,
        nargs='+',
        help='prepared set, a folder of them such as arcade, or of sources to pre-train on',
    )
    add('--against', metavar='FOLDER', type=Path, action='append', default=[], help='frames to pre-train on')
    add('--deep', action='store_true', help='compare frames to pre-train on with the SHA-256 of their manifest')
    add('--jobs', type=int, help='processes that read frames to pre-train on (default: one per core)')
    add('--partial', action='store_true', help='the sets are parts of the published ones: leave their counts out')
    add('--threshold', type=float, default=0.97, help='correlation of near-duplicates (default: %(default)s)')
    add(
        '--write-exclusions',
        metavar='FILE',
        type=Path,
        help="JSON with near-duplicates and the training frames to leave out, for the readers' exclude=FILE",
    )


def run(options: argparse.Namespace) -> int:
    """Check, print, and return 1 if there is an error.

    Raises:
        DatasetError: If a folder does not exist.
        StorageError: If the list cannot be written.
        ConfigError: If the threshold is out of range, or frames are to be compared with no labelled set.
    """
    found = apis.check(
        options.sets,
        against=options.against,
        deep=options.deep,
        jobs=options.jobs,
        partial=options.partial,
        threshold=options.threshold,
        write_exclusions=options.write_exclusions,
        progress=True,
    )
    if found.excluded is not None:
        print(f'{printable(options.write_exclusions)}: {found.excluded} frames to leave out of training.')
    for title, lines in (('note', found.notes), ('warning', found.warnings), ('ERROR', found.errors)):
        for line in lines:
            print(f'{title}: {printable(line, lines=True)}')
    numbers = {'error': len(found.errors), 'warning': len(found.warnings), 'set': found.sets}
    errors, warnings, sets = (f'{number} {name}{"s" * (number != 1)}' for name, number in numbers.items())
    print(f'{errors}, {warnings} in {sets}.')
    return int(bool(found.errors))
