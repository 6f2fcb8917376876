"""``compile=True``: the parts of a model where a step spends its time, compiled by ``torch.compile``."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from vasomim.errors import ConfigError, StackError


def compile_parts(model: nn.Module, options: bool | Mapping[str, Any] | None) -> int:
    """Compile each layer of encoder and decoder, and the segmentor, in place; return how many parts.

    mmengine would compile the whole step with preprocessing, masks, hooks and optimizer, which takes minutes and gains
    nothing beside. All layers of one size share one compilation. Names of tensors and checkpoints stay the same.

    Args:
        model: Wrapped for several processes or not.
        options: True; or keyword arguments of ``torch.compile``, such as ``dict(mode='max-autotune')``; False and None
            compile nothing.

    Raises:
        StackError: If there is no compiler to do it with.
        ConfigError: If the model has no such part, or the options are of another kind.
    """
    if options is None or options is False:
        return 0
    if options is not True and not isinstance(options, Mapping):
        raise ConfigError('compile', f'{options!r} is neither True, False nor a dict.', "Try dict(mode='default').")
    from vasomim.models.unext import UNeXt

    arguments = {} if options is True else dict(options)
    if arguments.get('backend', 'inductor') == 'inductor':  # The default; others may need no compiler.
        check_compiler()
    parts = 0
    for module in list(model.modules()):
        if isinstance(module, TransformerEncoderLayer):
            share_dropped_paths(module)
            module.compile(**arguments)
            parts += 1
        elif isinstance(module, UNeXt):  # Called by its method for logits.
            module._forward = torch.compile(module._forward, **arguments)  # type: ignore[method-assign]
            parts += 1
    if not parts:
        raise ConfigError('compile', f'{type(model).__name__} has no layers of a ViT and no UNeXt.', 'Leave it out.')
    return parts


def share_dropped_paths(layer: nn.Module) -> None:
    """Let layers that differ in their share of dropped paths alone have one compilation, in place.

    mmpretrain gives a NumPy scalar for it, at which the compiler breaks off. A number would be part of what is
    compiled, so that each layer had its own and, beyond PyTorch's limit of 8, none.
    """
    for parent in list(layer.modules()):
        for name, child in parent.named_children():
            if isinstance(child, DropPath):
                child.drop_prob = float(child.drop_prob)
                if child.drop_prob > 0:
                    setattr(parent, name, SharedDropPath(child.drop_prob).to(next(layer.parameters()).device))


class SharedDropPath(nn.Module):
    """mmcv's ``DropPath`` with its probability in a tensor.

    Args:
        drop_prob: Share of the rows that become zero, in (0, 1); the others are scaled up.
    """

    keep: Tensor

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.register_buffer('keep', torch.tensor(1 - drop_prob), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop rows of (B, ...) in training."""
        if not self.training:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < self.keep
        return x * kept / self.keep


def check_compiler() -> None:
    """Check that ``torch.compile`` finds what it needs.

    Raises:
        StackError: If the compiler or Python's headers are missing.
    """
    gpu = torch.cuda.is_available()
    usual = ('gcc', 'clang') if gpu else ('clang++',) if sys.platform == 'darwin' else ('g++',)
    names = [os.environ['CC' if gpu else 'CXX']] if os.environ.get('CC' if gpu else 'CXX') else list(usual)
    if not any(shutil.which(name) for name in names):
        raise StackError(
            'compile',
            f'torch.compile needs a compiler, and there is no {" or ".join(names)}.',
            'Install one (Debian and Ubuntu: apt-get install g++), or leave out compile.',
        )
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        raise StackError(
            'compile',
            "torch.compile needs Python's header files, and there is no Python.h.",
            'Install them (Debian and Ubuntu: apt-get install python3-dev), or leave out compile.',
        )
