"""A limit of what a model may take while it is built, by the checkpoint that it is built for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# This many times the values and tensors of the checkpoint, and these besides.
TIMES, VALUES, TENSORS = 4, 1 << 26, 4096


class Allowance(TorchDispatchMode):
    """Ends with a ``MemoryError`` before more tensors, or larger ones, are made inside than a checkpoint accounts for.

    Args:
        tensors: Of the checkpoint.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        # A tensor may claim more values than are stored for it, and several may share what is stored.
        stored = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() // tensor.element_size()
            for tensor in tensors.values()
        }
        self.values = TIMES * sum(stored.values()) + VALUES
        self.tensors = TIMES * len(tensors) + TENSORS

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operator is going to make, and let it."""
        kwargs = kwargs or {}
        if not function.is_view and not function._schema.is_mutable:
            self.values -= _values_made(function, args, kwargs)
            self.tensors -= 1
            if self.values < 0 or self.tensors < 0:
                raise MemoryError('it is larger than the tensors of the checkpoint')
        return function(*args, **kwargs)


def _values_made(function: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Return the number of values in what an operator makes, without making it."""

    def without_values(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device='meta')
        return value

    args, kwargs = tree_map(without_values, (args, kwargs))
    names = {argument.name for argument in function._schema.arguments}
    kwargs.update({name: value for name, value in (('device', 'meta'), ('generator', None)) if name in names})
    if 'pin_memory' in names:
        kwargs['pin_memory'] = False
    try:
        made = function(*args, **kwargs)
    except (NotImplementedError, RuntimeError):  # It reads values, as `item` and `nonzero`, or fails anyhow.
        return 0
    return sum(each.numel() for each in tree_flatten(made)[0] if isinstance(each, Tensor))
