"""The packed frame cache on disk: a few large shards with the pixels, and an index of what lies where.

``packed.json`` is the index; ``shard_00000.bin`` and so on hold for each frame its rows of 8-bit grey levels and,
behind them, the rows of its anatomy: one bit a pixel, the leftmost in the highest bit, each row in whole bytes. Frames
begin at multiples of a page. NumPy only: reading needs neither an image library nor torch.

Version 2 of the index says for each frame what its files looked like when they were read; version 1 did not.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.files import read_json
from vasomim.frames.limits import MOST_PIXELS

INDEX = 'packed.json'
FORMAT = 'vasomim-packed'
VERSION = 2
READABLE = (1, 2)
PAGE = 4096
LAYOUTS = ('merged', 'folder')
KINDS = (str, int, int, int, int, int, str)  # Of the entries of a frame.
LENGTHS = (6, 7)  # Without and with what its files looked like.
RESIDENT = 64 << 20  # Bytes of shards that a process looks at before it lets go of them.
CHUNK = 16 << 20
AGAIN = '`vasomim pack SRC DST` makes again what is missing; delete a damaged shard before.'


class PackedFrame(NamedTuple):
    """Where a frame lies: its shard's number, the offset there, and the CRC-32 of its bytes, anatomy included.

    ``origin`` is a hash of what its files looked like when they were read, see :func:`vasomim.data.packing.origin_of`;
    '' in version 1.
    """

    name: str
    height: int
    width: int
    shard: int
    offset: int
    crc32: int
    origin: str = ''

    def pixels(self) -> int:
        """Return the bytes of the grey levels."""
        return self.height * self.width

    def bytes(self, anatomy: bool) -> int:
        """Return the bytes of the grey levels and, if there is one, the map."""
        return self.pixels() + (self.height * -(-self.width // 8) if anatomy else 0)


class Shard(NamedTuple):
    """The size and SHA-256 of a shard."""

    bytes: int
    sha256: str


@dataclass
class Index:
    """What a packed set holds.

    Attributes:
        layout: How its source was laid out: 'merged', as XA-170K, or 'folder'.
        anatomy: Whether frames have maps.
        size: Longest side that frames were shortened to, pixels; None: they kept their sizes.
        complete: Whether packing has come to its end, and what failed is left out on purpose.
        shards: By number.
        frames: In the order of the source's reader.
        failed: Frames that could not be packed, with the reason.
    """

    layout: str
    anatomy: bool
    size: int | None = None
    complete: bool = False
    shards: dict[int, Shard] = field(default_factory=dict)
    frames: list[PackedFrame] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the content of the index file."""
        head = {'format': FORMAT, 'version': VERSION, **vars(self)}
        head['shards'] = {shard_name(number): shard._asdict() for number, shard in sorted(self.shards.items())}
        frames = ',\n'.join(json.dumps(frame) for frame in head.pop('frames'))  # One a line, for those who look at it.
        return f'{json.dumps(head, indent=1)[:-2]},\n "frames": [\n{frames}\n]\n}}\n'


def shard_name(number: int) -> str:
    """Return the name of a shard's file."""
    return f'shard_{number:05d}.bin'


def is_packed(root: Path) -> bool:
    """Return whether a folder is a packed set."""
    return (root / INDEX).is_file()


def read_index(root: str | Path) -> Index:
    """Read the index of a packed set.

    Raises:
        DatasetError: If there is none, it is damaged, of a later version, or points outside of the shards.
    """
    path = Path(root).expanduser() / INDEX
    if not path.exists():
        raise DatasetError(path, 'there is no such index.', 'Name a folder that `vasomim pack` wrote.')
    cure = 'Delete the folder and pack the frames again.'
    content = read_json(path, DatasetError, cure)
    version = content.get('version')
    if content.get('format') == FORMAT and not (is_count(version) and version in READABLE):
        raise DatasetError(path, f'version {version}; this is {VERSION}.', 'Pack the frames again.')
    fault = fault_of_index(content)
    if not fault:
        shards = {int(name[6:-4]): Shard(**shard) for name, shard in content['shards'].items()}
        kept = {key: content[key] for key in ('layout', 'anatomy', 'size', 'complete', 'failed')}
        index = Index(shards=shards, frames=[PackedFrame(*entry) for entry in content['frames']], **kept)
        fault = fault_of_frames(index)
    if fault:
        raise DatasetError(path, f'this index of a packed set is damaged: {fault}.', cure)
    return index


def fault_of_index(content: dict[str, Any]) -> str:
    """Return what is wrong with the kinds of an index's values; '' if nothing is."""
    if content.get('format') != FORMAT:
        return f'its format is {content.get("format")!r}'
    if content.get('layout') not in LAYOUTS:
        return f'its layout is {content.get("layout")!r}'
    for key in ('anatomy', 'complete'):
        if not isinstance(content.get(key), bool):
            return f"'{key}' is neither true nor false"
    size = content.get('size', 0)
    if size is not None and (size == 0 or not is_count(size)):
        return f"'size' is {size!r}"
    for key, kind in (('shards', dict), ('failed', dict), ('frames', list)):
        if not isinstance(content.get(key), kind):
            return f"there is no '{key}'"
    if not all(isinstance(why, str) for why in content['failed'].values()):
        return "a reason in 'failed' is no text"
    for name, shard in content['shards'].items():
        number = name[6:-4]
        if not number.isdecimal() or len(number) > 9 or name != shard_name(int(number)):
            return f'{name} is no shard'
        if not isinstance(shard, dict) or set(shard) != set(Shard._fields):
            return f'{name} is no shard'
        if not is_count(shard['bytes']) or not isinstance(shard['sha256'], str):
            return f'{name} has no size or checksum'
    for entry in content['frames']:
        if not isinstance(entry, list) or len(entry) not in LENGTHS or not all(map(isinstance, entry, KINDS)):
            return f'{str(entry)[:80]} is no frame'
    return ''


