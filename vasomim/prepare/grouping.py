"""Divide a set without published splits: whole patients or series, seeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vasomim.frames.layout import DIGITS, series_key


def split_by_group(groups: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give each frame a split, such that the frames of a group stay together.

    The groups are shuffled and handed out; a split takes a group where that brings it closer to its share. Each split
    gets a group at least, in the order of ``shares``, as long as 'train' keeps one.

    Args:
        groups: The group of each frame: its patient, its series, or itself.
        shares: What part of the frames each split but 'train' gets, (0, 1); 'train' gets the rest.
        seed: Another seed, other splits.

    Returns:
        The split of each frame.
    """
    sizes = Counter(groups.values())
    order = sorted(sizes)
    left = [order[k] for k in np.random.default_rng(seed).permutation(len(order))]
    split_of: dict[str, str] = {}
    for split, share in shares.items():
        wanted = share * len(groups)
        taken = 0
        for group in list(left):
            if len(left) == 1:
                break
            if taken == 0 or abs(taken + sizes[group] - wanted) < abs(taken - wanted):
                split_of[group] = split
                taken += sizes[group]
                left.remove(group)
    return {frame: split_of.get(group, 'train') for frame, group in groups.items()}


def patients(names: Sequence[str]) -> dict[str, str]:
    """Return the patient of each frame: what its name holds before the first underscore; its series if there is none.

    Danilov's Stenosis set names its frames ``<patient>_<...>_<series>_<frame>``.
    """
    own = series(names)
    return {name: name.partition('_')[0] if '_' in name else own[name] for name in names}


def series(names: Sequence[str]) -> dict[str, str]:
    """Return the series of each frame: its name up to the trailing number; a name that is a number stands alone."""
    return {name: name if not name.strip(DIGITS) else series_key(name)[0] for name in names}
