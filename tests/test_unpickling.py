"""Pickles that an attacker wrote: nothing is called, nothing large is made, and each ends in one kind of error."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from vasomim.unpickling import Name, tensors_in, unpickle

LIMIT = 1 << 20
PROTOCOL = b'\x80\x02'


def named(module: str, name: str) -> bytes:
    return f'c{module}\n{name}\n'.encode()


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def storage(elements: int, kind: str = 'FloatStorage', key: str = '0') -> bytes:
    count = b'J' + struct.pack('<i', elements)
    return b'(' + text('storage') + named('torch', kind) + text(key) + text('cpu') + count + b'tQ'


def tensor(stored: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The call of torch's function that rebuilds a tensor, with arguments of the attacker's choice."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b'(' + b''.join(b'\x8a\x08' + struct.pack('<q', value) for value in values) + b't'

    arguments = stored + b'\x8a\x08' + struct.pack('<q', offset) + numbers(shape) + numbers(strides) + b'\x89}'
    return named('torch._utils', '_rebuild_tensor_v2') + b'(' + arguments + b'tR'


def read(content: bytes, stored: int = 64):
    """Read a pickle beside `stored` bytes of numbers: 0, 1, 2, ..."""

    def bytes_of(key: str, size: int) -> torch.Tensor:
        if key != '0' or size > stored:
            raise pickle.UnpicklingError('not there')
        return torch.arange(stored // 4, dtype=torch.float32).view(torch.uint8)[:size]

    return unpickle(io.BytesIO(PROTOCOL + content + b'.'), bytes_of, len(content), LIMIT)


DTYPE = named('numpy', 'dtype')
ARRAY = (
    named('numpy.core.multiarray', '_reconstruct') + b'(' + named('numpy', 'ndarray') + b'K\x00\x85' + text('b') + b'tR'
)
FLOAT = DTYPE + text('f8') + b'\x89\x88\x87R'
BYTES = named('_codecs', 'encode') + text('x' * 8) + text('latin1') + b'\x86R'
HOSTILE = {
    'a function of the system': named('os', 'system') + text('true') + b'\x85R',
    'the same, by the oldest step': b'(ios\nsystem\n',
    'an extension': b'\x82\x01',
    'evaluation': named('builtins', 'eval') + text('1') + b'\x85R',
    'an attribute that leads to every module': named('builtins', 'getattr')
    + named('mmengine.logging.history_buffer', 'HistoryBuffer')
    + text('__init__')
    + b'\x86R',
    'an array at an address': named('numpy', 'ndarray') + b'(K\x01\x85' + FLOAT + b'K\x00tR',
    'an array as a new object': named('numpy', 'ndarray') + b'(K\x08\x85t\x81',
    'an array of objects': DTYPE + text('O') + b'\x89\x88\x87R',
    'a structure': DTYPE + text('i4,O') + b'\x89\x88\x87R',
    'an array of more values than are there': ARRAY + b'(K\x01(K\x40t' + FLOAT + b'\x89' + BYTES + b'tb',
    'an array of a negative shape': ARRAY + b'(K\x01(J\xff\xff\xff\xfft' + FLOAT + b'\x89' + BYTES + b'tb',
    'a number of too few bytes': named('numpy.core.multiarray', 'scalar')
    + DTYPE
    + text('c16')
    + b'\x89\x88\x87R'
    + BYTES
    + b'\x86R',
    'a large array of zeros': named('builtins', 'bytearray') + b'J\xff\xff\xff\x7f\x85R',
    'a state for a function': named('torch._utils', '_rebuild_tensor_v2') + b'}b',
    'a state for a type': named('torch', 'float32') + b'}b',
    'a key whose hash overflows the stack': b'})' + b'\x85' * 300_000 + b'K\x01s',
    'large copies of one text': b'('
    + named('_codecs', 'encode')
    + b'q\x00'
    + text('x' * 1_000_000)
    + text('latin1')
    + b'\x86q\x01R'
    + b'h\x00h\x01R' * 2_000
    + b't',
    'a tensor beyond its values': tensor(storage(16), 8, (9,), (1,)),
    'a tensor before its values': tensor(storage(16), -4, (4,), (1,)),
    'a tensor by strides beyond its values': tensor(storage(16), 0, (4,), (1 << 40,)),
    'a tensor by negative strides': tensor(storage(16), 15, (4,), (-1,)),
    'sizes whose product is past 64 bits': tensor(storage(16), 0, (1 << 40, 1 << 40), (0, 0)),
    'an expanded tensor': tensor(storage(1), 0, (1 << 40,), (0,)),
    'one that overlaps itself': tensor(storage(16), 0, (10, 7), (1, 1)),
    'a storage that is not there': tensor(storage(16, key='7'), 0, (4,), (1,)),
    'a storage of an unknown kind': tensor(storage(16, 'QInt8Storage'), 0, (4,), (1,)),
    'tensors that share values beyond the limit': b'(' + tensor(storage(16), 0, (16,), (1,)) * 20_000 + b't',
    'nothing': b'',
    'a value too few': b't',
    'what was not stored': b'h\x09',
    'a cut text': b'X\xff\xff\xff\x7fa',
    'tensors of a sparse kind': named('torch._utils', '_rebuild_sparse_tensor') + b')R',
    'a function that calls itself': (named('torch._tensor', '_rebuild_from_type_v2') + b'(')
    + named('torch._tensor', '_rebuild_from_type_v2')
    + named('torch', 'Tensor')
    + b')NtR',
}


@pytest.mark.parametrize('content', HOSTILE.values(), ids=list(HOSTILE))
def test_what_an_attacker_writes_ends_in_one_error(content: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read(content)


def test_a_call_of_the_attackers_choice_is_not_made(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'owned'),)

    for protocol in range(5):
        file = io.BytesIO(pickle.dumps({'a': Payload()}, protocol))
        with pytest.raises(pickle.UnpicklingError):
            unpickle(file, None, 1000, LIMIT)
    assert not (tmp_path / 'owned').exists()


def test_the_tensors_of_the_attacks_are_read_where_they_are_sound() -> None:
    """The builders above write what the reader takes; they are refused for what is wrong in them alone."""
    assert read(tensor(storage(16), 8, (8,), (1,))).tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    assert read(tensor(storage(16), 1, (2, 3), (4, 2))).tolist() == [[1, 3, 5], [5, 7, 9]]
    assert read(ARRAY + b'(K\x01(K\x01t' + FLOAT + b'\x89' + BYTES + b'tb').tobytes() == b'x' * 8
    assert read(named('numpy._core.multiarray', 'scalar') + FLOAT + BYTES + b'\x86R').tobytes() == b'x' * 8
    assert read(named('torch', 'FloatStorage')) == Name('torch.FloatStorage')


def test_deep_and_circular_values_are_walked_without_recursion() -> None:
    depth = 100_000
    deep = read(b']' * depth + tensor(storage(4), 0, (4,), (1,)) + b'a' * depth)
    assert [value.tolist() for _, value in tensors_in(deep)] == [[0, 1, 2, 3]]
    circle = read(b']q\x00h\x00a')
    assert circle[0] is circle and not list(tensors_in(circle))
    doubled = read(b']q\x00' + b'](h\x00h\x00eq\x00' * 60)
    assert not list(tensors_in(doubled))  # 2 to the 60 paths, and 60 lists.


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_plain_values_are_those_of_python(protocol: int) -> None:
    value = {
        'numbers': [0, -1, 255, 65_535, -(2**31), 2**40, 1.5, float('inf'), True, False, None],
        7: ('one',),
        'pair': (1, 2),
        'triple': (1, 2, 3),
        'more': (1, 2, 3, 4),
        'text': 'ä\udc80',
        'bytes': b'\x00\xff',
        'set': {1, 2},
        'order': OrderedDict([('b', 1), ('a', 2)]),
        'milestones': Counter([3, 3, 8]),
        'options': argparse.Namespace(lr=0.1, name='x'),
        'scalar': np.float32(0.25),
        'array': np.arange(6).reshape(2, 3),
        'flat': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    found = unpickle(io.BytesIO(pickle.dumps(value, protocol)), None, 10_000, 0)
    for name in ('array', 'flat'):
        np.testing.assert_array_equal(found.pop(name), value.pop(name))
    assert found == value and list(found['order']) == ['b', 'a'] and type(found['scalar']) is np.float32
