"""Published archives: zip files, looked through before they are unpacked, and such that a stopped run continues."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from vasomim.errors import DatasetError, StorageError
from vasomim.files import in_one_step, write_whole
from vasomim.frames.layout import existing_folder
from vasomim.frames.limits import MOST_PIXELS
from vasomim.prepare.destination import check_free

OTHER_ARCHIVES = ('.7z', '.rar', '.tar', '.gz', '.tgz', '.xz')
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 0x1  # Bit of the flags of a member.

MOST_EXPANSION = 200
"""Bytes that a byte of an archive may become. Angiograms stored as floating-point numbers reach about 20, files that
are made to exhaust a disk 1,000 and more."""

DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, ValueError)
AGAIN = 'Download it again from its publisher, or unpack it yourself and name the folder.'


def open_source(source: Path, workplace: Path, report: Callable[[int, int], None] | None = None) -> Path:
    """Return the folder of a source; a zip file is unpacked first.

    Args:
        source: A folder, or a zip file.
        workplace: Where a zip file goes; members of the same archive that lie there in full are not unpacked again.
        report: Called with (members done, members in all).

    Raises:
        DatasetError: If the source does not exist, is another archive, is damaged, or would harm the disk.
        StorageError: If it cannot be unpacked there.
    """
    source = source.expanduser()
    if source.suffix.lower() in OTHER_ARCHIVES and source.is_file():
        raise DatasetError(source, f'{source.suffix} archives are not read.', 'Unpack it and name the folder.')
    if not (source.suffix.lower() == '.zip' and source.is_file()):
        return existing_folder(source)
    content = workplace / 'content'
    try:
        with zipfile.ZipFile(source) as archive:
            members = checked_members(source, archive.infolist())
            claim(workplace, members)
            left = {name: member for name, member in members.items() if not is_there(content / name, member)}
            check_free(workplace, sum(member.file_size for member in left.values()))
            for number, (name, member) in enumerate(left.items(), start=len(members) - len(left) + 1):
                unpack(archive, member, content / name)
                if report:
                    report(number, len(members))
    except DAMAGE as error:
        raise DatasetError(source, f'a damaged zip file: {error}.', AGAIN) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DatasetError(source, f'cannot be read: {reason}.', 'Check the path and its permissions.') from error
    return existing_folder(content)


def checked_members(source: Path, members: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a set in an archive, by their paths; macOS adds a second tree of hidden ones.

    Raises:
        DatasetError: If one is encrypted, a link, compressed in a way that is not known, has a path that leads out or
            stands twice, or if they would become far larger than the archive is.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        path = PurePosixPath(member.filename.replace('\\', '/'))
        name = path.as_posix()
        if member.is_dir() or member.filename.endswith('\\') or path.parts[:1] == ('__MACOSX',):
            continue
        fault = fault_of_member(path, member)
        twin = found.get(name)
        if twin is not None and (twin.file_size, twin.CRC) != (member.file_size, member.CRC):
            fault = 'stands there twice'
        if fault:
            raise DatasetError(source, f"its member '{name}' {fault}.", AGAIN)
        found[name] = member
    files = found.keys() & {parent.as_posix() for name in found for parent in PurePosixPath(name).parents}
    if files:
        raise DatasetError(source, f"its member '{min(files)}' is a file and a folder.", AGAIN)
    sizes = [(member.file_size, member.compress_size) for member in found.values()]
    sizes.append((sum(size for size, _ in sizes), source.stat().st_size))
    if any(too_large(size, packed) for size, packed in sizes):
        what = f'its members would become {sizes[-1][0]:,} bytes of {sizes[-1][1]:,}, more than any angiograms.'
        raise DatasetError(source, what, AGAIN)
    return found


def too_large(size: int, packed: int) -> bool:
    """Return whether packed bytes announce far more than they can hold; small ones do no harm."""
    return size > max(MOST_PIXELS, MOST_EXPANSION * packed)


def fault_of_member(path: PurePosixPath, member: zipfile.ZipInfo) -> str:
    """Return why a member is not unpacked; '' if it can be."""
    if not path.parts:
        return 'has no name'
    if path.is_absolute() or '..' in path.parts or path.parts[0].endswith(':'):
        return 'would be written outside the destination'
    if stat.S_ISLNK(member.external_attr >> 16):
        return 'is a link'
    if member.flag_bits & ENCRYPTED:
        return 'is encrypted'
    if member.compress_type not in METHODS:
        return f'is compressed by method {member.compress_type}, which is not known'
    return ''


def claim(workplace: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    """Record which archive is unpacked in a folder; what lies there of another one is removed.

    Raises:
        StorageError: If the folder cannot be written.
    """
    content = sorted((name, member.file_size, member.CRC) for name, member in members.items())
    mark = hashlib.sha256(repr(content).encode()).hexdigest()
    path = workplace / 'archive.sha256'
    if path.is_file() and path.read_bytes() == mark.encode():
        return
    try:
        if workplace.exists():
            shutil.rmtree(workplace)
    except OSError as error:
        raise StorageError.of(workplace, error) from error
    write_whole(path, mark)


def is_there(target: Path, member: zipfile.ZipInfo) -> bool:
    """Return whether a member lies unpacked; it was written whole."""
    return target.is_file() and target.stat().st_size == member.file_size


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Unpack one member, whole or not at all; its checksum is compared at its end.

    Raises:
        StorageError: If it cannot be written.
    """
    with archive.open(member) as packed, in_one_step(target, sync=False) as unfinished, unfinished.open('wb') as file:
        while block := read_block(packed):
            file.write(block)


def read_block(packed: IO[bytes]) -> bytes:
    """Return the next bytes of a member.

    Raises:
        BadZipFile: If they cannot be read; as such, for what is raised on reading is no fault of the destination.
    """
    try:
        return packed.read(1 << 20)
    except OSError as error:  # Also of damaged bz2 data.
        raise zipfile.BadZipFile(error.strerror or str(error)) from error
