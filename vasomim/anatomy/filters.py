"""Ridge filters: how much each pixel looks like part of a dark tube."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.errors import did_you_mean

SMALLEST_SIGMA = 0.5

# Half-width of a kernel in its own standard deviations. At 4 a mask moves by up to 0.05 % of its pixels against
# kernels that are never cut, from 5 on by none.
TRUNCATE = 5.0

# Hessians smaller than this are rounding of the 32-bit convolutions: one grey level in one pixel already gives more.
FLAT = 1e-4

# Of the filter 'contrast': deviation of its windows in pixels, of grey levels that are still noise (as logarithms), and
# how many deviations below its surroundings a pixel counts as wholly dark.
SURROUNDINGS = 25.0
SMALLEST_DEVIATION = 0.02
DARKEST = 3.0

# Of each grey level, one brighter. NumPy's float32 logarithms differ in the last bit between processors; these are
# rounded from float64.
LOGARITHMS = np.log1p(np.arange(256.0)).astype(np.float32)

Float = NDArray  # Of float32, which OpenCV's type hints do not promise.


def vesselness(frame: NDArray[np.uint8], filter: str = 'sato', sigmas: Iterable[float] | None = None) -> NDArray:
    """Rate dark tubes at several widths, the best width of each pixel counting.

    Args:
        frame: Grey levels, uint8 (H, W), of any size from 1 x 1.
        filter: 'sato', 'frangi' or 'contrast'.
        sigmas: Widths in pixels, each at least 0.5. A tube of half-width sigma answers strongest. None: the filter's
            own.

    Returns:
        (H, W). Sato: uint8, the tubeness in grey levels, fractions cut off; at most 123, for a line of 0 on 255.
        Frangi: float32 in [0, 1]. Contrast: float32, 0 or more.

    Raises:
        TypeError: If ``frame`` is not an array of uint8.
        ValueError: If ``frame`` is not two-dimensional or is empty, ``filter`` is unknown or a sigma is out of range.

    Source: arXiv 2602.11536, section on vascular anatomy extraction; the cut to whole grey levels is part of the
    method, for it decides which of two almost equal vessels is the strongest.
    """
    check_frame(frame)
    recipe = find_filter(filter)
    widths = recipe.sigmas if sigmas is None else tuple(float(sigma) for sigma in sigmas)
    if not widths or not all(math.isfinite(sigma) and sigma >= SMALLEST_SIGMA for sigma in widths):
        raise ValueError(f'sigmas are one or more finite widths of at least {SMALLEST_SIGMA} px, not {widths}.')
    return recipe.respond(frame, widths)


def check_frame(frame: NDArray) -> None:
    """Refuse what is not an 8-bit grey frame.

    Raises:
        TypeError: If ``frame`` is not an array of uint8.
        ValueError: If ``frame`` does not have two dimensions, or no pixels.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise TypeError(f'A frame is a NumPy array of uint8, not {kind}. Rescale its grey levels to 0-255 first.')
    if frame.ndim != 2 or frame.size == 0:
        raise ValueError(f'A frame is grey, (H, W) with at least one pixel, not of shape {frame.shape}.')


def sato(frame: NDArray[np.uint8], sigmas: Sequence[float]) -> NDArray[np.uint8]:
    """Tubeness of Sato et al. 1998: sigma^2 times the larger eigenvalue of the Hessian, where that is positive."""
    best = np.zeros(frame.shape, np.float32)
    for sigma, hessian in zip(sigmas, hessians(frame, sigmas), strict=True):
        mean, radius = eigenvalues(hessian)
        cv2.max(best, (mean + radius) * np.float32(sigma**2), dst=best)
    return best.astype(np.uint8)


def frangi(frame: NDArray[np.uint8], sigmas: Sequence[float], beta: float = 0.5) -> Float:
    """Vesselness of Frangi et al. 1998 as scikit-image defines it for dark ridges.

    gamma is half of the largest Hessian norm in the frame at the first sigma and holds for all of them. alpha weighs
    plates against tubes and has no effect in two dimensions. Bright tubes answer 0, also the perfectly straight ones
    whose smaller eigenvalue is 0 and which scikit-image therefore lets through.
    """
    best = np.zeros(frame.shape, np.float32)
    gamma = 0.0
    for hessian in hessians(frame, sigmas):
        mean, radius = eigenvalues(hessian)
        norm_squared = 2 * (mean**2 + radius**2)
        gamma = gamma or float(np.sqrt(norm_squared.max())) / 2
        ridge = (mean > 0) & (norm_squared > FLAT**2)  # The eigenvalue of larger magnitude is positive: dark.
        blobness = np.abs(mean - radius)[ridge] / (mean + radius)[ridge]
        structure = -np.expm1(-norm_squared[ridge] / np.float32(2 * gamma**2))
        best[ridge] = np.maximum(best[ridge], np.exp(-(blobness**2) / (2 * beta**2)) * structure)
    return best


