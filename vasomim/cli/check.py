"""``vasomim check``: prepared sets, labelled or to pre-train on, and what leaks between them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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
    from vasomim.cli.prepare import progress
    from vasomim.cores import cores
    from vasomim.errors import ConfigError, printable
    from vasomim.files import write_whole
    from vasomim.frames.layout import existing_folder
    from vasomim.prepare import check
    from vasomim.prepare.pool_check import check_joined_lists, check_source, source_names

    if not 0 < options.threshold < 1:
        raise ConfigError('--threshold', f'{options.threshold} is no correlation of duplicates.', 'Try 0.97.')
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError('--jobs', f'{options.jobs} processes cannot work.', 'Name at least 1, or leave it out.')
    findings = check.Findings()
    opened = []
    given = [existing_folder(path) for path in options.sets]
    labelled = [root for root in given if not source_names(root)]
    for name, wanted in (('--against', options.against), ('--write-exclusions', options.write_exclusions)):
        if wanted and not labelled:
            what = 'there is no labelled set among DST to compare with.'
            raise ConfigError(name, what, 'Name one that `vasomim prepare downstream` made, as a DST.')
    pools = [(root, name) for root in given for name in source_names(root)]
    for root, name in pools:
        with progress(f'Reading {name}') as report:
            check_source(root, name, findings, options.deep, options.partial, options.jobs or cores(), report)
    for root in dict(pools):
        check_joined_lists(root, findings)
    for root in (found for folder in labelled for found in sets_in(folder)):
        with progress(f'Reading {root.name}') as report:
            prepared = check.check_set(root, findings, options.partial, report)
        if prepared is not None:
            opened.append(prepared)
    if opened and not findings.errors:  # Damaged frames cannot be compared.
        with progress('Comparing frames') as report:
            gallery = check.gather(opened, report)
        pairs = check.find_similar(gallery, options.threshold)
        content = check.exclusions(gallery, pairs, options.threshold)
        check.check_leaks(gallery, pairs, content['exclude'], findings)
        for corpus in options.against:
            with progress(f'Comparing {corpus.name}') as report:
                check.check_corpus(existing_folder(corpus), gallery, options.threshold, findings, report)
        if options.write_exclusions is not None:
            write_whole(options.write_exclusions, json.dumps(content, indent=1))
            print(f'{printable(options.write_exclusions)}: {len(content["exclude"])} frames to leave out of training.')
    elif options.write_exclusions or options.against:
        findings.notes.append('frames were not compared, because of the errors.')
    for title, lines in (('note', findings.notes), ('warning', findings.warnings), ('ERROR', findings.errors)):
        for line in lines:
            print(f'{title}: {printable(line, lines=True)}')
    numbers = {'error': len(findings.errors), 'warning': len(findings.warnings), 'set': len(opened) + len(pools)}
    errors, warnings, sets = (f'{number} {name}{"s" * (number != 1)}' for name, number in numbers.items())
    print(f'{errors}, {warnings} in {sets}.')
    return int(bool(findings.errors))


def sets_in(folder: Path) -> list[Path]:
    """Return the prepared sets in a folder that is none itself, or the folder."""
    from vasomim.prepare.prepared import DESCRIPTION

    below = sorted(path.parent for path in folder.glob(f'*/{DESCRIPTION}'))
    return below if below and not (folder / DESCRIPTION).is_file() else [folder]
