"""Files: written in full or not at all, read within limits, locked against a second writer."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from vasomim.errors import StorageError, VasoMIMError

NUMBERS = itertools.count()  # Two threads may write one file; the last one wins.
LOCK = '.lock'  # In a folder that one run writes to at a time.
HELD: set[int] = set()  # Descriptors of the locks of this process.
MOST_JSON = 1 << 30  # Bytes; the largest annotation file in use, of COCO's training set, has 0.45 GB.


@contextmanager
def in_one_step(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Give a name to write to, and rename it to ``path`` when all is on disk: what stood there stays until then.

    Args:
        path: The file; folders on its way are made.
        sync: Whether to wait until a loss of power would leave it whole too.

    Raises:
        StorageError: If it cannot be written. Nothing is left behind but what stood there before.
    """
    path = Path(path)
    # Short enough where the name itself is as long as a name may be.
    unfinished = path.with_name(f'.{path.name[:40]}.{os.getpid()}.{next(NUMBERS)}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        permissions = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(permissions)  # safetensors makes files that nobody else can read.
        if sync:
            with open(unfinished, 'rb') as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError.of(path, error) from error
    finally:
        with suppress(OSError):  # Where nothing could be written, nothing is left.
            unfinished.unlink(missing_ok=True)


def require_plain_name(folder: str | Path) -> None:
    """Refuse a folder to write to whose name is not UTF-8: TensorBoard cannot write there, and OpenCV dies of it.

    Raises:
        StorageError: If it is not.
    """
    try:
        os.path.abspath(folder).encode()
    except UnicodeEncodeError as error:
        what = 'its name is not UTF-8, and TensorBoard and OpenCV cannot write there.'
        raise StorageError(folder, what, 'Choose a folder of another name.') from error


def require_writable(path: str | Path) -> None:
    """Find out whether a file can be written, before the work for it is done; its folder is made.

    Raises:
        StorageError: If it cannot, or the path is that of a folder.
    """
    path = Path(path)
    probe = path.with_name(f'.{path.name[:40]}.{os.getpid()}.{next(NUMBERS)}.part')
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StorageError.of(path, error) from error


def write_whole(path: str | Path, content: bytes | str, sync: bool = True) -> None:
    """Write a file of which all content is at hand, as :func:`in_one_step`; text as UTF-8.

    Raises:
        StorageError: If it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with in_one_step(path, sync) as unfinished:
        unfinished.write_bytes(data)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON for people and programs, all at once or not at all; see :func:`write_whole`."""
    write_whole(path, json.dumps(content, indent=1) + '\n')


def sync_folder(folder: Path) -> None:
    """Let a rename in a folder outlast a loss of power, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # Some network file systems sync no folders.
            raise
    finally:
        os.close(descriptor)


def read_regular(
    path: str | Path, error: type[VasoMIMError], cure: str = 'Copy it again.', most: int | None = None
) -> bytes:
    """Read a regular file; a pipe or a device, which may never end, is refused.

    Args:
        path: The file.
        error: The class of the error that says what is wrong.
        cure: What to do about it.
        most: Bytes that it may have; None for any number.

    Raises:
        VasoMIMError: Of class ``error``, if it is missing, no regular file, too large or cannot be read.
    """
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise error(path, f'it has {size:,} bytes, and at most {most:,} are read.', cure)
        try:
            return file.read()
        except OSError as fault:
            raise unreadable(path, error, fault) from fault


def open_regular(path: str | Path, error: type[VasoMIMError]) -> BinaryIO:
    """Open a regular file for reading, and refuse a pipe or a device at once; it is the caller's to close.

    Raises:
        VasoMIMError: Of class ``error``, if it is missing, no regular file or cannot be read.
    """
    try:
        file = open(path, 'rb', opener=open_at_once)  # noqa: SIM115 - the caller closes it
    except (OSError, ValueError) as fault:  # ValueError: a zero byte in its name.
        raise unreadable(path, error, fault) from fault
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error(path, 'it is no regular file.', 'Name a file with the content itself.')
    return file


def unreadable(path: str | Path, error: type[VasoMIMError], fault: Exception) -> VasoMIMError:
    """Return the error for a file that the operating system does not let us read."""
    reason = getattr(fault, 'strerror', None) or str(fault)
    return error(path, f'it cannot be read: {reason}.', 'Check the path and its permissions.')


def open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe; an ``opener`` of :func:`open`."""
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def read_text(path: str | Path, error: type[VasoMIMError], cure: str = 'Copy it again.', most: int = MOST_JSON) -> str:
    """Read a text file as UTF-8, with the byte order mark that Windows tools write, or without.

    Raises:
        VasoMIMError: Of class ``error``, if it is missing, no regular file, too large or no UTF-8.
    """
    try:
        return read_regular(path, error, cure, most).decode('utf-8-sig')
    except UnicodeDecodeError as fault:
        raise error(path, f'it is not UTF-8: {fault.reason} at byte {fault.start}.', cure) from fault


def read_json(
    path: str | Path,
    error: type[VasoMIMError],
    cure: str = 'Copy it again.',
    kind: type | tuple[type, ...] = dict,
    most: int = MOST_JSON,
) -> Any:
    """Read a JSON file; with the byte order mark that Windows tools write, or without.

    Args:
        path: The file.
        error: The class of the error that says what is wrong.
        cure: What to do about it.
        kind: What it has to hold: ``dict``, ``list``, or several.
        most: Bytes that it may have.

    Returns:
        Its content. Numbers are finite, texts can be written as UTF-8.

    Raises:
        VasoMIMError: Of class ``error``, if it is missing, damaged, too large or holds something else.
    """
    return parse_json(read_regular(path, error, cure, most), path, error, cure, kind)


def parse_json(
    data: bytes | str,
    where: str | Path,
    error: type[VasoMIMError],
    cure: str = 'Copy it again.',
    kind: type | tuple[type, ...] = dict,
) -> Any:
    """Parse JSON that was read already, as :func:`read_json`.

    Raises:
        VasoMIMError: Of class ``error``, if it is damaged or holds something else.
    """
    try:
        text = data if isinstance(data, str) else data.decode('utf-8-sig')
        content = json.loads(text, parse_constant=refuse_constant, parse_float=finite)
        if '\\u' in text:  # The one way by which half of a surrogate pair gets into a text.
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeDecodeError as fault:
        raise error(where, f'it is not UTF-8: {fault.reason} at byte {fault.start}.', cure) from fault
    except UnicodeEncodeError as fault:
        raise error(where, 'it holds half of a surrogate pair, which is no character.', cure) from fault
    except RecursionError as fault:
        raise error(where, 'its lists and objects are nested too deeply.', cure) from fault
    except ValueError as fault:
        raise error(where, f'it is no valid JSON: {fault}.', cure) from fault
    if not isinstance(content, kind):
        names: dict[Any, str] = {dict: 'an object', list: 'a list', str: 'a text'}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = ' or '.join(names.get(one, one.__name__) for one in kinds)
        raise error(where, f'it holds {names.get(type(content), type(content).__name__)} instead of {wanted}.', cure)
    return content


def refuse_constant(name: str) -> float:
    """Refuse ``NaN`` and ``Infinity``, which Python reads and JSON does not know.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f'{name} is no number of JSON')


def finite(text: str) -> float:
    """Return a number.

    Raises:
        ValueError: If it is too large for one, such as 1e999.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'{text} is too large')
    return value


