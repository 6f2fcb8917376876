"""Files of tensors: PyTorch's two layouts and safetensors, read without running code, within the size that they have.

Everything that reads a checkpoint reads it here, mmengine's runners included (:mod:`vasomim.compat`).
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vasomim.errors import CheckpointError
from vasomim.files import open_regular
from vasomim.unpickling import tensors_in, unpickle

MOST_GB = 16  # Bytes x 2^30; a ViT-H with its optimizer has 8.
LIMIT = 'VASOMIM_CHECKPOINT_GB'  # Environment variable: another limit.
MAGIC = 119547037146038801333356  # First of the pickles that PyTorch before 1.6 wrote.
AGAIN = 'Copy or download it again.'
DISTRUST = 'Do not load it unless you trust its source; convert it to .safetensors there.'
CHUNK = 1 << 20


def read_file(path: str | Path, values: bool = True) -> Any:
    """Read a file of PyTorch or safetensors; nothing in it is run.

    Args:
        path: A regular file.
        values: Whether the values of the tensors are wanted; without, they lie on the device "meta".

    Returns:
        What was saved: see :func:`vasomim.unpickling.unpickle`. Of safetensors ``{'state_dict': ...,
        'meta': ...}``, with the texts of its header in ``meta``, its config as ``cfg``.

    Raises:
        CheckpointError: If it cannot be read, is damaged or too large, or holds what could run code.
    """
    path = Path(path)
    most = limit()
    with open_regular(path, CheckpointError) as file, _told(path):
        size = os.fstat(file.fileno()).st_size
        if size > most:
            what = f'it has {size:,} bytes, and at most {most:,} are read.'
            raise CheckpointError(path, what, f'Raise the limit: {LIMIT}={2 * MOST_GB}')
        start = file.read(9)
        file.seek(0)
        if start[8:] == b'{':
            return _read_safetensors(path, values)
        if start[:4] == b'PK\x03\x04':
            return _read_archive(file, values, most)
        if start[:1] == b'\x80':
            return _read_legacy(file, values, most)
        raise CheckpointError(
            path, 'it is no checkpoint of PyTorch, and no safetensors.' if start else 'it is empty.', AGAIN
        )


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint file without reading its values; None where it is whole.

    A file of ``torch.save`` is an archive with a directory at its end and a checksum for each tensor: the first tells
    one that was cut off, the second one whose bytes have changed. What is no such archive is left to its reader.
    """
    if not os.path.exists(path):
        return 'is not there'
    try:
        with open_regular(path, CheckpointError) as file:
            start = file.read(4)
            if start != b'PK\x03\x04':
                return None if start else 'is empty'
            members = _members(file)
            for info in members.values():
                _seek(file, info)
                left, checksum = info.file_size, 0
                while left and (block := file.read(min(left, CHUNK))):
                    left, checksum = left - len(block), zlib.crc32(block, checksum)
                if left or checksum != info.CRC:
                    return f'is damaged in {info.filename}'
    except (zipfile.BadZipFile, EOFError):
        return 'is cut off'
    except (UnpicklingError, *DAMAGE) as error:
        return f'is damaged ({error})'
    except CheckpointError as error:
        return error.what.removeprefix('it ').rstrip('.')
    return None


def check_values(content: Any, path: str | Path) -> None:
    """Refuse tensors with NaN or infinity, from which nothing comes but an empty prediction.

    So are truth values that are neither 0 nor 1, on which PyTorch's functions rely without looking.

    Args:
        content: Dicts and lists of tensors.
        path: Names the file in the error.

    Raises:
        CheckpointError: If a tensor holds one.
    """
    for name, tensor in tensors_in(content):
        if tensor.dtype == torch.bool and tensor.numel() and tensor.view(torch.uint8).max() > 1:
            raise CheckpointError(path, f'{name} holds truth values that are neither 0 nor 1.', AGAIN)
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta:
            continue
        numbers = tensor if tensor.dtype.itemsize > 1 else tensor.float()  # float8 has no sums.
        total = numbers.sum(dtype=torch.float32 if numbers.dtype.itemsize == 2 else None)
        if total.isfinite():  # One pass over the values, and no second array of them.
            continue
        wrong = int((~numbers.isfinite()).sum())
        if wrong:  # Else the sum alone was too large.
            raise CheckpointError(
                path,
                f'{wrong:,} of the {tensor.numel():,} values of {name} are NaN or infinite.',
                'Its training went wrong: take an earlier checkpoint, or download it again.',
            )


def limit() -> int:
    """Return the bytes that a checkpoint may have.

    Raises:
        CheckpointError: If the environment variable that says so is no positive number.
    """
    text = os.environ.get(LIMIT, str(MOST_GB))
    try:
        most = float(text)
        if not 0 < most < 1 << 20:
            raise ValueError
    except ValueError as error:
        raise CheckpointError(LIMIT, f'{text!r} is no number of gigabytes.', f'Set it to {MOST_GB}.') from error
    return int(most * (1 << 30))


DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError, EOFError, struct.error)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what goes wrong within a file into errors that name it."""
    try:
        yield
    except UnpicklingError as error:
        raise CheckpointError(path, f'{error}.', DISTRUST) from error
    except (zipfile.BadZipFile, SafetensorError, NotImplementedError, OSError, *DAMAGE) as error:
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(path, f'it cannot be read: {reason}.', AGAIN) from error


def _read_safetensors(path: Path, values: bool) -> dict[str, Any]:
    with safe_open(path, framework='pt') as file:
        facts = file.metadata() or {}
        names = file.keys() if values else ()
        tensors = {name: file.get_tensor(name) for name in names}
    meta = {key: value for key, value in facts.items() if key != 'config'}
    return {'state_dict': tensors, 'meta': meta | ({'cfg': facts['config']} if 'config' in facts else {})}


def _read_archive(file: IO[bytes], values: bool, most: int) -> Any:
    """Read what ``torch.save`` writes: an archive of a pickle and one member for each storage."""
    members = _members(file)
    pickles = [name for name in members if re.fullmatch(r'[^/]+/data\.pkl', name)]
    folder = pickles[0].rpartition('/')[0] if len(pickles) == 1 else ''
    if f'{folder}/constants.pkl' in members:
        raise UnpicklingError('it is a program of TorchScript')
    if not folder:
        raise UnpicklingError('it is an archive, but none of torch.save')
    if (order := members.get(f'{folder}/byteorder')) is not None and bytes(_load(file, order).tolist()) != b'little':
        raise UnpicklingError('its numbers are stored with their highest byte first')
    loaded: dict[str, Tensor] = {}

    def storage(key: str, size: int) -> Tensor:
        info = members[f'{folder}/data/{key}']
        if info.file_size != size:
            raise UnpicklingError(f'{size:,} bytes of tensors are announced, and {info.file_size:,} are there')
        if key not in loaded:
            loaded[key] = _load(file, info) if values else torch.empty(size, dtype=torch.uint8, device='meta')
        return loaded[key]

    content = _load(file, members[pickles[0]])
    return unpickle(io.BytesIO(content.numpy().tobytes()), storage, len(content), most)


def _read_legacy(file: IO[bytes], values: bool, most: int) -> Any:
    """Read what PyTorch before 1.6 wrote: five pickles, then the storages one after the other."""
    size = os.fstat(file.fileno()).st_size
    none = partial(_refuse, 'it refers to tensors before there are any')
    if unpickle(file, none, size, 0) != MAGIC:
        raise UnpicklingError('it is a pickle, but none of torch.save')
    unpickle(file, none, size, 0)  # The version of the layout; there is one.
    machine = unpickle(file, none, size, 0)
    if isinstance(machine, dict) and machine.get('little_endian') is False:
        raise UnpicklingError('its numbers are stored with their highest byte first')
    loaded: dict[str, Tensor] = {}
    announced = 0

    def storage(key: str, length: int) -> Tensor:
        nonlocal announced
        if key not in loaded:
            announced += length
            if announced > size:
                raise UnpicklingError(f'{announced:,} bytes of tensors are announced, and the file has {size:,}')
            loaded[key] = torch.empty(length, dtype=torch.uint8, device='cpu' if values else 'meta')
        if len(loaded[key]) != length:
            raise UnpicklingError('its tensors disagree on the size of their values')
        return loaded[key]

    content = unpickle(file, storage, size, most)
    for key in unpickle(file, none, size, 0) if values else ():
        (count,) = struct.unpack('<q', file.read(8))
        if len(loaded[key]) not in [count * size for size in (1, 2, 4, 8, 16)]:
            raise UnpicklingError('its tensors disagree on the size of their values')
        _read_into(file, loaded.pop(key))
    if values and loaded:
        raise UnpicklingError('it is cut off')
    return content


def _members(file: IO[bytes]) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive, which together fit into it and are not packed, as torch writes them.

    Raises:
        BadZipFile: If it has no directory.
        UnpicklingError: If a member is packed, or there twice.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos):
        raise UnpicklingError('its members are packed, and so may be larger than the file')
    if sum(info.file_size for info in infos) > size or len({info.filename for info in infos}) < len(infos):
        raise UnpicklingError('its members overlap')
    return {info.filename: info for info in infos}


def _load(file: IO[bytes], info: zipfile.ZipInfo) -> Tensor:
    """Return the bytes of a member, uint8 (N,), compared with its checksum."""
    _seek(file, info)
    content = torch.empty(info.file_size, dtype=torch.uint8)
    _read_into(file, content)
    if zlib.crc32(content.numpy().data) != info.CRC:
        raise ValueError(f'{info.filename} is damaged')
    return content


def _seek(file: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Go to the first byte of a member's content."""
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b'PK\x03\x04':
        raise ValueError(f'{info.filename} is damaged')
    file.seek(sum(struct.unpack('<HH', header[26:])), os.SEEK_CUR)


def _read_into(file: IO[bytes], content: Tensor) -> None:
    waiting = content.numpy().data
    while len(waiting):
        count = file.readinto(waiting)  # type: ignore[attr-defined]
        if not count:
            raise UnpicklingError('it is cut off')
        waiting = waiting[count:]


def _refuse(why: str, *_: Any) -> Any:
    raise UnpicklingError(why)
