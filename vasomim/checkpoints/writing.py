"""Tensors into files: whole, or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vasomim.files import in_one_step


def save_weights(tensors: dict[str, Tensor], path: str | Path, config: str | None = None, **facts: str) -> None:
    """Write tensors as safetensors, with the config and further facts in the header: the same content, the same bytes.

    Raises:
        StorageError: If the file cannot be written; what stood there stays.
    """
    metadata = {'format': 'pt', **facts, **({'config': config} if config else {})}
    with in_one_step(Path(path)) as unfinished, _as_os_errors():
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(stored, unfinished, metadata=metadata)
        sort_metadata(unfinished)


def sort_metadata(path: Path) -> None:
    """Sort the facts in the header of a safetensors file, which its library writes in an order of chance."""
    with open(path, 'rb+') as file:
        length = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(length))
        header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
        content = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode().ljust(length)
        assert len(content) == length, 'a sorted header is as long as it was'
        file.seek(8)
        file.write(content)


def save_pickled(content: dict[str, Any], path: str | Path) -> None:
    """Write a file of PyTorch, as :func:`save_weights`."""
    # A file of Python's, which says what is wrong with the disk; torch's own says 'unexpected pos'.
    with in_one_step(Path(path)) as unfinished, _as_os_errors(), open(unfinished, 'wb') as file:
        torch.save(content, file)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Say what the operating system said, which both writers pass on as errors of their own."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r'os error (\d+)', str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    except RuntimeError as error:  # Raised while the archive is closed, behind the error of the disk.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from error
