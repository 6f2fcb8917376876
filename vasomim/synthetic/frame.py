"""Simulate single frames and cine series, with their truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vasomim.synthetic.anatomy import SYNTAX_SEGMENTS
from vasomim.synthetic.attenuation import tube_path_length
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.detector import expose
from vasomim.synthetic.imaging import Array, Flags, Image, Mask, blur
from vasomim.synthetic.instruments import Tube
from vasomim.synthetic.masks import bounding_box, tube_mask
from vasomim.synthetic.scene import Scene, build_scene, stream
from vasomim.synthetic.tree import STEP

_FAINTEST = 0.045  # attenuation by a vessel's diameter below which nobody sees it
_OUTLINED = 0.36  # mm; readers stop outlining a vessel where its radius falls below
_SMALLEST = 60  # px of a 512-pixel frame; less of a segment is not outlined


@dataclass(frozen=True)
class Segment:
    """A SYNTAX segment in a frame: its name, its ARCADE category id (1-25) and its mask (H, W) in {0, 1}."""

    name: str
    category: int
    mask: Mask


@dataclass(frozen=True)
class Stenosis:
    """A narrowing in a frame.

    Attributes:
        mask: The narrowed lumen, (H, W), in {0, 1}.
        box: (x, y, width, height) of the mask, pixels.
        severity: Loss of diameter at the narrowest point, in (0, 1).
        segment: Name of the SYNTAX segment that holds its middle.
        centerline: Projected axis of the lesion, pixels, (N, 2).
        radii: Radius of the lumen along it, pixels, (N,).
    """

    mask: Mask
    box: tuple[int, int, int, int]
    severity: float
    segment: str
    centerline: Array
    radii: Array


@dataclass(frozen=True)
class SyntheticFrame:
    """A simulated angiogram and the truth about it.

    Attributes:
        image: Grey levels, uint8 (H, W).
        vessels: All filled vessels, unlabelled side branches included, (H, W), in {0, 1}.
        segments: The SYNTAX segments that are outlined in this view; their masks overlap at bifurcations.
        stenoses: The narrowings.
        catheter: The catheter's mask, (H, W), in {0, 1}.
        side: 'left' or 'right': which coronary artery is filled.
        dominance: 'left' or 'right'.
        target: 'LAD', 'LCx' or 'RCA': the artery that the view was chosen for.
        primary: Positioner's primary angle, degrees, LAO positive.
        secondary: Positioner's secondary angle, degrees, cranial positive.
        spacing: mm per pixel at the isocenter.
        seed: What it was made from.
    """

    image: NDArray[np.uint8]
    vessels: Mask
    segments: tuple[Segment, ...]
    stenoses: tuple[Stenosis, ...]
    catheter: Mask
    side: str
    dominance: str
    target: str
    primary: float
    secondary: float
    spacing: float
    seed: int

    @property
    def labelled(self) -> Mask:
        """Union of the segments, which is what ARCADE calls vessel, (H, W), in {0, 1}."""
        union = np.zeros_like(self.vessels)
        for segment in self.segments:
            union |= segment.mask
        return union


@dataclass(frozen=True)
class Moment:
    """When a frame of a scene is taken.

    Attributes:
        systole: How far the heart is contracted, in [0, 1].
        front: How far the contrast has come from the ostium, mm.
        breath: Shift of the heart by breathing, mm towards the feet.
        index: Number of the frame, which seeds its noise.
    """

    systole: float
    front: float
    breath: float
    index: int


def simulate_frame(seed: int, config: SimulatorConfig | None = None) -> SyntheticFrame:
    """Simulate one angiogram.

    Args:
        seed: Any integer >= 0. The same seed and config give the same bytes in every process.
        config: Ranges to draw from; defaults to those of clinical frames.
    """
    scene = build_scene(seed, config or SimulatorConfig())
    rng = stream(seed, 'moment')
    longest = float(scene.distance.max())
    # One frame in eight is taken while the contrast still runs in.
    front = float(rng.uniform(0.65, 1.0)) * longest if rng.random() < 0.12 else 2 * longest
    return render(scene, Moment(float(rng.random()) ** 2, front, 0.0, 0))


def simulate_cine(
    seed: int, frames: int, config: SimulatorConfig | None = None, rate: float = 15.0, start: int = 0
) -> list[SyntheticFrame]:
    """Simulate consecutive frames of one run: contrast flows in, the heart beats, the chest rises.

    Args:
        seed: Any integer >= 0.
        frames: How many, >= 1.
        config: Ranges to draw from.
        rate: Frames per second.
        start: Number of frames between the first contrast and the first frame.

    Raises:
        ValueError: If ``frames`` is below 1.
    """
    if frames < 1:
        raise ValueError(f'a cine needs at least one frame, not {frames}')
    scene = build_scene(seed, config or SimulatorConfig())
    rng = stream(seed, 'moment')
    beat, phase = rng.uniform(0.9, 1.4), rng.uniform(0, 1)  # Hz, share of a beat
    entry, speed = rng.uniform(60, 130), rng.uniform(180, 320)  # mm, mm/s
    depth, drift = rng.uniform(0, 2.5), rng.uniform(0, 2 * np.pi)
    moments = []
    for index in range(start, start + frames):
        seconds = index / rate
        moments.append(
            Moment(
                systole=float(0.5 - 0.5 * np.cos(2 * np.pi * (beat * seconds + phase))),
                front=float(entry + speed * seconds),
                breath=float(depth * np.sin(1.5 * seconds + drift)),
                index=index,
            )
        )
    return [render(scene, moment) for moment in moments]


def render(scene: Scene, moment: Moment) -> SyntheticFrame:
    """Take one frame of a scene."""
    size, arm, heart = scene.config.size, scene.arm, scene.tree.heart
    shift = np.array([0.0, 0.0, -moment.breath])
    pixels, scale = arm.project(heart.to_patient(_contract(scene.points, moment.systole)) + shift)
    radii = scene.radii * scale
    filling = 1 / (1 + np.exp(np.clip((scene.distance - moment.front) / 7.0, -40, 40)))
    density = scene.dilution * filling

    path = tube_path_length(pixels, radii, STEP * density, size)
    path = blur(path, max(0.4 * size / 512, 0.3))
    background = scene.background
    # The catheter's tip moves with the ostium, less than the heart does.
    offset = heart.to_patient(_contract(scene.points[:1], moment.systole) - scene.points[:1])[0] + shift
    catheter: Mask = np.zeros((size, size), np.uint8)
    for tube in (scene.catheter, scene.puff, *scene.devices):
        if tube is None:
            continue
        where, magnification = arm.project(tube.points + offset)
        path += _tube(tube, where, magnification, size)
        if tube is scene.catheter:
            catheter = tube_mask(where, tube.radii * magnification, size)
    image = expose(
        scene.detector,
        background,
        np.float32(scene.contrast) * path,
        scene.reference,
        stream(scene.seed, f'noise {moment.index}'),
    )

    field = _field(scene)
    # By the healthy lumen: a narrowing is seen for the contrast that it lacks.
    seen = 2 * scene.healthy * density * scene.contrast > _FAINTEST
    vessels = _mask(scene, pixels, radii, seen, field)
    segments = _segments(scene, pixels, radii, seen, vessels)
    return SyntheticFrame(
        image=image,
        vessels=vessels,
        segments=segments,
        stenoses=_stenoses(scene, pixels, radii, seen, vessels),
        catheter=catheter & field,
        side=scene.tree.side,
        dominance=scene.tree.dominance,
        target=scene.target,
        primary=arm.primary,
        secondary=arm.secondary,
        spacing=arm.spacing,
        seed=scene.seed,
    )


def _contract(points: Array, systole: float) -> Array:
    """Return heart coordinates (N, 3) after contraction: shorter, narrower and slightly twisted."""
    turn = np.radians(6.0) * systole * np.clip(points[:, 0] / 80.0, -0.2, 1.2)
    cos, sin = np.cos(turn), np.sin(turn)
    narrow, short = 1 - 0.07 * systole, 1 - 0.09 * systole
    axial, superior, left = points.T
    return np.stack(
        [axial * short, narrow * (cos * superior - sin * left), narrow * (sin * superior + cos * left)], axis=1
    )


def _tube(tube: Tube, where: Array, magnification: Array, size: int) -> Image:
    return tube_path_length(where, tube.radii * magnification, tube.step * tube.density, size)


def _field(scene: Scene) -> Mask:
    """Return the part of the frame that the collimator leaves, in {0, 1}."""
    size = scene.config.size
    if scene.detector.collimator is None:
        return np.ones((size, size), np.uint8)
    return (scene.detector.collimator.field(size) > 0.5).astype(np.uint8)


def _mask(scene: Scene, pixels: Array, radii: Array, chosen: Flags, field: Mask) -> Mask:
    """Return the mask of the chosen samples within the field."""
    index = np.flatnonzero(chosen)
    breaks = np.searchsorted(index, scene.starts)
    return tube_mask(pixels[index], radii[index], len(field), breaks) & field


def _segments(scene: Scene, pixels: Array, radii: Array, seen: Flags, vessels: Mask) -> tuple[Segment, ...]:
    smallest = _SMALLEST * (scene.config.size / 512) ** 2
    segments = []
    for category in sorted(scene.outlined):
        chosen = seen & (scene.labels == category) & (scene.healthy > _OUTLINED)
        if not chosen.any():
            continue
        mask = _mask(scene, pixels, radii, chosen, vessels)
        if mask.sum() >= smallest:
            segments.append(Segment(SYNTAX_SEGMENTS[category - 1], category, mask))
    return tuple(segments)


def _stenoses(scene: Scene, pixels: Array, radii: Array, seen: Flags, vessels: Mask) -> tuple[Stenosis, ...]:
    found = []
    for lesion in scene.narrowings:
        span = slice(scene.starts[lesion.branch] + lesion.first, scene.starts[lesion.branch] + lesion.last + 1)
        if not seen[span].all():
            continue
        mask = tube_mask(pixels[span], radii[span], len(vessels)) & vessels
        if mask.sum() < 4:
            continue
        middle = int(scene.labels[(span.start + span.stop) // 2])
        found.append(
            Stenosis(
                mask,
                bounding_box(mask),
                lesion.severity,
                SYNTAX_SEGMENTS[middle - 1] if middle else '',
                pixels[span].copy(),
                radii[span].copy(),
            )
        )
    return tuple(found)
