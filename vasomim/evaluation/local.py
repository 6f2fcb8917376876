"""Overlap in parts of a frame: along thin and wide vessels, or around small and large lesions.

Every pixel of truth or prediction belongs to the part of the truth that is nearest to it: to a point of the centerline
and its vessel width, or to a lesion and its area. So a missed vessel and a false one beside it count against the same
width, and the parts of a frame sum up to the whole. At its ends and corners a wide vessel counts as a thin one. Which
widths are thin is known after the last frame only; until then each frame keeps its counts per width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from vasomim.evaluation.centerline import centerline, width_map
from vasomim.evaluation.overlap import check_shapes


@dataclass(frozen=True)
class LocalCounts:
    """Counts of one frame for each size that occurs in its truth; nothing where the truth is empty.

    Attributes:
        size: Vessel widths in pixels or lesion areas in pixels, (K,), rising.
        weight: Points of the true centerline of this width, or lesions of this area, (K,).
        overlap: |P and T|, |P| and |T| in pixels, (K, 3).
        lines: |S_P and V_T|, |S_P|, |S_T and V_P| and |S_T| of the centerlines S, (K, 4).
    """

    size: np.ndarray
    weight: np.ndarray
    overlap: np.ndarray
    lines: np.ndarray


def counts_by_width(
    prediction: np.ndarray, truth: np.ndarray, prediction_line: np.ndarray | None = None
) -> LocalCounts:
    """Count overlap for each vessel width of the truth.

    Args:
        prediction: (H, W); everything but 0 counts.
        truth: (H, W).
        prediction_line: Centerline of the prediction, if it is at hand, (H, W) bool.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(prediction, truth)
    line = centerline(truth)
    seeds = np.argwhere(line)
    widths, part, weight = np.unique(width_map(truth)[line], return_inverse=True, return_counts=True)
    return _count(prediction, truth, prediction_line, line, seeds, part, widths, weight)


def counts_by_lesion(
    prediction: np.ndarray, truth: np.ndarray, prediction_line: np.ndarray | None = None
) -> LocalCounts:
    """Count overlap for each lesion area of the truth; pixels that touch, even at a corner, are one lesion.

    Args:
        prediction: (H, W); everything but 0 counts.
        truth: (H, W).
        prediction_line: Centerline of the prediction, if it is at hand, (H, W) bool.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(prediction, truth)
    lesion, _ = ndimage.label(truth > 0, structure=np.ones((3, 3)))
    areas, size_of, weight = np.unique(np.bincount(lesion.ravel())[1:], return_inverse=True, return_counts=True)
    seeds = np.argwhere(lesion)
    part = size_of[lesion[tuple(seeds.T)] - 1]
    return _count(prediction, truth, prediction_line, centerline(truth), seeds, part, areas.astype(float), weight)


def _count(
    prediction: np.ndarray,
    truth: np.ndarray,
    prediction_line: np.ndarray | None,
    truth_line: np.ndarray,
    seeds: np.ndarray,
    part: np.ndarray,
    size: np.ndarray,
    weight: np.ndarray,
) -> LocalCounts:
    if not len(seeds):
        return LocalCounts(size, weight, np.zeros((0, 3), dtype=int), np.zeros((0, 4), dtype=int))
    predicted, true = prediction.astype(bool), truth.astype(bool)
    predicted_line = centerline(predicted) if prediction_line is None else prediction_line
    pixels = np.nonzero(predicted | true)
    _, nearest = KDTree(seeds).query(np.stack(pixels, axis=1))

    def per_part(selected: np.ndarray) -> np.ndarray:
        return np.bincount(part[nearest[selected[pixels]]], minlength=len(size))

    overlap = [predicted & true, predicted, true]
    lines = [predicted_line & true, predicted_line, truth_line & predicted, truth_line]
    return LocalCounts(
        size,
        weight,
        np.stack([per_part(selected) for selected in overlap], axis=1),
        np.stack([per_part(selected) for selected in lines], axis=1),
    )
