"""Measures on the centerline: clDice, and the width of vessels along it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from vasomim.evaluation.overlap import check_shapes


def centerline(mask: np.ndarray) -> np.ndarray:
    """Thin a mask to lines of one pixel that keep its pieces, holes and branches (Zhang and Suen 1984).

    Args:
        mask: (H, W); everything but 0 counts.

    Returns:
        (H, W) bool; empty only where the mask is.
    """
    return skeletonize(mask.astype(bool))


def cl_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Centerline Dice: does the prediction follow the vessels, and only them, regardless of their width?

    With the centerline S of each mask V, topology precision is |S_P and V_T| / |S_P|, the share of the predicted
    centerline inside the true vessels; topology sensitivity is |S_T and V_P| / |S_T|; clDice is their harmonic mean.

    Args:
        prediction: (H, W); everything but 0 counts.
        truth: (H, W).

    Returns:
        The coefficient in [0, 1]; 1 where both masks are empty, 0 where one of them is or neither centerline meets the
        other vessels.

    Raises:
        ValueError: If the shapes differ.

    Source: Shit et al., clDice, CVPR 2021, section 2.
    """
    check_shapes(prediction, truth)
    return cl_dice_of_centerlines(prediction, truth, centerline(prediction), centerline(truth))


def cl_dice_of_centerlines(
    prediction: np.ndarray, truth: np.ndarray, prediction_line: np.ndarray, truth_line: np.ndarray
) -> float:
    """Centerline Dice of masks whose centerlines are at hand; see :func:`cl_dice`."""
    if not prediction_line.any() and not truth_line.any():
        return 1.0
    hits = np.array([(prediction_line & (truth > 0)).sum(), (truth_line & (prediction > 0)).sum()])
    return float(cl_dice_of_counts(np.array([hits[0], prediction_line.sum(), hits[1], truth_line.sum()])))


def cl_dice_of_counts(counts: np.ndarray) -> np.ndarray:
    """Centerline Dice from pixel counts, at least one centerline not being empty.

    Args:
        counts: |S_P and V_T|, |S_P|, |S_T and V_P| and |S_T| in the last axis, (..., 4).

    Returns:
        Coefficients in [0, 1], (...); 0 where one of the centerlines is empty.
    """
    precise, predicted, sensed, true = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    precision, sensitivity = precise / np.maximum(predicted, 1), sensed / np.maximum(true, 1)
    total = precision + sensitivity
    return np.divide(2 * precision * sensitivity, total, out=np.zeros_like(total), where=total > 0)


def vessel_width(mask: np.ndarray) -> np.ndarray:
    """Width of the vessels at each point of their centerline: twice the distance to the nearest background pixel.

    On straight vessels of an even number of pixels this is their width, of an odd number one pixel more. The frame's
    border is no edge, as vessels go on behind it; only a mask that fills the frame is measured up to the border.

    Args:
        mask: (H, W); everything but 0 counts.

    Returns:
        Widths in pixels, (points,), in the row by row order of the centerline's points; none where the mask is empty.
    """
    line = centerline(mask)
    return width_map(mask)[line]


def width_map(mask: np.ndarray) -> np.ndarray:
    """Twice the distance of each pixel of a mask to the background, (H, W) in pixels; see :func:`vessel_width`."""
    if mask.all():
        return 2 * ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return 2 * ndimage.distance_transform_edt(mask)
