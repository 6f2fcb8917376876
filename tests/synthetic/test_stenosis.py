"""Narrowings: do they narrow, where they say, as much as they say?"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from vasomim.synthetic import SimulatorConfig, simulate_frame
from vasomim.synthetic.stenosis import Narrowing, narrow, place_narrowings
from vasomim.synthetic.tree import grow_tree


def test_profile_is_narrowest_where_it_says() -> None:
    profile = Narrowing(branch=0, first=100, last=300, severity=0.7, skew=0.25).profile()
    assert profile.shape == (201,)
    assert profile.min() == pytest.approx(0.3) and profile.argmin() == 50
    assert profile[0] == profile[-1] == pytest.approx(1.0)
    assert (np.diff(profile[:50]) < 0).all() and (np.diff(profile[51:]) > 0).all()


def test_only_the_lesion_is_narrowed() -> None:
    tree = grow_tree(np.random.default_rng(0), 'right', 'right')
    lesion = Narrowing(branch=0, first=200, last=280, severity=0.6, skew=0.5)
    before, after = tree.branches[0].radii, narrow(tree, [lesion]).branches[0].radii
    np.testing.assert_array_equal(np.delete(after, np.s_[200:281]), np.delete(before, np.s_[200:281]))
    np.testing.assert_allclose(after[200:281], before[200:281] * lesion.profile())
    np.testing.assert_array_equal(tree.branches[0].radii, before)  # The tree itself is unchanged.


def test_narrowings_are_placed_where_they_are_seen_and_apart() -> None:
    tree = grow_tree(np.random.default_rng(1), 'left', 'right')
    visible = [np.zeros(len(branch.points), bool) for branch in tree.branches]
    visible[1][50:450] = True
    placed = place_narrowings(np.random.default_rng(2), tree.branches, visible, 3)
    assert placed
    taken = np.zeros(len(visible[1]), int)
    for lesion in placed:
        assert lesion.branch == 1
        taken[lesion.first : lesion.last + 1] += 1
    assert taken.max() == 1
    assert not taken[~visible[1]].any()
    hidden = [np.zeros(len(branch.points), bool) for branch in tree.branches]
    assert place_narrowings(np.random.default_rng(2), tree.branches, hidden, 3) == []


def test_the_lumen_in_the_frame_is_narrower_by_the_severity() -> None:
    config = SimulatorConfig(size=512, spacing=(0.2, 0.2))
    ratios, severities = [], []
    for seed in range(10):
        narrowed = simulate_frame(seed, dataclasses.replace(config, stenoses=(1, 2)))
        whole = simulate_frame(seed, dataclasses.replace(config, stenoses=(0, 0)))
        for stenosis in narrowed.stenoses:
            narrowest = int(stenosis.radii.argmin())
            x, y = np.rint(stenosis.centerline[narrowest]).astype(int)
            # Width of the lumen across the lesion, from masks alone; other vessels that cross it would widen it.
            segments = [
                next((segment.mask for segment in frame.segments if segment.name == stenosis.segment), None)
                for frame in (narrowed, whole)
            ]
            if any(mask is None or not mask[y, x] for mask in segments):
                continue
            widths = [
                2 * float(cv2.distanceTransform(mask, cv2.DIST_L2, 5)[y - 2 : y + 3, x - 2 : x + 3].max())
                for mask in segments
            ]
            if widths[1] >= 10:
                ratios.append(widths[0] / widths[1])
                severities.append(stenosis.severity)
    assert len(ratios) >= 6
    assert max(ratios) < 0.85
    # Masks are whole pixels: half a pixel on either side of a lumen of 10 is 0.1.
    assert np.median(np.abs(np.array(ratios) - (1 - np.array(severities)))) < 0.12
