"""Models and pipelines from the config that a checkpoint carries, once it is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import Compose
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from vasomim.checkpoints.allowance import Allowance
from vasomim.errors import CheckpointError, DatasetError, VasoMIMError

CURE = 'Take a checkpoint that a training of this version wrote.'


def build_model(section: Mapping, scope: str, tensors: Mapping[str, Tensor], source: str | Path) -> Any:
    """Build a model of a section that :func:`vasomim.checkpoints.stored_check.buildable` gave.

    Args:
        section: Of the model.
        scope: Whose registries it is built from.
        tensors: Of the checkpoint. A model that is much larger is given up before its memory is taken.
        source: The checkpoint, for the error.

    Raises:
        CheckpointError: If the model is too large, or a class refuses its values.
    """
    with blamed_on_config(source), Allowance(tensors), DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(copy.deepcopy(section))
    if not isinstance(model, nn.Module):
        raise CheckpointError(source, f'its config describes a {type(model).__name__}, which is no model.', CURE)
    return model


def build_pipeline(steps: Sequence[Mapping], scope: str, source: str | Path) -> Callable[[dict], Any]:
    """Build the transforms of a pipeline that :func:`vasomim.checkpoints.stored_check.buildable` gave.

    Raises:
        CheckpointError: If a class refuses its values.
    """
    with blamed_on_config(source), DefaultScope.overwrite_default_scope(scope):
        return Compose(copy.deepcopy(list(steps)))


@contextmanager
def blamed_on_config(source: str | Path, what: str = 'what its config describes cannot be built') -> Iterator[None]:
    """Turn what a model or a pipeline raises, as it is built or on a sound frame, into an error of the checkpoint.

    Args:
        source: The checkpoint.
        what: What is wrong with it.

    Raises:
        CheckpointError: In place of any other error, but that of a frame, or of memory that a GPU has not.
    """
    try:
        yield
    except (CheckpointError, DatasetError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = f'{error.where}: {error.what}' if isinstance(error, VasoMIMError) else f'{type(error).__name__}: {error}'
        raise CheckpointError(source, f'{what}: {said[:300]}', CURE) from error