def contrast(frame: NDArray[np.uint8], sigmas: Sequence[float]) -> Float:
    """Tubeness of local contrast, weighted by the square root of how dark a pixel is in its surroundings.

    Contrast agent attenuates by a factor, wherever it lies: logarithms turn that into a difference, and the local mean
    and deviation take out spine, diaphragm and the fall of light, whose edges otherwise outshine thin vessels.

    Source: a choice of this project, made on validation frames of ARCADE: the mask's mean Dice against the labelled
    vessels of 200 frames is 0.59 with it; docs/performance.md has the comparison.
    """
    levels = standardize(LOGARITHMS[frame])
    best = np.zeros(frame.shape, np.float32)
    for sigma, hessian in zip(sigmas, hessians(levels, sigmas), strict=True):
        mean, radius = eigenvalues(hessian)
        cv2.max(best, (mean + radius) * np.float32(sigma**2), dst=best)
    best[best < FLAT] = 0
    return best * np.sqrt(np.clip(-levels, 0, DARKEST))


def standardize(levels: Float) -> Float:
    """Subtract from (H, W) the local mean and divide by the local deviation, Gaussian windows of ``SURROUNDINGS``."""
    deviation = levels - blur(levels)
    return deviation / (np.sqrt(blur(deviation**2)) + np.float32(SMALLEST_DEVIATION))


def blur(levels: Float) -> Float:
    """Smooth (H, W) with a wide Gaussian, on a quarter of the resolution, where it looks the same."""
    height, width = levels.shape
    small = cv2.resize(levels, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), SURROUNDINGS / 4, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Filter:
    """A ridge filter and how it is meant to be used.

    Attributes:
        respond: Rates (H, W) grey levels at some widths.
        sigmas: Its widths in pixels.
        percentile: Pixels at or above it may belong to a vessel, 0-100.
        region: Which connected region is the tree: that of the 'strongest' pixel, or the 'largest'.
    """

    respond: Callable[[NDArray[np.uint8], Sequence[float]], NDArray]
    sigmas: tuple[float, ...]
    percentile: float
    region: str


FILTERS = {
    'sato': Filter(sato, (1.0, 2.0, 3.0, 4.0), 92.0, 'strongest'),  # As the released code does.
    'frangi': Filter(frangi, (1.0, 2.0, 3.0, 4.0), 92.0, 'strongest'),  # arXiv 2602.11536.
    'contrast': Filter(contrast, (3.0, 5.0), 91.0, 'largest'),
}


def find_filter(name: str) -> Filter:
    """Return a filter by its name.

    Raises:
        ValueError: If there is none.
    """
    if name not in FILTERS:
        raise ValueError(f"Unknown filter '{name}'.{did_you_mean(name, FILTERS)} Choose from {', '.join(FILTERS)}.")
    return FILTERS[name]


def hessians(frame: NDArray, sigmas: Sequence[float]) -> Iterator[tuple[Float, Float, Float]]:
    """Yield the second derivatives (rows, mixed, columns), each (H, W), at each sigma.

    Each is two first-order Gaussian derivatives of sigma / sqrt(2) in succession, with the frame and its first
    derivatives reflected at the edge (edge sample repeated). Doing them one after the other costs five convolutions
    of half the length against three with the kernels joined: half the time, and correct up to the edge.
    """
    levels = frame.astype(np.float32)
    for sigma in sigmas:
        smooth, slope = kernels(sigma / math.sqrt(2))
        rows = convolve(levels, slope, smooth)
        columns = convolve(levels, smooth, slope)
        yield convolve(rows, slope, smooth), convolve(rows, smooth, slope), convolve(columns, smooth, slope)


def kernels(sigma: float) -> tuple[Float, Float]:
    """Return the sampled Gaussian, normalized to sum 1, and its derivative as the correlation that OpenCV applies."""
    half = max(1, int(TRUNCATE * sigma + 0.5))
    offset = np.arange(-half, half + 1)
    smooth = np.exp(-(offset**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    return smooth.astype(np.float32), (offset / sigma**2 * smooth).astype(np.float32)


def convolve(levels: Float, along_rows: Float, along_columns: Float) -> Float:
    """Filter (H, W) down the rows' axis with the first kernel and along the columns' with the second."""
    return cv2.sepFilter2D(levels, cv2.CV_32F, along_columns, along_rows, borderType=cv2.BORDER_REFLECT)


def eigenvalues(hessian: tuple[Float, Float, Float]) -> tuple[Float, Float]:
    """Return mean m and half-distance r, each (H, W), of the two eigenvalues m - r and m + r."""
    rows, mixed, columns = hessian
    half = np.float32(0.5)
    return (rows + columns) * half, cv2.magnitude((rows - columns) * half, mixed)
