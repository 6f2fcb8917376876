"""Pack frames and their anatomy into the cache that :mod:`vasomim.data.pack_format` describes.

Whether a frame is still the one that was packed is told by the sizes and times of its files, and where these differ by
its pixels. The time of the last change of a file's status is among them, which no tool for copying sets back.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vasomim.data.pack_format import INDEX, PAGE, Index, PackedFrame, Shard, broken_shards, shard_name
from vasomim.errors import ConfigError, DatasetError, StorageError, printable
from vasomim.files import sync_folder, write_whole
from vasomim.frames.images import read_grey, read_mask
from vasomim.frames.names import refuse_unlistable

AHEAD = 4  # Frames read ahead for each thread.


@dataclass(frozen=True)
class Source:
    """A frame to pack: its name, its file, and that of its map."""

    name: str
    frame: Path
    anatomy: Path | None


@dataclass(frozen=True)
class Block:
    """The bytes of a frame and its map, or why there are none."""

    name: str
    height: int = 0
    width: int = 0
    content: bytes = b''
    crc32: int = 0
    origin: str = ''
    error: str = ''

    def same_pixels(self, frame: PackedFrame) -> bool:
        """Return whether the frame was packed from the same grey levels and map."""
        return (self.height, self.width, self.crc32) == (frame.height, frame.width, frame.crc32)


class ShardWriter:
    """Writes a shard beside its final name, and gives it that when it is on the disk."""

    def __init__(self, root: Path, number: int) -> None:
        self.number = number
        self.path = root / shard_name(number)
        self.part = self.path.with_name(f'{self.path.name}.part')
        self.file = open(self.part, 'wb')  # noqa: SIM115 - closed with the shard
        self.digest = hashlib.sha256()
        self.bytes = 0

    def add(self, block: Block) -> PackedFrame:
        """Append a frame at the next page."""
        padding = bytes(-self.bytes % PAGE)
        offset = self.bytes + len(padding)
        for content in (padding, block.content):
            self.file.write(content)
            self.digest.update(content)
        self.bytes = offset + len(block.content)
        return PackedFrame(block.name, block.height, block.width, self.number, offset, block.crc32, block.origin)

    def close(self) -> Shard:
        """Put the shard into its place."""
        with self.file as file:
            file.flush()
            os.fsync(file.fileno())
        put(self.part, self.path)
        return Shard(self.bytes, self.digest.hexdigest())


def pack(
    sources: Sequence[Source],
    root: Path,
    wanted: Index,
    shard_bytes: int,
    jobs: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> Index:
    """Pack what a folder does not hold yet; the index is written behind each shard.

    Args:
        sources: The frames, in the order of their reader.
        root: The packed set. What an earlier run, also one that was killed, packed is kept, and its files are the same
            in the end. Shards that are missing or of another size, and those with a frame or a map that is another one
            in the source now, are made again.
        wanted: An empty index with the settings; ``complete`` says whether to accept frames that cannot be packed.
        shard_bytes: A shard ends before it grows larger than this.
        jobs: Threads that read.
        report: Called with (frames done, frames in all).

    Returns:
        The index as written; ``complete`` is False if frames failed and ``wanted.complete`` is.

    Raises:
        ConfigError: If the folder holds frames packed with other settings, or from another source.
        DatasetError: If a name cannot stand in the lists that choose frames.
        StorageError: If it cannot be written; the same call then continues.
    """
    refuse_unlistable((source.name for source in sources), root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _pack(sources, root, wanted, shard_bytes, jobs, report)
    except OSError as error:
        raise StorageError.of(error.filename or root, error) from error


def _pack(
    sources: Sequence[Source],
    root: Path,
    wanted: Index,
    shard_bytes: int,
    jobs: int,
    report: Callable[[int, int], None] | None,
) -> Index:
    accept = wanted.complete
    for part in (*root.glob(f'.{INDEX}.*.part'), *root.glob('shard_*.part')):  # Of a run that was killed.
        part.unlink()
    index = wanted if not (root / INDEX).exists() else continued(root, wanted, sources, jobs)
    index.complete = False
    places = {frame.name: frame for frame in index.frames}
    index.failed = {}
    order = [source.name for source in sources]
    todo = [source for source in sources if source.name not in places]
    writer: ShardWriter | None = None

    def close() -> None:
        if writer is not None:
            index.shards[writer.number] = writer.close()
            index.frames = [places[name] for name in order if name in places]
            write_index(root, index)

    try:
        for number, block in enumerate(read_ahead(todo, wanted.size, jobs), start=1):
            if report:
                report(len(sources) - len(todo) + number, len(sources))
            if block.error:
                index.failed[block.name] = block.error
                continue
            if writer is not None and writer.bytes + PAGE + len(block.content) > shard_bytes:
                close()
                writer = None
            if writer is None:
                free = next(number for number in range(len(index.shards) + 1) if number not in index.shards)
                writer = ShardWriter(root, free)
            places[block.name] = writer.add(block)
        close()
    finally:
        if writer is not None:
            with suppress(OSError):  # What it still holds has no place on a full disk.
                writer.file.close()
            writer.part.unlink(missing_ok=True)
    index.complete = bool(index.frames) and (accept or not index.failed)
    write_index(root, index)
    return index


def continued(root: Path, wanted: Index, sources: Sequence[Source], jobs: int) -> Index:
    """Return the index that a folder has, without what its shards have lost, and without those with changed frames.

    Raises:
        ConfigError: If it does not fit what is wanted.
    """
    from vasomim.data.pack_format import read_index

    index = read_index(root)
    cure = 'Name another DST, or pass --overwrite to pack again.'
    for key in ('layout', 'anatomy', 'size'):
        if getattr(index, key) != getattr(wanted, key):
            what = f'its frames were packed with {key} {getattr(index, key)} instead of {getattr(wanted, key)}.'
            raise ConfigError(root, what, cure)
    named = {source.name: source for source in sources}
    strange = [frame.name for frame in index.frames if frame.name not in named]
    if strange:
        raise ConfigError(root, f'{len(strange)} of its frames are not in SRC (first: {strange[0]}).', cure)
    for number in broken_shards(root, index):
        del index.shards[number]
    places = {frame.name: frame for frame in index.frames if frame.shard in index.shards}
    doubtful = [named[name] for name, frame in places.items() if frame.origin != origin_of(named[name])]
    for block in read_ahead(doubtful, index.size, jobs):
        if block.same_pixels(places[block.name]):  # Copied or unpacked again.
            places[block.name] = places[block.name]._replace(origin=block.origin)
        else:
            index.shards.pop(places[block.name].shard, None)
    index.frames = [frame for frame in places.values() if frame.shard in index.shards]
    return index


def origin_of(source: Source) -> str:
    """Return a hash of what the files of a frame look like: their sizes, and when they and their status changed."""
    looks = []
    for path in (source.frame, source.anatomy):
        try:
            status = path.stat() if path else None
        except OSError:
            status = None
        looks.append(status and (status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return hashlib.blake2b(repr(looks).encode(), digest_size=8).hexdigest()


def read_ahead(sources: Sequence[Source], size: int | None, jobs: int) -> Iterator[Block]:
    """Yield the blocks in order, while threads read the next ones; decoding leaves Python's lock alone."""
    waiting: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for source in sources:
                waiting.append(pool.submit(read_block, source, size))
                if len(waiting) > AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def read_block(source: Source, size: int | None) -> Block:
    """Read a frame and its map."""
    origin = origin_of(source)  # Before it is read: what changes meanwhile is seen the next time.
    return replace(_read_block(source, size), origin=origin)


