"""What a checkpoint says of the training that it was written by, checked before a training goes on from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vasomim.errors import CheckpointError

COUNTS = {
    'epoch': None,
    'iter': None,
    'position': 0,
    'epoch_length': 0,
}  # With their defaults; None: it has to be there.
MOST_SEED = 1 << 32


def check_training_state(content: Any, filename: str) -> None:
    """Check the numbers that the loop, the random numbers and the optimizer go on with.

    Args:
        content: Of the checkpoint.
        filename: Its name, for the error.

    Raises:
        CheckpointError: If it holds weights alone, or a number that no training writes.
    """
    cure = 'Take a checkpoint that the training wrote, or start from its weights: --cfg-options load_from=CHECKPOINT.'
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping) or not isinstance(content.get('message_hub'), Mapping):
        raise CheckpointError(filename, 'it holds weights, but no state of a training to go on from.', cure)
    wrong = [key for key, default in COUNTS.items() if not _is_count(meta.get(key, default))]
    seed = meta.get('seed')
    if seed is not None and not (_is_count(seed) and seed < MOST_SEED):
        wrong.append('seed')
    optimizer = content.get('optimizer', {})
    groups = optimizer.get('param_groups', []) if isinstance(optimizer, Mapping) else None
    if not isinstance(groups, list) or not all(map(_is_group, groups)):
        wrong.append('optimizer')
    if wrong:
        raise CheckpointError(filename, f'its training state is damaged in {", ".join(wrong)}.', cure)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_group(value: Any) -> bool:
    rate = value.get('lr', 0.0) if isinstance(value, Mapping) else None
    return isinstance(rate, (int, float)) and math.isfinite(rate) and rate >= 0
