"""From one frame to its vessel mask: threshold the vesselness and keep the strongest tree."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.anatomy.filters import find_filter, vesselness

BORDER = 20


def extract_anatomy(
    frame: NDArray[np.uint8],
    filter: str = 'sato',
    sigmas: Iterable[float] | None = None,
    percentile: float | None = None,
    border: int = BORDER,
) -> NDArray[np.uint8]:
    """Segment the main vessel tree of one angiogram, without labels.

    Args:
        frame: Grey levels, uint8 (H, W), of any size; vessels are dark.
        filter: 'sato', as the released code computes it, 'frangi', as the paper's text says, or 'contrast', this
            project's own, which agrees better with the labelled vessels.
        sigmas: Vessel half-widths in pixels; None: the filter's own.
        percentile: Pixels at or above this percentile of the whole frame's vesselness may belong to a vessel; 0-100.
            None: the filter's own.
        border: Width in pixels of the edge that never holds a vessel; a frame of at most twice this has none at all.

    Returns:
        uint8 (H, W) in {0, 1}: the 4-connected region around the strongest pixel; with 'contrast' the largest one.
        All zeros where nothing in the frame resembles a vessel, such as a frame of one grey level.

    Raises:
        TypeError: If ``frame`` is not an array of uint8.
        ValueError: If ``frame`` is not two-dimensional or is empty, or an option is out of its range.

    Source: arXiv 2602.11536, section on vascular anatomy extraction.
    """
    chosen = find_filter(filter)
    if percentile is None:
        percentile = chosen.percentile
    if not 0 <= percentile <= 100:
        raise ValueError(f'percentile lies between 0 and 100, not at {percentile}.')
    if border < 0:
        raise ValueError(f'border is a width in pixels, not {border}.')
    response = clear_border(vesselness(frame, filter, sigmas), border)
    # Where over `percentile` % of a frame is flat the percentile is 0; what has no vesselness is still no vessel.
    candidates = (response >= np.percentile(response, percentile)) & (response > 0)
    return largest(candidates) if chosen.region == 'largest' else grow(candidates, int(response.argmax()))


def clear_border(response: NDArray, border: int) -> NDArray:
    """Return a copy of (H, W) with zeros in the outer ``border`` pixels of each side."""
    cleared = np.zeros_like(response)
    inside = tuple(slice(border, max(size - border, border)) for size in response.shape)
    cleared[inside] = response[inside]
    return cleared


def grow(candidates: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """Return as uint8 {0, 1} the 4-connected part of (H, W) that holds the pixel with the row-major index ``seed``."""
    if not candidates.flat[seed]:
        return np.zeros(candidates.shape, np.uint8)
    _, labels = cv2.connectedComponents(candidates.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return (labels == labels.flat[seed]).astype(np.uint8)


def largest(candidates: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return as uint8 {0, 1} the 4-connected part of (H, W) with the most pixels; the first of equal ones."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(candidates.view(np.uint8), connectivity=4)
    sizes = statistics[1:, cv2.CC_STAT_AREA]  # Label 0 is what is no candidate.
    return (labels == 1 + sizes.argmax()).astype(np.uint8) if sizes.size else np.zeros(candidates.shape, np.uint8)
