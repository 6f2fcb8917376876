"""Leave frames out: those nearly the same as one that is kept, and those that resemble a test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vasomim.prepare.prepared import image_path, read_split
from vasomim.prepare.similarity import SIDE, describe_frames, describe_pixels

SIMILAR = 'similar'
LIKE_TEST = 'like a test frame'

Copies = NDArray[np.float32]


@dataclass(frozen=True)
class Rule:
    """When a frame is left out.

    Attributes:
        threshold: Correlation of small copies above which frames are nearly the same; None: none is left out for it.
        across: Whether a frame is compared with all that are kept, not with the last one of its series only.
        test_threshold: The same for test frames.
        tests: File with the small copies of the test frames, (N, SIDE * SIDE); None: no test frames.
    """

    threshold: float | None
    across: bool
    test_threshold: float
    tests: Path | None

    @property
    def idle(self) -> bool:
        """Whether nothing is ever left out."""
        return self.threshold is None and self.tests is None


class Thinner:
    """Decide frame by frame, in their order; keeps what frames are compared with.

    Args:
        rule: When a frame is left out.
        most: Number of frames that may come, for ``rule.across``.
    """

    def __init__(self, rule: Rule, most: int) -> None:
        self.rule = rule
        self.tests = np.load(rule.tests, mmap_mode='r') if rule.tests else None
        # One block from the start: to join a growing list of copies anew for every frame would be quadratic.
        self.kept = np.empty((most if rule.across else 1, SIDE * SIDE), np.float32)
        self.number = 0
        self.series: str | None = None

    def reason(self, pixels: NDArray[np.uint8], series: str) -> str:
        """Return why a frame is left out: :data:`SIMILAR`, :data:`LIKE_TEST`, or '' if it is kept."""
        if self.rule.idle:
            return ''
        _, copy = describe_pixels(pixels)
        if self.tests is not None and (self.tests @ copy).max(initial=-1) > self.rule.test_threshold:
            return LIKE_TEST
        if self.rule.threshold is None:
            return ''
        if not self.rule.across and series != self.series:
            self.series, self.number = series, 0
        if self.number and (self.kept[: self.number] @ copy).max() > self.rule.threshold:
            return SIMILAR
        if self.rule.across:
            self.kept[self.number] = copy
            self.number += 1
        else:
            self.kept[0], self.number = copy, 1
        return ''


def read_tests(sets: Sequence[Path]) -> Copies:
    """Return the small copies of the test splits of prepared sets, (N, SIDE * SIDE).

    Raises:
        DatasetError: If a set cannot be read.
    """
    paths = [image_path(root, name) for root in sets for name in read_split(root, 'test')]
    return describe_frames(paths)[1]
