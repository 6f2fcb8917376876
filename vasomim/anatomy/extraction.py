"""From one frame to its vessel mask: threshold the vesselness and keep the strongest tree."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.anatomy.filters import SIGMAS, vesselness

PERCENTILE = 92.0
BORDER = 20


def extract_anatomy(
    frame: NDArray[np.uint8],
    filter: str = 'sato',
    sigmas: Iterable[float] = SIGMAS,
    percentile: float = PERCENTILE,
    border: int = BORDER,
) -> NDArray[np.uint8]:
    """Segment the main vessel tree of one angiogram, without labels.

    Args:
        frame: Grey levels, uint8 (H, W), of any size; vessels are dark.
        filter: 'sato', as the released code computes it, or 'frangi', as the paper's text says.
        sigmas: Vessel half-widths in pixels.
        percentile: Pixels at or above this percentile of the whole frame's vesselness may belong to a vessel; 0-100.
        border: Width in pixels of the edge that never holds a vessel; a frame of at most twice this has none at all.

    Returns:
        uint8 (H, W) in {0, 1}: the 4-connected region around the strongest pixel. All zeros where nothing in the
        frame resembles a vessel, such as a frame of one grey level.

    Raises:
        TypeError: If ``frame`` is not an array of uint8.
        ValueError: If ``frame`` is not two-dimensional or is empty, or an option is out of its range.

    Source: arXiv 2602.11536, section on vascular anatomy extraction.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f'percentile lies between 0 and 100, not at {percentile}.')
    if border < 0:
        raise ValueError(f'border is a width in pixels, not {border}.')
    response = clear_border(vesselness(frame, filter, sigmas), border)
    # Where over `percentile` % of a frame is flat the percentile is 0; what has no vesselness is still no vessel.
    candidates = (response >= np.percentile(response, percentile)) & (response > 0)
    return grow(candidates, int(response.argmax()))


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
