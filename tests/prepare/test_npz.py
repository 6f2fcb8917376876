"""Studies of CoronaryDominance that are damaged or made to exhaust a machine; memory is limited while they are read."""

from __future__ import annotations

import io
import os
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.trees import frame
from vasomim.errors import DatasetError
from vasomim.prepare.npz import read_npz

GIGABYTE = 1 << 30


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let the process take two gigabytes more than it has."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * GIGABYTE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def header(shape: str, dtype: str = '<f8', order: str = 'False') -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}}}".encode()
    text += b' ' * (-(len(text) + 11) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text


def write(path: Path, array: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = 'pixel_array.npy') -> Path:
    with zipfile.ZipFile(path, 'w', method) as packed:
        packed.writestr(name, array)
    return path


@pytest.mark.parametrize(
    ('array', 'word'),
    [
        (header('(-1, 8, 8)') + bytes(512), 'shape'),
        (header('(1, -8, -8)') + bytes(512), 'shape'),
        (header('(0, 8, 8)'), 'shape'),
        (header('(8,)') + bytes(64), 'shape'),
        (header('(1, 8, 8)', '|O') + bytes(512), 'object'),
        (header('(1, 8, 8)', '<c16') + bytes(1024), 'complex'),
        (header('(1, 8, 8)', '|S9') + bytes(576), 'S9'),
        (header('(1, 8, 8)', order='True') + bytes(512), 'Fortran'),
        (header('(1000000000000, 8, 8)') + bytes(512), '1000000000000'),
        (header('(1, 1000000, 1000000)') + bytes(512), 'pixels'),
        (header('(1, 99999999999999999999, 99999999999999999999)') + bytes(512), 'pixels'),
        (header('(2, 8, 8)') + bytes(512), 'bytes'),
        (header('(' * 3000) + bytes(512), 'header'),
        (header('(1, 8, 8), "x": 1j') + bytes(512), 'damaged'),
        (header('(1, 512, 512)') + bytes(400 << 20), 'would become'),
        (b'', 'damaged'),
        (b'\x93NUMPY\x09\x00', 'damaged'),
        (b'\x93NUMPY\x02\x00\xff\xff\xff\xff', 'damaged'),
    ],
)
def test_damaged_and_hostile_studies_are_errors(tmp_path, little_memory, array, word):
    path = write(tmp_path / 'a.npz', array)
    with pytest.raises(DatasetError, match=r'a\.npz') as caught:
        list(read_npz(path))
    assert word in str(caught.value)


def test_what_is_no_study_is_an_error_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / 'pipe.npz')
    (tmp_path / 'text.npz').write_bytes(b'404 not found')
    write(tmp_path / 'other.npz', header('(1, 8, 8)') + bytes(512), name='pixels.npy')
    for name, word in (('pipe', 'regular'), ('text', 'damaged'), ('other', 'pixel_array'), ('none', 'regular')):
        with pytest.raises(DatasetError, match=f'{name}.npz.*{word}'):
            list(read_npz(tmp_path / f'{name}.npz'))


@pytest.mark.parametrize('dtype', [np.float64, np.float32, np.uint8, np.int16])
@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sound_studies_are_read(tmp_path, dtype, method):
    cine = np.stack([frame(k) for k in range(3)])
    data = io.BytesIO()
    np.save(data, cine.astype(dtype))
    assert np.array_equal(list(read_npz(write(tmp_path / 'a.npz', data.getvalue(), method))), cine)