@contextmanager
def locked(path: str | Path, what: str, cure: str, keep: bool = True) -> Iterator[None]:
    """Hold a file's lock, which goes with the process, however it ends.

    Processes that this one forks do not keep it: a loader's worker outlives a killed training by some seconds.

    Args:
        path: The lock's file; it is made, with its folder, which also shows whether one can write there.
        what: What is wrong where another process holds it, such as 'another training runs in this folder.'.
        cure: What to do then.
        keep: Whether the file stays; else it is removed when the lock is given up.

    Raises:
        StorageError: If another process holds it, or the file cannot be made.
    """
    path = Path(path)
    descriptor = open_locked(path, what, cure)
    HELD.add(descriptor)
    try:
        yield
    finally:
        if descriptor in HELD:  # Not in a child that has let go of it.
            HELD.remove(descriptor)
            if not keep:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            os.close(descriptor)


def open_locked(path: Path, what: str, cure: str) -> int:
    """Open a file and lock it; see :func:`locked`.

    Returns:
        Its descriptor.

    Raises:
        StorageError: If another process holds the lock, or the file cannot be made.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)  # To write: NFS asks for it.
        except OSError as error:
            raise StorageError.of(path.parent, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return descriptor  # A file system without locks.
            os.close(descriptor)
            raise StorageError(path.parent, what, cure) from error
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # Its last holder removed it between the two steps.


def let_go() -> None:
    """Close the locks of the parent in a process that it forks."""
    for descriptor in HELD:
        os.close(descriptor)
    HELD.clear()


os.register_at_fork(after_in_child=let_go)
