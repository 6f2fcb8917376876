"""From attenuation to an 8-bit frame: scatter, blur, quantum noise, exposure control, display curve, collimator."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.synthetic.attenuation import transmission
from vasomim.synthetic.imaging import Image, blur


@dataclass(frozen=True)
class Collimator:
    """The shutters in front of the beam.

    Attributes:
        margins: How far they reach into the frame from the left, top, right and bottom, share of its size.
        softness: Standard deviation of their blurred edge, pixels of a 512-pixel frame.
        level: Grey behind them, 0-255.
        rim: How much brighter the field gets near them.
    """

    margins: tuple[float, float, float, float]
    softness: float
    level: float
    rim: float

    def field(self, size: int) -> Image:
        """Return the share of the beam that they let through, (size, size), in [0, 1]."""
        ramp = (np.arange(size) + 0.5) / size
        width = max(self.softness / 512, 0.3 / size)
        left, top, right, bottom = self.margins

        def edge(low: float, high: float) -> NDArray[np.float64]:
            # A closed shutter lies outside the frame, so that it casts no half-shadow into it.
            rise = 1 / (1 + np.exp(-np.clip((ramp - low) / (0.55 * width), -50, 50))) if low > 0 else 1.0
            fall = 1 / (1 + np.exp(-np.clip((1 - high - ramp) / (0.55 * width), -50, 50))) if high > 0 else 1.0
            return rise * fall * np.ones(size)

        return np.outer(edge(top, bottom), edge(left, right)).astype(np.float32)


def draw_collimator(rng: np.random.Generator) -> Collimator:
    """Draw shutters: mostly narrow margins on one to four sides, now and then wide ones."""
    closed = rng.random(4) < rng.choice([0.35, 0.6, 1.0], p=[0.35, 0.3, 0.35])
    wide = 0.12 if rng.random() < 0.05 else 0.024
    margins = np.where(closed, rng.gamma(2.0, wide / 2, 4) + 0.006, 0.0)
    left, top, right, bottom = (float(min(margin, 0.22)) for margin in margins)
    return Collimator(
        (left, top, right, bottom), float(rng.uniform(0.8, 4.0)), float(rng.uniform(0, 22)), float(rng.uniform(0, 0.5))
    )


@dataclass(frozen=True)
class Detector:
    """How the imaging chain renders.

    Attributes:
        scatter: Scattered over primary radiation, 0-1.
        vignetting: Loss of light in the corners, 0-1.
        blur: Standard deviation of the system's blur, pixels of a 512-pixel frame.
        noise: Standard deviation of the quantum noise where the beam has its middle strength.
        gamma: Exponent of the display curve, in (0, 1].
        level: Grey of the field's middle, 0-255, kept by the exposure control.
        sharpening: Strength of the edge enhancement, >= 0.
        edge: Width of the edges that it enhances, pixels of a 512-pixel frame.
        collimator: The shutters, or None.
    """

    scatter: float
    vignetting: float
    blur: float
    noise: float
    gamma: float
    level: float
    sharpening: float
    edge: float
    collimator: Collimator | None


def draw_detector(rng: np.random.Generator, noise: float, collimator: float) -> Detector:
    """Draw an imaging chain; ``noise`` scales its noise, ``collimator`` is the probability of visible shutters."""
    return Detector(
        scatter=float(rng.uniform(0.15, 0.6)),
        vignetting=float(rng.uniform(0.0, 0.25)),
        blur=float(rng.uniform(0.45, 0.9)),
        noise=noise * float(rng.uniform(0.02, 0.042)),
        gamma=float(rng.uniform(0.55, 0.85)),
        level=float(np.clip(rng.normal(116, 19), 84, 152)),
        sharpening=float(rng.uniform(0.0, 0.9)),
        edge=float(np.exp(rng.uniform(np.log(1.5), np.log(40.0)))),
        collimator=draw_collimator(rng) if rng.random() < collimator else None,
    )


def expose(
    detector: Detector, background: Image, contrast: Image, reference: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the displayed frame.

    Args:
        detector: The imaging chain.
        background: Attenuation of the chest, (H, W).
        contrast: Attenuation of everything in front of it, (H, W).
        reference: Attenuation at which the display shows ``detector.level``; one value for all frames of a cine.
        rng: Source of the quantum noise.

    Returns:
        Grey levels, (H, W).
    """
    size = background.shape[0]
    scale = size / 512
    primary = transmission(background + contrast - np.float32(reference), 1.0)
    signal = _add_scatter(primary, detector.scatter)
    signal *= _vignette(size, detector.vignetting)
    # Photons scatter in the detector's screen: blur before counting them would leave the noise white.
    signal = blur(signal, max(detector.blur * scale, 0.3))
    grain = rng.standard_normal(signal.shape, dtype=np.float32)
    grain = blur(grain, max(0.55 * scale, 0.2))
    grain *= np.float32(detector.noise / max(float(grain.std()), 1e-6))
    signal = np.maximum(signal + np.sqrt(signal) * grain, np.float32(1e-3))
    frame = np.float32(detector.level) * cv2.pow(signal, detector.gamma)
    if detector.sharpening > 0:
        frame += np.float32(detector.sharpening) * (frame - _coarse_blur(frame, max(detector.edge * scale, 0.3)))
    # Displays compress the brightest tones instead of cutting them.
    knee = np.float32(185)
    frame = np.where(frame > knee, knee + 70 * np.tanh((frame - knee) / 90), frame)
    if detector.collimator is not None:
        field = detector.collimator.field(size)
        rim = 1 + detector.collimator.rim * (1 - _coarse_blur(field, 9.0 * scale))
        frame = frame * rim * field + detector.collimator.level * (1 - field) * (1 + grain)
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def _add_scatter(primary: Image, ratio: float) -> Image:
    """Mix in scattered radiation: a wide blur of the primary; the sum keeps the primary's mean."""
    spread = _coarse_blur(primary, primary.shape[0] / 14)
    return (primary + np.float32(ratio) * spread) * np.float32(1 / (1 + ratio))


def _coarse_blur(image: Image, sigma: float) -> Image:
    """Blur widely, at a resolution that is just fine enough."""
    factor = max(int(sigma / 2), 1)
    small = max(image.shape[0] // factor, 8)
    reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    blurred = blur(reduced, sigma * small / image.shape[0])
    return cv2.resize(blurred, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)


def _vignette(size: int, strength: float) -> Image:
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    return 1 - np.float32(strength / 2) * (ramp[:, None] ** 2 + ramp[None, :] ** 2)