def fault_of_frames(index: Index) -> str:
    """Return what is wrong with the places of frames; '' if nothing is."""
    names: set[str] = set()
    for frame in index.frames:
        if frame.name in names:
            return f'{frame.name} stands there twice'
        names.add(frame.name)
        if frame.shard not in index.shards:
            return f'the shard of {frame.name} is missing'
        if min(frame.height, frame.width) < 1 or frame.height * frame.width > MOST_PIXELS:
            return f'{frame.name} has {frame.width} x {frame.height} pixels'
        if frame.offset < 0 or frame.offset + frame.bytes(index.anatomy) > index.shards[frame.shard].bytes:
            return f'{frame.name} lies outside of its shard'
    return ''


def is_count(value: object) -> bool:
    """Return whether a value is a whole number, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def broken_shards(root: Path, index: Index) -> dict[int, str]:
    """Return the shards that are missing or not of their size, with what is wrong: a look at the folder only."""
    broken = {}
    for number, shard in index.shards.items():
        path = root / shard_name(number)
        if not path.is_file():
            broken[number] = 'this shard is missing.'
        elif path.stat().st_size != shard.bytes:
            broken[number] = f'this shard has {path.stat().st_size} bytes instead of {shard.bytes}.'
    return broken


def damages(root: Path, index: Index, jobs: int = 1, report: Callable[[int, int], None] | None = None) -> list[str]:
    """Read every byte and compare the checksums.

    Args:
        root: The packed set.
        index: Its index.
        jobs: Shards read at once.
        report: Called with (shards done, shards in all).

    Returns:
        A line for each damaged shard, which names the frames; empty if all are as they were packed.
    """
    broken = broken_shards(root, index)
    found = [f'{root / shard_name(number)}: {what}' for number, what in broken.items()]

    def check(number: int) -> str:
        path = root / shard_name(number)
        digest = hashlib.sha256()
        with open(path, 'rb') as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
            if digest.hexdigest() == index.shards[number].sha256:
                return ''
            hit = [frame.name for frame in index.frames if frame.shard == number and not self_same(file, frame)]
        where = f'{len(hit)} frames (first: {hit[0]})' if hit else 'the space between frames'
        return f'{path}: changed since it was packed, in {where}.'

    def self_same(file: Any, frame: PackedFrame) -> bool:
        file.seek(frame.offset)
        return zlib.crc32(file.read(frame.bytes(index.anatomy))) == frame.crc32

    whole = [number for number in index.shards if number not in broken]
    with ThreadPoolExecutor(jobs) as pool:
        for done, line in enumerate(pool.map(check, whole), start=1):
            found += [line] if line else []
            if report:
                report(done, len(whole))
    return found


class PackedMask:
    """A binary map of one bit a pixel that becomes uint8 {0, 1} where it is looked at.

    Args:
        bits: uint8 (H, bytes of a row).
        width: Pixels of a row.
    """

    def __init__(self, bits: NDArray[np.uint8], width: int) -> None:
        self.bits = bits
        self.shape = (len(bits), width)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        rows, columns = window
        start, stop, step = columns.indices(self.shape[1])
        if step != 1:
            return self[rows, slice(None)][:, columns]
        first = start // 8
        pixels = np.unpackbits(self.bits[rows, first : -(-stop // 8)], axis=1)
        return pixels[:, start - 8 * first : stop - 8 * first]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        pixels = self[:, :]
        return pixels if dtype is None else pixels.astype(dtype)


class PackedFrames:
    """Frames of a packed set as views of the shards, which are mapped into memory when first looked at.

    What a process has seen stays in the system's cache, but is not counted as the process's own for long. Survives
    pickling and forks.

    Args:
        root: The packed set.
        anatomy: Whether frames have maps.
    """

    def __init__(self, root: str | Path, anatomy: bool) -> None:
        self.root = Path(root)
        self.anatomy = anatomy
        self.seen = 0
        self.maps: dict[int, tuple[mmap.mmap, NDArray[np.uint8]]] = {}

    def __getstate__(self) -> dict:
        return {**vars(self), 'maps': {}, 'seen': 0}

    def read(self, height: int, width: int, shard: int, offset: int) -> tuple[NDArray[np.uint8], PackedMask | None]:
        """Return the grey levels (H, W), not to be written to, and the map.

        Raises:
            DatasetError: If the shard cannot be opened.
        """
        mapped, content = self.maps.get(shard) or self.open(shard)
        middle = offset + height * width
        stop = middle + (height * -(-width // 8) if self.anatomy else 0)
        if hasattr(mmap, 'MADV_WILLNEED'):  # From a disk in one piece, not page by page.
            start = offset - offset % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, start, stop - start)
        self.seen += stop - offset
        if self.seen > RESIDENT:
            self.let_go()
        frame = content[offset:middle].reshape(height, width)
        return frame, PackedMask(content[middle:stop].reshape(height, -1), width) if self.anatomy else None

    def open(self, shard: int) -> tuple[mmap.mmap, NDArray[np.uint8]]:
        """Map a shard into memory."""
        path = self.root / shard_name(shard)
        try:
            with open(path, 'rb') as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DatasetError(path, f'this shard of packed frames cannot be opened: {error}.', AGAIN) from error
        self.maps[shard] = mapped, np.frombuffer(mapped, np.uint8)
        return self.maps[shard]

    def let_go(self) -> None:
        """Give the pages back to the system, which keeps them for whoever looks next; views stay valid."""
        self.seen = 0
        if hasattr(mmap, 'MADV_DONTNEED'):
            for mapped, _ in self.maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)
