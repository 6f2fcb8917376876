"""Distance between the edges of two masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from vasomim.evaluation.overlap import check_shapes


def hausdorff95(prediction: np.ndarray, truth: np.ndarray, spacing: float | tuple[float, float] = 1.0) -> float:
    """95th percentile of the Hausdorff distance between the edges of two masks.

    The edge of a mask are its pixels that have the background, or the outside of the frame, beside, above or below
    them. From each edge pixel of one mask the distance to the nearest edge pixel of the other is measured, between
    pixel centers. HD95 is the larger of two 95th percentiles (linear interpolation): of the distances from prediction
    to truth and of those from truth to prediction.

    Args:
        prediction: (H, W); everything but 0 counts.
        truth: (H, W).
        spacing: Size of a pixel, or its height and width, > 0: 1 measures in pixels.

    Returns:
        The distance, >= 0, in the unit of ``spacing``; 0 where both masks are empty, NaN (undefined) where one is.

    Raises:
        ValueError: If the shapes differ or the spacing is not positive.

    Source: Maier-Hein et al., Metrics reloaded, Nature Methods 2024: Hausdorff distance percentile.
    """
    check_shapes(prediction, truth)
    scale = np.broadcast_to(np.asarray(spacing, dtype=float), (2,))
    if not (scale > 0).all():
        raise ValueError(f'The spacing {spacing} is not positive.')
    predicted, true = (np.argwhere(edge(mask)) * scale for mask in (prediction, truth))
    if not len(predicted) and not len(true):
        return 0.0
    if not len(predicted) or not len(true):
        return float('nan')
    forth, _ = KDTree(true).query(predicted)
    back, _ = KDTree(predicted).query(true)
    return float(max(np.percentile(forth, 95), np.percentile(back, 95)))


def edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have the background or the outside beside, above or below them, (H, W) bool."""
    inside = mask.astype(bool)
    return inside & ~ndimage.binary_erosion(inside)
