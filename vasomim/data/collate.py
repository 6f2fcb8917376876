"""Frames and their anatomy as a batch of two tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from torch import Tensor
from torch.utils.data import default_collate


@FUNCTIONS.register_module()
def collate_angiograms(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack what :class:`~vasomim.data.transforms.PackAngiogram` packed; a loader's worker does it.

    A worker hands each tensor on as a file of its own, and pinning copies them one by one: two for a batch are quick
    and stay below the limit of open files, two for each frame do not.

    Args:
        items: ``inputs``, (1, H, W) each, and ``data_samples``.

    Returns:
        ``inputs`` (B, 1, H, W), ``data_samples``, and ``anatomy`` (B, 1, H, W), taken out of the samples, where all of
        them hold it. What differs in shape, or is no tensor, stays a list as mmengine's ``pseudo_collate`` gives it.
    """
    batch: dict[str, Any] = pseudo_collate(items)
    samples = batch.get('data_samples') or []
    if stackable(batch.get('inputs')):
        batch['inputs'] = default_collate(batch['inputs'])
    anatomy = [sample.get('anatomy') for sample in samples]
    if stackable(anatomy):
        batch['anatomy'] = default_collate(anatomy)
        for sample in samples:
            sample.pop('anatomy')
    return batch


def stackable(values: Any) -> bool:
    """Return whether values are tensors of one shape."""
    return bool(values) and all(isinstance(value, Tensor) and value.shape == values[0].shape for value in values)
