"""Pickles of PyTorch's files, read as data: what a pickle names is looked up in a table here, never imported or called.

Python's unpickler calls what a file names, and torch's restricted one still calls many functions with the file's
arguments. This one knows the plain values, tensors, NumPy's numbers and histories that ``torch.save`` and mmengine
write, and checks each argument before it builds anything.
"""

from __future__ import annotations

import argparse
import math
import pickletools
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

MOST_STEPS = 10_000_000  # Opcodes of a pickle; a checkpoint of a ViT with its optimizer has some ten thousand.
MOST_DIMENSIONS = 64
SWELLING = 8  # Bytes of copies, such as of text as bytes, for one byte of a pickle.
LARGEST = 1 << 48  # A size, a stride or an offset.

# What careless access to damaged values ends in; nothing here is called that could raise them for another reason.
DAMAGE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError, MemoryError)

STORAGES = {
    'BFloat16Storage': torch.bfloat16,
    'BoolStorage': torch.bool,
    'ByteStorage': torch.uint8,
    'CharStorage': torch.int8,
    'ComplexDoubleStorage': torch.complex128,
    'ComplexFloatStorage': torch.complex64,
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'IntStorage': torch.int32,
    'LongStorage': torch.int64,
    'ShortStorage': torch.int16,
}
UNTYPED = 'torch.storage.UntypedStorage'
# fmt: off
NUMBERS = (
    'bfloat16', 'bool', 'complex64', 'complex128', 'float16', 'float32', 'float64', 'float8_e4m3fn', 'float8_e4m3fnuz',
    'float8_e5m2', 'float8_e5m2fnuz', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64',
)
# fmt: on
DTYPES = {f'torch.{name}': getattr(torch, name) for name in NUMBERS}
HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
STATISTICS = ('min', 'max', 'current', 'mean')  # Methods that a history names; they are not taken from the file.
TENSORS = ('torch.Tensor', 'torch.nn.parameter.Parameter')
OTHER_TENSORS = {  # What is no block of numbers in memory, by the function of torch that would rebuild it.
    '_rebuild_sparse_tensor': 'a sparse tensor',
    '_rebuild_qtensor': 'a quantized tensor',
    '_rebuild_meta_tensor_no_storage': 'a tensor without values (of the device "meta")',
    '_rebuild_nested_tensor': 'a nested tensor',
    '_rebuild_wrapper_subclass': 'a tensor of a class of its own',
}


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names."""

    path: str


@dataclass(frozen=True)
class Storage:
    """Bytes that tensors lie in, uint8 (N,), and what they mean; None where each tensor says that itself."""

    content: Tensor
    dtype: torch.dtype | None


def unpickle(file: IO[bytes], storage: Callable[[str, int], Tensor], size: int, most: int) -> Any:
    """Read one pickle.

    Args:
        file: At the pickle's first byte; left behind its last.
        storage: Returns the bytes of a storage, uint8 (N,), by its key and its number of bytes; it refuses what the
            file does not hold.
        size: Bytes of the pickle, or more; what it holds besides tensors may take some times as many.
        most: Bytes that all tensors together may have.

    Returns:
        Numbers, text, bytes, lists, tuples, sets, dicts with plain keys, tensors, arrays and numbers of NumPy,
        histories of mmengine, ``argparse.Namespace``; and :class:`Name` for a class that stands alone.

    Raises:
        UnpicklingError: If it is damaged, or holds anything else.
    """
    reader = _Reader(storage, size, most)
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if step > MOST_STEPS:
                raise UnpicklingError(f'it has more than {MOST_STEPS:,} values besides its tensors')
            reader.take(opcode.name, argument)
        return reader.stack[-1]
    except DAMAGE as error:
        raise UnpicklingError(f'it is damaged ({type(error).__name__}: {str(error)[:200]})') from error


class _Reader:
    """The stack machine that a pickle is a program for."""

    def __init__(self, storage: Callable[[str, int], Tensor], size: int, most: int) -> None:
        self.storage = storage
        self.left = most
        self.values = SWELLING * size + (1 << 20)
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, opcode: str, argument: Any) -> None:
        """Do one step."""
        stack = self.stack
        match opcode:
            case 'BINGET' | 'LONG_BINGET':
                stack.append(self.memo[argument])
            case 'BINPUT' | 'LONG_BINPUT':
                self.memo[argument] = stack[-1]
            case 'MEMOIZE':
                self.memo[len(self.memo)] = stack[-1]
            case 'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT' | 'BINUNICODE' | 'SHORT_BINUNICODE':
                stack.append(argument)
            case 'SHORT_BINBYTES' | 'BINBYTES':
                stack.append(argument)
            case 'SHORT_BINSTRING' | 'BINSTRING':  # Python 2's text; genops decodes it as Latin-1.
                stack.append(argument)
            case 'NONE' | 'NEWTRUE' | 'NEWFALSE':
                stack.append({'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}[opcode])
            case 'EMPTY_DICT':
                stack.append({})
            case 'EMPTY_LIST':
                stack.append([])
            case 'EMPTY_TUPLE':
                stack.append(())
            case 'EMPTY_SET':
                stack.append(set())
            case 'MARK':
                self.outer.append(stack)
                self.stack = []
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                size = int(opcode[-1])
                if len(stack) < size:
                    raise IndexError('too few values')
                stack[-size:] = [tuple(stack[-size:])]
            case 'TUPLE':
                self.close().append(tuple(stack))
            case 'APPEND':
                item = stack.pop()
                _exactly(stack[-1], list).append(item)
            case 'APPENDS':
                _exactly(self.close()[-1], list).extend(stack)
            case 'ADDITEMS':
                _exactly(self.close()[-1], set).update(map(_key, stack))
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                _exactly(stack[-1], dict, OrderedDict)[_key(key)] = value
            case 'SETITEMS':
                target = _exactly(self.close()[-1], dict, OrderedDict)
                for key, value in zip(stack[::2], stack[1::2], strict=True):
                    target[_key(key)] = value
            case 'GLOBAL':
                stack.append(_named(*argument.split(' ', 1)))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                stack.append(_named(_exactly(module, str), _exactly(name, str)))
            case 'BINPERSID':
                stack.append(self.stored(stack.pop()))
            case 'REDUCE' | 'NEWOBJ':
                arguments, name = stack.pop(), stack.pop()
                stack.append(self.built(_exactly(name, Name).path, _exactly(arguments, tuple)))
            case 'BUILD':
                state = stack.pop()
                self.fill(stack[-1], state)
            case 'PROTO' | 'FRAME' | 'STOP':
                pass
            case _:
                raise UnpicklingError(f'it holds a step, {opcode}, that torch.save does not write')

    def close(self) -> list[Any]:
        """Return the stack around the innermost mark, and go on there; what stood in the mark is still at hand."""
        self.stack = self.outer.pop()
        return self.stack

    def stored(self, reference: Any) -> Storage:
        """Return the storage that a pickle refers to: ('storage', its class, its key, its device, its elements)."""
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[5:] not in ((), (None,)):
            raise UnpicklingError('it refers to something else than the values of a tensor')
        kind, name, key, _, count = reference[:5]
        path = _exactly(name, Name).path
        if kind != 'storage' or not isinstance(key, str) or not _is_size(count):
            raise UnpicklingError('it refers to something else than the values of a tensor')
        if path == UNTYPED:
            return Storage(self.storage(key, count), None)
        dtype = STORAGES[path.removeprefix('torch.')]
        return Storage(self.storage(key, count * dtype.itemsize), dtype)

    def built(self, path: str, arguments: tuple[Any, ...]) -> Any:
        """Return what a function or class of the table makes of checked arguments."""
        match path.removeprefix('torch._utils.'):
            case '_rebuild_tensor_v2' | '_rebuild_tensor':
                return self.tensor(*arguments[:4])
            case '_rebuild_tensor_v3':
                storage, offset, shape, strides, _, _, dtype = arguments[:7]
                return self.tensor(storage, offset, shape, strides, dtype)
            case '_rebuild_parameter' | '_rebuild_parameter_with_state':
                return _exactly(arguments[0], Tensor)
            case 'torch._tensor._rebuild_from_type_v2':  # A tensor with attributes, which stay behind.
                function, kind, inner = arguments[:3]
                if _exactly(kind, Name).path not in TENSORS:
                    raise UnpicklingError(f'it holds a tensor of a class of its own, {kind.path}')
                if _exactly(function, Name).path == path:
                    raise UnpicklingError('its tensors are nested')
                return self.built(function.path, _exactly(inner, tuple))
            case 'collections.OrderedDict':
                pairs = self.copied(_exactly(arguments[0], list, tuple) if arguments else ())
                return OrderedDict((_key(key), value) for key, value in pairs)
            case 'collections.Counter':  # The milestones of a schedule of steps.
                return Counter(self.copied(_exactly(arguments[0], dict) if arguments else {}))
            case 'torch.Size':
                sizes = _exactly(arguments[0], tuple, list)
                if not all(map(_is_size, sizes)):
                    raise ValueError('a size is no number')
                return torch.Size(self.copied(sizes))
            case 'torch.device':
                return torch.device(*(_exactly(part, str, int) for part in arguments))
            case '_codecs.encode':
                text, codec = arguments
                if codec not in ('latin1', 'latin-1'):
                    raise ValueError(f'bytes are encoded as {codec!r}')
                return self.copied(_exactly(text, str)).encode('latin-1')
            case 'builtins.set':
                return set(map(_key, self.copied(_exactly(arguments[0], list, tuple))))
            case 'builtins.getattr':
                owner, attribute = arguments
                if owner != Name(HISTORY) or attribute not in STATISTICS:
                    raise UnpicklingError(f'it asks for an attribute, {attribute!r:.60}, and so could run code')
                return Name(f'{HISTORY}.{attribute}')
            case 'numpy.dtype':
                return _dtype(arguments[0])
            case 'numpy.multiarray._reconstruct':
                return np.empty(0)  # Filled by the step that follows.
            case 'numpy.multiarray.scalar':
                dtype, content = arguments
                if not isinstance(dtype, np.dtype) or len(_exactly(content, bytes)) != dtype.itemsize:
                    raise ValueError('a number has too few bytes')
                return np.frombuffer(content, dtype)[0]
            case 'mmengine.logging.history_buffer.HistoryBuffer':
                from mmengine.logging import HistoryBuffer  # Not before it is needed: without mmengine, files are read.

                return HistoryBuffer()
            case 'argparse.Namespace':
                return argparse.Namespace()
        raise UnpicklingError(f'it calls {path}')

    def fill(self, value: Any, state: Any) -> None:
        """Take the state of an object that was just made."""
        if type(value) is OrderedDict:  # A state dict; the versions of its modules say how they load.
            metadata = _exactly(state, dict).get('_metadata')
            if isinstance(metadata, dict):
                for entry in metadata.values():
                    _exactly(_exactly(entry, dict, OrderedDict).get('version', 0), int, type(None))
                value._metadata = metadata  # type: ignore[attr-defined]
        elif type(value) is np.ndarray:
            _, shape, dtype, fortran, content = state
            if not isinstance(dtype, np.dtype) or not all(map(_is_size, shape)):
                raise ValueError('an array has no sizes')
            if math.prod(shape) * dtype.itemsize != len(_exactly(content, bytes)):
                raise UnpicklingError('it holds an array with too few values')
            state = (1, shape, dtype, bool(fortran), self.copied(content))
            value.__setstate__(state)
        elif isinstance(value, np.dtype):
            if state[1] not in ('<', '=', '|') or any(part is not None for part in state[2:5]):
                raise UnpicklingError(f'it holds numbers of a kind that is not read, {state[1]!r:.20}{value.str[1:]}')
        elif type(value) is argparse.Namespace:
            vars(value).update({_exactly(key, str): entry for key, entry in _exactly(state, dict).items()})
        elif f'{type(value).__module__}.{type(value).__name__}' == HISTORY:
            logged, counts, most = state['_log_history'], state['_count_history'], state.get('max_length', 1_000_000)
            if not all(type(each) is np.ndarray and each.ndim == 1 for each in (logged, counts)) or not _is_size(most):
                raise ValueError('a history is no row of numbers')
            if len(logged) != len(counts):
                raise ValueError('a history has other counts than values')
            value.__init__(self.copied(logged), self.copied(counts), max(1, most))
        else:
            raise UnpicklingError(f'it gives a state to a {type(value).__name__}, and so could run code')

    def copied(self, values: Any) -> Any:
        """Return what is about to be copied; a pickle may name a large value many times, and hold it once."""
        self.values -= 8 * len(values)
        if self.values < 0:
            raise UnpicklingError('its values besides the tensors are larger than the file')
        return values

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, dtype: Any = None) -> Tensor:
        """Return a tensor within its storage; one that shows its elements more than once is refused."""
        content = _exactly(storage, Storage).content
        dtype = _exactly(dtype or storage.dtype, torch.dtype)
        shape, strides = tuple(shape), tuple(strides)
        if not all(map(_is_size, (offset, *shape, *strides))) or not len(shape) == len(strides) <= MOST_DIMENSIONS:
            raise ValueError('a tensor has no sizes')
        count, held = math.prod(shape), len(content) // dtype.itemsize
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if count > held:
            raise UnpicklingError(f'it holds a tensor of {count:,} elements, of which {held:,} are stored')
        if count and last >= held:
            raise UnpicklingError('it holds a tensor that reaches beyond its values')
        self.left -= count * dtype.itemsize
        if self.left < 0:
            raise UnpicklingError('its tensors share their values, and are larger than the limit')
        if not count:
            return content.new_empty(shape, dtype=dtype)
        return content[: held * dtype.itemsize].view(dtype).as_strided(shape, strides, offset)


BUILT = {  # All that a pickle may name; `_Reader.built` says what becomes of it.
    *TENSORS,
    *DTYPES,
    UNTYPED,
    HISTORY,
    *(f'torch.{name}' for name in STORAGES),
    *(f'torch._utils._rebuild_{name}' for name in ('tensor', 'tensor_v2', 'tensor_v3')),
    *(f'torch._utils._rebuild_{name}' for name in ('parameter', 'parameter_with_state')),
    'torch._tensor._rebuild_from_type_v2',
    'torch.Size',
    'torch.device',
    'collections.OrderedDict',
    'collections.Counter',
    'argparse.Namespace',
    '_codecs.encode',
    'builtins.set',
    'builtins.getattr',
    'numpy.ndarray',
    'numpy.dtype',
    'numpy.multiarray._reconstruct',
    'numpy.multiarray.scalar',
}


def _named(module: str, name: str) -> Any:
    """Return a type of numbers, or the name of what is in the table."""
    module = 'builtins' if module == '__builtin__' else module  # As Python 2 called it, and protocol 2 does.
    module = re.sub(r'^numpy\._?core\.multiarray$', 'numpy.multiarray', module)  # NumPy 2 renamed it.
    path = f'{module}.{name}'
    if path in DTYPES:
        return DTYPES[path]
    if path not in BUILT:
        if module == 'torch._utils' and name in OTHER_TENSORS:
            raise UnpicklingError(f'it holds {OTHER_TENSORS[name]}; only plain ones are read')
        raise UnpicklingError(f'it holds {path[:100]!r}, which could run code')
    return Name(path)


def _dtype(spec: Any) -> np.dtype:
    """Return a type of numbers; no objects, structures or text."""
    if not isinstance(spec, str) or not re.fullmatch(r'[biufc]\d{1,2}', spec):
        raise UnpicklingError(f'it holds an array of {spec!r:.40}, which is no number')
    return np.dtype(spec)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _key(value: Any) -> Any:
    """Return a key; a plain one, as the hash of nested tuples overflows the stack of the machine."""
    return _exactly(value, str, int, float, bool, bytes, type(None))


def _exactly(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f'a {type(value).__name__} stands where a {kinds[0].__name__} belongs')
    return value


def tensors_in(content: Any) -> Iterable[tuple[str, Tensor]]:
    """Yield all tensors in nested dicts, lists and tuples, each once, with the path to it."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [('', content)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            # Cut, as a list in a list in a list, a million times, would have a path of a million numbers.
            waiting += ((f'{path}.{key}'[-200:] if path else str(key), item) for key, item in items)
