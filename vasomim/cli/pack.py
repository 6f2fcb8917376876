"""``vasomim pack``: put frames and their anatomy into a few large files that training maps into memory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vasomim.errors import printable

if TYPE_CHECKING:
    from vasomim.data.packing import Source

SUMMARY = 'Pack frames and anatomy maps into a memory-mapped cache, many times faster to load.'

SUFFIX = '.packed'
SHARD_MIB = 1024
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
    add('destination', metavar='DST', type=Path, nargs='?', help=f'folder of the cache (default: SRC{SUFFIX})')
    add('--sources', metavar='NAME', nargs='+', help='folders of SRC to pack (default: all that hold frames)')
    maps = parser.add_mutually_exclusive_group()
    maps.add_argument('--anatomy', metavar='FOLDER', type=Path, help='maps of a folder of images (default: SRC_frangi)')
    maps.add_argument('--no-anatomy', action='store_true', help='pack the frames alone')
    add('--size', type=int, metavar='N', help='shorten the longer side to N pixels (default: frames keep their size)')
    add('--shard-size', type=int, default=SHARD_MIB, metavar='MIB', help='size of a file (default: %(default)s)')
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
    from vasomim.cores import cores
    from vasomim.errors import ConfigError

    for name, value in {'--jobs': options.jobs, '--size': options.size, '--shard-size': options.shard_size}.items():
        if value is not None and value < 1:
            raise ConfigError(name, f'{value} is too small.', 'Name at least 1, or leave it out.')
    jobs = options.jobs or cores()
    if options.verify:
        return verify(options.destination or options.source, jobs)
    return pack_folder(options, jobs)


def pack_folder(options: argparse.Namespace, jobs: int) -> int:
    """Pack; return 1 if a frame failed and was not to be skipped."""
    from vasomim.cli.prepare import progress
    from vasomim.data.pack_format import INDEX, Index, shard_name
    from vasomim.data.packing import pack
    from vasomim.errors import ConfigError, DatasetError
    from vasomim.files import LOCK, locked
    from vasomim.frames.layout import existing_folder, unread_line

    root = existing_folder(options.source)
    destination = options.destination or root.resolve().with_name(root.resolve().name + SUFFIX)
    if destination.exists() and not (destination / INDEX).exists():
        ours = ('shard_', f'.{INDEX}.', LOCK)  # Of a run that was killed before its first index stood.
        other = next((path for path in destination.iterdir() if not path.name.startswith(ours)), None)
        if other is not None:
            raise DatasetError(destination, f'this folder holds something else ({other.name}).', 'Name another DST.')
    if destination.resolve().is_relative_to(root.resolve()):
        raise ConfigError('DST', f'{destination} lies in SRC.', 'Name a folder outside of it.')
    layout, sources, unread = plan(root, options)
    wanted = Index(layout, not options.no_anatomy, options.size, complete=options.skip_corrupt)
    busy = 'another `vasomim pack` writes here.'
    with (
        locked(destination / LOCK, busy, 'Wait until it has ended; the same command then continues.', keep=False),
        progress(f'Packing {printable(root.name)}') as report,
    ):
        if options.overwrite:
            for path in (destination / INDEX, *sorted(destination.glob(shard_name(0).replace('0', '[0-9]')))):
                path.unlink(missing_ok=True)
        index = pack(sources, destination, wanted, options.shard_size << 20, jobs, report)
    size = sum(shard.bytes for shard in index.shards.values()) / 1e9
    print(f'{printable(destination)}: {len(index.frames)} frames, {size:.2f} GB.')
    if unread:
        print(unread_line(unread))
    if index.failed:
        left = 'left out' if index.complete else 'and it is not complete without them: mend them and run this again'
        print(f'{len(index.failed)} frames could not be packed, {left}. {printable(destination / INDEX)} lists them:')
        for why in list(index.failed.values())[:FAILURES_SHOWN]:
            print(f'  {printable(why)}')
        if not index.complete:
            print('--skip-corrupt leaves them out.')
    return int(not index.complete)


def plan(root: Path, options: argparse.Namespace) -> tuple[str, list[Source], list[str]]:
    """Return the layout, the frames as their reader lists them, with their maps, and the pictures that are not read."""
    from vasomim.data.datasets import XA170K, AngiogramDataset, AngiogramFolder
    from vasomim.data.packing import Source
    from vasomim.errors import ConfigError, DatasetError
    from vasomim.frames.layout import maps_beside, merged_sources

    merged = options.sources or merged_sources(root)
    if merged:
        if options.anatomy is not None:
            raise ConfigError('--anatomy', "the maps of XA-170K lie beside its sources' folders.", 'Leave it out.')
        anatomy = 'none' if options.no_anatomy else 'precomputed'
        reader: AngiogramDataset = XA170K(root, merged, anatomy, lazy_init=True)
    else:
        maps = options.anatomy or maps_beside(root)
        reader = AngiogramFolder(root, None if options.no_anatomy else maps, filter=None, lazy_init=True)
    found = reader.find_frames()
    try:
        sources = [
            Source(name, root / name, Path(info['anatomy_path']) if info else None)
            for source, names in found.items()
            for name, info in zip(names, reader.describe_anatomy(source, names), strict=True)
        ]
    except DatasetError as error:
        raise DatasetError(error.where, error.what, f'{error.cure} --no-anatomy packs the frames alone.') from error
    return 'merged' if merged else 'folder', sources, reader.unread


def verify(root: Path, jobs: int) -> int:
    """Compare checksums; print what is damaged."""
    from vasomim.cli.prepare import progress
    from vasomim.data.pack_format import AGAIN, damages, read_index

    index = read_index(root)
    with progress(f'Reading {printable(root.name)}') as report:
        found = damages(root, index, jobs, report)
    for line in found:
        print(printable(line))
    if not index.complete:
        print(f'{printable(root)}: not complete; the same `vasomim pack` continues it.')
    print(f'{printable(root)}: {len(index.shards)} files, {len(found)} damaged.{f" {AGAIN}" if found else ""}')
    return int(bool(found) or not index.complete)
