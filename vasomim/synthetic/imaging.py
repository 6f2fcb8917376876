"""Types of arrays, and the two operations on images that everything here uses."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # coordinates and measures, float64
Flags = NDArray[np.bool_]
# OpenCV's stubs do not tell which numbers a result holds, so that nothing narrower can be written here.
Image = NDArray[Any]  # float32
Mask = NDArray[Any]  # uint8 in {0, 1}


def blur(image: Image, sigma: float) -> Image:
    """Blur with a Gaussian of standard deviation ``sigma``, pixels, > 0."""
    return cv2.GaussianBlur(image, (0, 0), sigma)


def enlarge(image: Image, size: int) -> Image:
    """Interpolate an image smoothly (bicubic) to ``size`` x ``size``."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
