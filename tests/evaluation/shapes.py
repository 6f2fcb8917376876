"""Vessel-like masks for the tests, drawn from a seed."""

from __future__ import annotations

import cv2
import numpy as np


def vessels(seed: int, size: int = 64, lines: int = 3, shift: float = 0.0) -> np.ndarray:
    """Bent lines of different width, (size, size) uint8 in {0, 1}; ``shift`` moves them by pixels."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    for _ in range(lines):
        start, heading = generator.uniform(0.1, 0.9, 2) * size, generator.uniform(0, 2 * np.pi)
        headings = heading + np.cumsum(generator.normal(0, 0.3, 12))
        points = start + np.cumsum(size / 16 * np.stack([np.cos(headings), np.sin(headings)], axis=1), axis=0)
        cv2.polylines(
            mask, [np.round(points + shift).astype(np.int32)], False, 1, int(generator.integers(1, size // 9))
        )
    return mask
