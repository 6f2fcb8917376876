"""Narrowings of the lumen, put where they can be seen, with their place known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vasomim.synthetic.imaging import Array, Flags
from vasomim.synthetic.tree import STEP, Branch, CoronaryTree


@dataclass(frozen=True)
class Narrowing:
    """One lesion.

    Attributes:
        branch: Index of the branch in the tree.
        first: First sample of the branch that is narrowed.
        last: Last sample of the branch that is narrowed.
        severity: Loss of diameter at the narrowest point, in (0, 1).
        skew: Where the narrowest point lies, share of the lesion's length, in (0, 1).
    """

    branch: int
    first: int
    last: int
    severity: float
    skew: float

    def profile(self) -> Array:
        """Return what is left of the radius along the lesion, (last - first + 1,), in (0, 1]."""
        way = np.linspace(0, 1, self.last - self.first + 1)
        bent = np.where(way < self.skew, 0.5 * way / self.skew, 0.5 + 0.5 * (way - self.skew) / (1 - self.skew))
        return 1 - self.severity * np.sin(np.pi * bent) ** 2


def place_narrowings(
    rng: np.random.Generator, branches: Sequence[Branch], visible: Sequence[Flags], number: int
) -> list[Narrowing]:
    """Choose where to narrow.

    Args:
        rng: Where all variation comes from.
        branches: The tree's branches.
        visible: For each branch, the samples at which a narrowing would be seen, (N,).
        number: How many to place; fewer are placed where there is no room for more.

    Returns:
        Narrowings that do not overlap.
    """
    taken = [~seen for seen in visible]
    owner = np.concatenate([np.full(len(seen), k) for k, seen in enumerate(visible)])
    sample = np.concatenate([np.arange(len(seen)) for seen in visible])
    candidates = np.flatnonzero(np.concatenate(list(visible)))
    placed: list[Narrowing] = []
    if not len(candidates):
        return placed
    for attempt in range(12 * number):
        if len(placed) == number:
            break
        pick = int(rng.choice(candidates))
        # Later attempts ask for shorter lesions, which fit into what is left.
        length = float(np.clip(rng.lognormal(np.log(31.0), 0.42), 12.0, 60.0)) * 0.93**attempt
        half = max(int(length / STEP / 2), 8)
        branch, center = int(owner[pick]), int(sample[pick])
        first, last = center - half, center + half
        if first < 0 or last >= len(taken[branch]) or taken[branch][first : last + 1].any():
            continue
        taken[branch][max(first - 10, 0) : last + 11] = True
        placed.append(Narrowing(branch, first, last, float(rng.uniform(0.4, 0.88)), float(rng.uniform(0.3, 0.7))))
    return placed


def narrow(tree: CoronaryTree, narrowings: Sequence[Narrowing]) -> CoronaryTree:
    """Return the tree with its lumen narrowed; branches that leave within a lesion keep their own width."""
    branches = list(tree.branches)
    for lesion in narrowings:
        branch = branches[lesion.branch]
        radii = branch.radii.copy()
        radii[lesion.first : lesion.last + 1] *= lesion.profile()
        branches[lesion.branch] = replace(branch, radii=radii)
    return replace(tree, branches=tuple(branches))
