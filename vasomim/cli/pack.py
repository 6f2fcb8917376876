"""``vasomim pack``: put frames and their anatomy into a few large files that training maps into memory."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.errors import printable
from vasomim.frames.layout import unread_line

SUMMARY = 'Pack frames and anatomy maps into a memory-mapped cache, many times faster to load.'

FAILURES_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        f'{SUMMARY} `vasomim train --data DST` reads it, and so does the dataset PackedAngiograms, with the names, '
        'subsets and pixels of SRC. A run that was stopped continues where it stopped. Frames and maps that have '
        'changed since they were packed are packed again by the same command.'
    )
    add = parser.add_argument
    add('source', metavar='SRC', type=Path, help='XA-170K as published, or any folder of images')
    add('destination', metavar='DST', type=Path, nargs='?', help='folder of the cache (default: SRC.packed)')
    add('--sources', metavar='NAME', nargs='+', help='folders of SRC to pack (default: all that hold frames)')
    maps = parser.add_mutually_exclusive_group()
    maps.add_argument('--anatomy', metavar='FOLDER', type=Path, help='maps of a folder of images (default: SRC_frangi)')
    maps.add_argument('--no-anatomy', action='store_true', help='pack the frames alone')
    add('--size', type=int, metavar='N', help='shorten the longer side to N pixels (default: frames keep their size)')
    add('--shard-size', type=int, default=1024, metavar='MIB', help='size of a file (default: %(default)s)')
    add('--jobs', type=int, help='threads that read (default: one per core)')
    add('--skip-corrupt', action='store_true', help='finish without the frames that cannot be read')
    add('--overwrite', action='store_true', help='pack all frames again')
    add('--verify', action='store_true', help='pack nothing: read DST, or SRC without DST, and compare its checksums')


def run(options: argparse.Namespace) -> int:
    """Pack or verify; return 1 if a frame failed or a checksum differs.

    Raises:
        DatasetError: If there is nothing to pack, or maps are missing.
        StorageError: If the destination cannot be written, or another run packs into it.
        ConfigError: If an option is out of range, or the destination holds something else.
    """
    return verify(options) if options.verify else pack(options)


def pack(options: argparse.Namespace) -> int:
    """Pack; return 1 if a frame failed and was not to be skipped."""
    packed = apis.pack(
        options.source,
        options.destination,
        sources=options.sources,
        anatomy=options.anatomy,
        no_anatomy=options.no_anatomy,
        size=options.size,
        shard_size=options.shard_size,
        jobs=options.jobs,
        skip_corrupt=options.skip_corrupt,
        overwrite=options.overwrite,
        progress=True,
    )
    print(f'{printable(packed.destination)}: {packed.frames} frames, {packed.bytes / 1e9:.2f} GB.')
    if packed.unread:
        print(unread_line(packed.unread))
    if packed.failed:
        left = 'left out' if packed.complete else 'and it is not complete without them: mend them and run this again'
        index = printable(packed.index)
        print(f'{len(packed.failed)} frames could not be packed, {left}. {index} lists them:')
        for why in list(packed.failed.values())[:FAILURES_SHOWN]:
            print(f'  {printable(why)}')
        if not packed.complete:
            print('--skip-corrupt leaves them out.')
    return int(not packed.complete)


def verify(options: argparse.Namespace) -> int:
    """Compare checksums; print what is damaged."""
    root = options.destination or options.source
    found = apis.verify_pack(root, jobs=options.jobs, progress=True)
    for line in found.damaged:
        print(printable(line))
    if not found.complete:
        print(f'{printable(root)}: not complete; the same `vasomim pack` continues it.')
    again = f' {found.cure}' if found.damaged else ''
    print(f'{printable(root)}: {found.files} files, {len(found.damaged)} damaged.{again}')
    return int(bool(found.damaged) or not found.complete)
