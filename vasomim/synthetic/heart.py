"""The heart as an ellipsoid: where it lies in the chest, and coordinates on its surface.

Patient coordinates (mm) follow DICOM: x to the patient's left, y to the back, z to the head. Heart coordinates are
(axial, superior, left): axial points from the base to the apex, the base plane (groove between atria and ventricles)
is axial = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vasomim.synthetic.imaging import Array

USUAL_SEMI_AXES = np.array([88.0, 43.0, 45.0])  # mm; gives the main arteries their usual lengths


@dataclass(frozen=True)
class Heart:
    """An ellipsoid with a direction.

    Attributes:
        semi_axes: Half axes along (axial, superior, left), mm, (3,).
        frame: Rows are the axial, superior and left directions in patient coordinates, (3, 3).
    """

    semi_axes: Array
    frame: Array

    def surface(self, psi: Array, theta: Array) -> Array:
        """Return heart coordinates (N, 3), mm, of latitude ``psi`` and angle ``theta`` (N,), degrees."""
        psi, theta = np.radians(psi), np.radians(theta)
        return self.semi_axes * np.stack([np.sin(psi), np.cos(psi) * np.cos(theta), np.cos(psi) * np.sin(theta)], -1)

    def angles(self, point: Array) -> tuple[float, float]:
        """Return the latitude and the angle around the axis, degrees, of a point (3,) in heart coordinates."""
        axial, superior, left = point / self.semi_axes
        return (
            float(np.degrees(np.arctan2(axial, np.hypot(superior, left)))),
            float(np.degrees(np.arctan2(left, superior))),
        )

    def level(self, points: Array) -> Array:
        """Return how far points (..., 3) lie from the center: 1 on the ellipsoid, below 1 inside, (...)."""
        return np.sqrt(((points / self.semi_axes) ** 2).sum(-1))

    def normals(self, points: Array) -> Array:
        """Return outward unit normals, (..., 3), of the ellipsoids through points (..., 3)."""
        direction = points / self.semi_axes**2
        return direction / np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-9)

    def to_patient(self, points: Array) -> Array:
        """Return patient coordinates, (N, 3), of heart coordinates (N, 3)."""
        return points @ self.frame


def draw_heart(rng: np.random.Generator) -> Heart:
    """Draw a heart: size within 12 % and axis within some 10 degrees of the usual ones."""
    axis = np.array([0.60, -0.52, -0.60]) + rng.normal(0, 0.09, 3)
    axis /= np.linalg.norm(axis)
    superior = np.array([0.0, 0.0, 1.0]) - axis[2] * axis
    superior /= np.linalg.norm(superior)
    left = np.cross(superior, axis)
    semi_axes = USUAL_SEMI_AXES * rng.uniform(0.9, 1.12) * rng.uniform(0.95, 1.05, 3)
    return Heart(semi_axes, np.stack([axis, superior, left]))
