"""What a pre-training algorithm can do beside training: a figure, a held-out loss. Others go without, and say so."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import nn

from vasomim.data.datasets import AngiogramDataset
from vasomim.data.transforms import LoadAnatomy
from vasomim.errors import ConfigError


def reconstructs(model: nn.Module) -> bool:
    """Return whether a model gives what a figure shows: ``reconstruct``, and grey levels by its preprocessor."""
    denormalize = getattr(getattr(model, 'data_preprocessor', None), 'denormalize', None)
    return callable(getattr(model, 'reconstruct', None)) and callable(denormalize)


def validates(model: nn.Module) -> bool:
    """Return whether a model has the mode ``predict``, which a validation calls.

    mmpretrain's self-supervised algorithms have none: they come without ``predict`` and with the ``forward`` of their
    base.
    """
    if not isinstance(model, BaseSelfSupervisor):
        return True
    return hasattr(model, 'predict') or type(model).forward is not BaseSelfSupervisor.forward


def check_anatomy(model: nn.Module, dataset: Any, where: str = 'train_dataloader.dataset') -> None:
    """Check that frames bring the anatomy that a model needs.

    Args:
        model: One of another kind than this project's asks for nothing.
        dataset: The data, wrapped or not. What is of another kind is not judged; its first step without anatomy names
            the frame.
        where: The place of the data set in the config, for the error.

    Raises:
        ConfigError: If the model needs anatomy and the data set gives none.
    """
    while not isinstance(dataset, AngiogramDataset) and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if 'anatomy' not in getattr(model, 'needs', ()) or not isinstance(dataset, AngiogramDataset):
        return
    steps = getattr(dataset.pipeline, 'transforms', [])
    if not dataset.gives_anatomy or not any(isinstance(step, LoadAnatomy) for step in steps):
        raise ConfigError(
            where,
            f'its {type(dataset).__name__} gives no anatomy, and the model needs it.',
            'Give the data set anatomy maps or a filter and keep LoadAnatomy in its pipeline, or take '
            'model.guidance.eta=0 (the segmentor alone).',
        )
