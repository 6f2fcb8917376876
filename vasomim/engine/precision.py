"""Mixed precision, on CPUs as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Forward pass in bfloat16, everything else in float32.

    bfloat16 has the range of float32, so there is no loss to scale. mmengine's ``AmpOptimWrapper`` scales it all the
    same, waits for the accelerator at every step to look for overflows, and refuses to run without a GPU.

    Args:
        **kwargs: Arguments of mmengine's ``OptimWrapper``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocasting, and mmengine's context for accumulated gradients."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def mixed_precision(optim_wrapper: dict) -> tuple[dict, str]:
    """Return a config for mixed precision, and what it is in words.

    Args:
        optim_wrapper: Config of an ``OptimWrapper``; one of another type is left as it is.
    """
    if optim_wrapper.get('type', 'OptimWrapper') != 'OptimWrapper':
        return optim_wrapper, f'as {optim_wrapper["type"]} does it'
    if not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False):
        return {**optim_wrapper, 'type': 'AutocastOptimWrapper'}, 'bfloat16'
    return {
        **optim_wrapper,
        'type': 'AmpOptimWrapper',
        'dtype': 'float16',
        'loss_scale': 'dynamic',
    }, 'float16 with loss scaling, as this GPU has no bfloat16'
