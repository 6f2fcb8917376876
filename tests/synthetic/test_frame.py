"""Frames, cines and their truth."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from vasomim.synthetic import SimulatorConfig, SyntheticFrame, simulate_cine, simulate_frame

SMALL = SimulatorConfig(size=256)


def digest(frame: SyntheticFrame) -> str:
    parts = [frame.image, frame.vessels, frame.catheter]
    parts += [segment.mask for segment in frame.segments] + [stenosis.mask for stenosis in frame.stenoses]
    return hashlib.sha256(b''.join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope='module')
def frames() -> list[SyntheticFrame]:
    return [simulate_frame(seed, SMALL) for seed in range(24)]


def test_same_seed_gives_the_same_bytes_in_another_process(project_root: Path) -> None:
    np.random.seed(1)  # Global generators must not matter; the other process has other ones.
    script = (
        'import numpy, random; numpy.random.seed(99); random.seed(7)\n'
        'from tests.synthetic.test_frame import *\n'
        'print(*(digest(simulate_frame(seed, SMALL)) for seed in (5, 3)))'
    )
    command = [sys.executable, '-c', script]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(simulate_frame(5, SMALL)), digest(simulate_frame(3, SMALL))]


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    simulate_frame(0, SMALL)
    np.testing.assert_array_equal(np.random.random(4), expected)


def test_seeds_give_different_frames(frames: list[SyntheticFrame]) -> None:
    assert len({digest(frame) for frame in frames}) == len(frames)
    assert {frame.side for frame in frames} == {'left', 'right'}
    assert {frame.target for frame in frames} == {'LAD', 'LCx', 'RCA'}
    angles = np.array([(frame.primary, frame.secondary) for frame in frames])
    assert (angles.std(axis=0) > 8).all()
    assert (np.abs(angles) <= 45).all()


def test_images_and_masks_have_their_types(frames: list[SyntheticFrame]) -> None:
    for frame in frames:
        assert frame.image.shape == frame.vessels.shape == (256, 256)
        assert frame.image.dtype == np.uint8
        for mask in (frame.vessels, frame.catheter, frame.labelled):
            assert mask.dtype == np.uint8 and mask.max() <= 1


def test_segments_are_vessels_and_side_branches_are_not_segments(frames: list[SyntheticFrame]) -> None:
    for frame in frames:
        assert frame.segments
        assert not (frame.labelled & ~frame.vessels & 1).any()
        assert frame.vessels.sum() > 1.2 * frame.labelled.sum()


def test_segments_overlap_at_bifurcations(frames: list[SyntheticFrame]) -> None:
    total = sum(sum(int(segment.mask.sum()) for segment in frame.segments) for frame in frames)
    united = sum(int(frame.labelled.sum()) for frame in frames)
    assert 1.01 < total / united < 1.3


def test_vessels_are_darker_than_what_surrounds_them(frames: list[SyntheticFrame]) -> None:
    darker = []
    for frame in frames:
        vessel = cv2.erode(frame.labelled, np.ones((3, 3)))
        ring = cv2.dilate(frame.vessels, np.ones((9, 9))) - cv2.dilate(frame.vessels, np.ones((5, 5)))
        darker.append(frame.image[vessel > 0].mean() / frame.image[ring > 0].mean())
    assert max(darker) < 0.98 and np.median(darker) < 0.85


def test_boxes_enclose_their_masks_tightly(frames: list[SyntheticFrame]) -> None:
    boxes = 0
    for frame in frames:
        for stenosis in frame.stenoses:
            rows, columns = np.nonzero(stenosis.mask)
            x, y, width, height = stenosis.box
            assert (columns.min(), rows.min()) == (x, y)
            assert (columns.max() + 1 - x, rows.max() + 1 - y) == (width, height)
            assert not (stenosis.mask & ~frame.vessels & 1).any()
            boxes += 1
    assert boxes >= 15


def test_config_decides_what_is_shown() -> None:
    for target, side in (('RCA', 'right'), ('LAD', 'left'), ('LCx', 'left')):
        frame = simulate_frame(11, dataclasses.replace(SMALL, target=target, dominance='left', angles=(12.0, -7.0)))
        assert (frame.target, frame.side, frame.dominance) == (target, side, 'left')
        assert (frame.primary, frame.secondary) == (12.0, -7.0)
    assert not simulate_frame(4, dataclasses.replace(SMALL, stenoses=(0, 0))).stenoses
    assert not simulate_frame(4, dataclasses.replace(SMALL, catheter=0.0)).catheter.any()


def test_size_changes_the_pixels_and_not_the_scene() -> None:
    small, large = simulate_frame(8, SimulatorConfig(size=128)), simulate_frame(8, SimulatorConfig(size=512))
    assert small.image.shape == (128, 128) and large.image.shape == (512, 512)
    assert small.spacing == pytest.approx(4 * large.spacing)
    reduced = cv2.resize(large.labelled.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA) > 0.5
    overlap = (reduced & (small.labelled > 0)).sum() / (reduced | (small.labelled > 0)).sum()
    assert overlap > 0.7


def test_stenoses_in_a_frame_do_not_change_the_rest_of_it() -> None:
    without = simulate_frame(6, dataclasses.replace(SMALL, stenoses=(0, 0)))
    frame = simulate_frame(6, dataclasses.replace(SMALL, stenoses=(2, 2)))
    assert (frame.primary, frame.spacing, frame.target) == (without.primary, without.spacing, without.target)
    away = cv2.dilate(without.vessels | frame.vessels, np.ones((25, 25))) == 0
    assert np.abs(frame.image[away].astype(int) - without.image[away]).max() <= 6


def test_cine_moves_and_fills() -> None:
    cine = simulate_cine(8, 12, SMALL)
    assert len(cine) == 12
    assert len({digest(frame) for frame in cine}) == 12
    filled = [int(frame.vessels.sum()) for frame in cine]
    assert filled[6] > 1.3 * filled[0]
    neighbors = [_overlap(a.labelled, b.labelled) for a, b in pairwise(cine[6:])]
    assert 0.2 < np.median(neighbors) < 0.98
    assert len({frame.spacing for frame in cine}) == len({frame.primary for frame in cine}) == 1
    with pytest.raises(ValueError, match='at least one frame'):
        simulate_cine(8, 0)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    'wrong',
    [
        {'size': 8},
        {'target': 'left'},
        {'dominance': 'both'},
        {'spacing': (0.3, 0.2)},
        {'stenoses': (-1, 2)},
        {'contrast': (0.0, 0.2)},
        {'collimator': 1.5},
        {'noise': -1.0},
    ],
)
def test_config_refuses_values_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimulatorConfig(**wrong)