def _read_block(source: Source, size: int | None) -> Block:
    try:
        frame = read_grey(source.frame)
        anatomy = None if source.anatomy is None else read_mask(source.anatomy)
    except DatasetError as error:
        return Block(source.name, error=printable(f'{error.where}: {error.what}'))
    if anatomy is not None and anatomy.shape != frame.shape:
        (height, width), (tall, wide) = frame.shape, anatomy.shape
        what = f'a map of {wide} x {tall} pixels for a frame of {width} x {height}.'
        return Block(source.name, error=printable(f'{source.anatomy}: {what}'))
    if size is not None:
        frame = shortened(frame, size, smooth=True)
        anatomy = None if anatomy is None else shortened(anatomy, size, smooth=False)
    content = frame.tobytes() + (b'' if anatomy is None else np.packbits(anatomy, axis=1).tobytes())
    height, width = frame.shape
    return Block(source.name, height, width, content, zlib.crc32(content))


def shortened(pixels: NDArray[np.uint8], side: int, smooth: bool) -> NDArray[np.uint8]:
    """Return a frame or a map whose longer side has at most some pixels; the ratio of the sides stays."""
    from vasomim.data.transforms import resize

    if max(pixels.shape) <= side:
        return pixels
    height, width = (max(1, round(pixel * side / max(pixels.shape))) for pixel in pixels.shape)
    return resize(pixels, (height, width), smooth)


def write_index(root: Path, index: Index) -> None:
    """Write the index."""
    write_whole(root / INDEX, index.to_json())


def put(part: Path, path: Path) -> None:
    """Rename a file that is on the disk, and let the rename outlast a loss of power."""
    os.replace(part, path)
    sync_folder(path.parent)
