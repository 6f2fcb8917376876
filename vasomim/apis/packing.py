"""Put frames and their anatomy into a few large files that training maps into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vasomim.data import packing
from vasomim.data.datasets import XA170K, AngiogramDataset, AngiogramFolder
from vasomim.data.pack_format import AGAIN, INDEX, Index, damages, read_index, shard_name
from vasomim.data.packing import Source
from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.files import LOCK, locked
from vasomim.frames.layout import existing_folder, maps_beside, merged_sources
from vasomim.processes import number_of
from vasomim.progress import progress_bar

SUFFIX = '.packed'
SHARD_MIB = 1024


@dataclass(frozen=True)
class Packed:
    """What a run left behind.

    Attributes:
        destination: Folder of the packed frames.
        frames: Number of frames in it.
        bytes: Size of its files.
        failed: Why a frame could not be packed, by its name.
        complete: Whether it can be trained on: no frame failed, or those were to be left out.
        unread: Pictures of kinds that are not read.
    """

    destination: Path
    frames: int
    bytes: int
    failed: dict[str, str]
    complete: bool
    unread: list[str]

    @property
    def index(self) -> Path:
        """The file that lists the frames, and those that failed."""
        return self.destination / INDEX


@dataclass(frozen=True)
class VerifiedPack:
    """What the checksums of packed frames say.

    Attributes:
        files: Number of files that were read.
        damaged: A line for each file that is damaged.
        complete: Whether packing was finished.
        cure: What to do about damaged files.
    """

    files: int
    damaged: list[str]
    complete: bool
    cure: str = AGAIN


def pack(
    source: str | Path,
    destination: str | Path | None = None,
    *,
    sources: Sequence[str] | None = None,
    anatomy: str | Path | None = None,
    no_anatomy: bool = False,
    size: int | None = None,
    shard_size: int = SHARD_MIB,
    jobs: int | None = None,
    skip_corrupt: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Packed:
    """Pack frames; what an earlier run packed is kept where its frames and maps are still the same.

    Args:
        source: XA-170K as published, or any folder of images.
        destination: Folder of the packed frames; None means ``source`` with the ending '.packed'.
        sources: Folders of ``source`` to pack; None means all that hold frames.
        anatomy: Maps of a folder of images; None means those beside it.
        no_anatomy: Whether to pack the frames alone.
        size: Pixels to which the longer side is shortened, >= 1; None keeps the frames' size.
        shard_size: Largest size of a file, MiB, >= 1.
        jobs: Threads that read, >= 1; None means one for each core.
        skip_corrupt: Whether it is complete without the frames that cannot be read.
        overwrite: Whether all frames are packed again.
        progress: Whether to show a progress bar.

    Raises:
        DatasetError: If there is nothing to pack, maps are missing, or the destination holds something else.
        StorageError: If the destination cannot be written, or another run packs into it.
        ConfigError: If a number is out of range, or the destination holds frames packed otherwise.
    """
    require_positive({'--jobs': jobs, '--size': size, '--shard-size': shard_size})
    root = existing_folder(source)
    target = Path(destination) if destination else root.resolve().with_name(root.resolve().name + SUFFIX)
    if target.exists() and not (target / INDEX).exists():
        ours = ('shard_', f'.{INDEX}.', LOCK)  # Of a run that was killed before its first index stood.
        other = next((path for path in target.iterdir() if not path.name.startswith(ours)), None)
        if other is not None:
            raise DatasetError(target, f'this folder holds something else ({other.name}).', 'Name another DST.')
    if target.resolve().is_relative_to(root.resolve()):
        raise ConfigError('DST', f'{target} lies in SRC.', 'Name a folder outside of it.')
    layout, frames, unread = frames_of(root, sources, anatomy, no_anatomy)
    wanted = Index(layout, not no_anatomy, size, complete=skip_corrupt)
    busy = 'another `vasomim pack` writes here.'
    with (
        locked(target / LOCK, busy, 'Wait until it has ended; the same command then continues.', keep=False),
        progress_bar(f'Packing {printable(root.name)}', progress) as report,
    ):
        if overwrite:
            for path in (target / INDEX, *sorted(target.glob(shard_name(0).replace('0', '[0-9]')))):
                path.unlink(missing_ok=True)
        index = packing.pack(frames, target, wanted, shard_size << 20, number_of(jobs), report)
    size_of_all = sum(shard.bytes for shard in index.shards.values())
    return Packed(target, len(index.frames), size_of_all, index.failed, index.complete, unread)


def verify_pack(root: str | Path, *, jobs: int | None = None, progress: bool = False) -> VerifiedPack:
    """Read packed frames, and compare their checksums.

    Args:
        root: Folder of the packed frames.
        jobs: Threads that read, >= 1; None means one for each core.
        progress: Whether to show a progress bar.

    Raises:
        DatasetError: If it holds no packed frames.
        ConfigError: If the number of threads is not positive.
    """
    require_positive({'--jobs': jobs})
    root = Path(root)
    index = read_index(root)
    with progress_bar(f'Reading {printable(root.name)}', progress) as report:
        found = damages(root, index, number_of(jobs), report)
    return VerifiedPack(len(index.shards), found, index.complete)


def require_positive(numbers: dict[str, int | None]) -> None:
    """Check the numbers of options.

    Raises:
        ConfigError: If one is not positive.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigError(name, f'{value} is too small.', 'Name at least 1, or leave it out.')


def frames_of(
    root: Path, sources: Sequence[str] | None, anatomy: str | Path | None, no_anatomy: bool
) -> tuple[str, list[Source], list[str]]:
    """Return the layout, the frames as their reader lists them, with their maps, and the pictures that are not read.

    Raises:
        DatasetError: If there are no frames, or maps are missing.
        ConfigError: If maps are named where the layout says where they lie.
    """
    merged = list(sources) if sources else merged_sources(root)
    if merged:
        if anatomy is not None:
            raise ConfigError('--anatomy', "the maps of XA-170K lie beside its sources' folders.", 'Leave it out.')
        reader: AngiogramDataset = XA170K(root, merged, 'none' if no_anatomy else 'precomputed', lazy_init=True)
    else:
        maps = anatomy or maps_beside(root)
        reader = AngiogramFolder(root, None if no_anatomy else maps, filter=None, lazy_init=True)
    found = reader.find_frames()
    try:
        frames = [
            Source(name, root / name, Path(info['anatomy_path']) if info else None)
            for source, names in found.items()
            for name, info in zip(names, reader.describe_anatomy(source, names), strict=True)
        ]
    except DatasetError as error:
        raise DatasetError(error.where, error.what, f'{error.cure} --no-anatomy packs the frames alone.') from error
    return 'merged' if merged else 'folder', frames, reader.unread
