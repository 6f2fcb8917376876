"""The C-arm: where a point in the chest is seen on the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vasomim.synthetic.imaging import Array


@dataclass(frozen=True)
class CArm:
    """A cone-beam view.

    Attributes:
        primary: Angle in degrees, LAO positive, RAO negative (DICOM's positioner primary angle).
        secondary: Angle in degrees, cranial positive, caudal negative (DICOM's positioner secondary angle).
        spacing: Size of a pixel at the isocenter, mm; multiply by the magnification for that on the detector.
        size: The square image's height and width, pixels.
        source_detector: Distance from the source to the detector, mm.
        source_isocenter: Distance from the source to the isocenter, mm.
        isocenter: The point that is projected to the image's center, patient coordinates, mm, (3,).
    """

    primary: float
    secondary: float
    spacing: float
    size: int
    source_detector: float = 1000.0
    source_isocenter: float = 750.0
    isocenter: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def axes(self) -> Array:
        """Rows: the image's right, its up, and the direction from source to detector, in patient coordinates, (3, 3).

        At (0, 0) the detector lies in front of the chest, and the patient's left is on the image's right. LAO turns
        the detector to the patient's left, cranial to the head.
        """
        a, b = np.radians(self.primary), np.radians(self.secondary)
        right = [np.cos(a), np.sin(a), 0.0]
        up = [-np.sin(a) * np.sin(b), np.cos(a) * np.sin(b), np.cos(b)]
        beam = [np.sin(a) * np.cos(b), -np.cos(a) * np.cos(b), np.sin(b)]
        return np.array([right, up, beam])

    @property
    def detector_spacing(self) -> float:
        """Size of a pixel on the detector, mm."""
        return self.spacing * self.source_detector / self.source_isocenter

    def project(self, points: Array) -> tuple[Array, Array]:
        """Project points.

        Args:
            points: Patient coordinates, mm, (N, 3).

        Returns:
            Pixel coordinates (x to the right, y down, center of the first pixel at 0), (N, 2), and the
            magnification, pixels per mm at each point's depth, (N,).
        """
        local = (np.asarray(points) - np.asarray(self.isocenter)) @ self.axes.T
        scale = self.source_detector / (self.source_isocenter + local[:, 2]) / self.detector_spacing
        middle = (self.size - 1) / 2
        return np.stack([middle + local[:, 0] * scale, middle - local[:, 1] * scale], axis=1), scale

    def rays(self, size: int) -> tuple[Array, Array]:
        """Return the source, (3,), and unit directions to the pixels of a ``size`` x ``size`` grid, (size, size, 3).

        The grid covers the same field as the image.
        """
        right, up, beam = self.axes
        source = np.asarray(self.isocenter) - self.source_isocenter * beam
        offset = ((np.arange(size) + 0.5) / size - 0.5) * self.size * self.detector_spacing
        direction = self.source_detector * beam + offset[None, :, None] * right - offset[:, None, None] * up
        return source, direction / np.linalg.norm(direction, axis=-1, keepdims=True)
