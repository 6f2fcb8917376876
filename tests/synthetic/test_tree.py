"""The anatomy of the trees: names, lengths, widths, Murray's law."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from vasomim.synthetic.anatomy import CATEGORY_IDS, SYNTAX_SEGMENTS, template
from vasomim.synthetic.curves import arc_length, natural_spline
from vasomim.synthetic.tree import STEP, CoronaryTree, grow_tree

SEEDS = range(12)


@pytest.fixture(scope='module')
def trees() -> list[CoronaryTree]:
    return [
        grow_tree(np.random.default_rng(seed), side, dominance)
        for seed in SEEDS
        for side, dominance in (('left', 'right'), ('right', 'right'), ('left', 'left'), ('right', 'left'))
    ]


def test_murrays_law_holds_at_every_branching(trees: list[CoronaryTree]) -> None:
    errors = []
    for tree in trees:
        leaving = defaultdict(list)
        for branch in tree.branches:
            if branch.parent >= 0:
                leaving[branch.parent, branch.origin].append(branch.radii[0] ** 3)
        for (parent, origin), cubes in leaving.items():
            radii = tree.branches[parent].radii
            after = 0.0
            if origin + 1 < len(radii):
                # Between branchings vessels taper; one step of it, as seen before the branching, is no loss of flow.
                taper = (radii[origin - 2 : origin + 1] / radii[origin - 3 : origin]).max() if origin > 2 else 1.0
                after = (radii[origin + 1] / taper) ** 3
            errors.append(abs(sum(cubes) + after - radii[origin] ** 3) / radii[origin] ** 3)
    assert len(errors) > 1000
    assert max(errors) < 0.03


def test_branches_begin_on_their_parents_and_are_thinner(trees: list[CoronaryTree]) -> None:
    for tree in trees:
        for index, branch in enumerate(tree.branches):
            assert branch.parent < index
            if branch.parent >= 0:
                parent = tree.branches[branch.parent]
                np.testing.assert_allclose(branch.points[0], parent.points[branch.origin], atol=1e-6)
                assert branch.radii[0] <= parent.radii[branch.origin]
                assert branch.distance[0] == pytest.approx(parent.distance[branch.origin])


def test_samples_are_even_and_radii_positive(trees: list[CoronaryTree]) -> None:
    for tree in trees[:8]:
        for branch in tree.branches:
            assert (branch.radii > 0).all() and branch.radii.max() <= 2.6
            assert branch.points.shape == (len(branch.radii), 3)
            if branch.name:
                steps = np.linalg.norm(np.diff(branch.points, axis=0), axis=1)
                assert np.median(steps) == pytest.approx(STEP, rel=0.05)


@pytest.mark.parametrize(
    ('name', 'side', 'dominance', 'shortest', 'longest'),
    [('RCA', 'right', 'right', 120, 140), ('LAD', 'left', 'right', 100, 130), ('LCx', 'left', 'right', 80, 110)],
)
def test_main_arteries_have_their_lengths(name, side, dominance, shortest, longest, trees) -> None:
    lengths = [
        arc_length(branch.points)[-1]
        for tree in trees
        if (tree.side, tree.dominance) == (side, dominance)
        for branch in tree.branches
        if branch.name == name
    ]
    assert len(lengths) == len(SEEDS)
    assert shortest <= np.median(lengths) <= longest


def test_dominance_decides_where_the_posterior_descending_artery_comes_from(trees: list[CoronaryTree]) -> None:
    for tree in trees:
        segments = {SYNTAX_SEGMENTS[label - 1] for branch in tree.branches for label in branch.labels if label}
        if tree.side == 'right':
            assert {'1', '2', '3'} <= segments
            assert ('4' in segments) == ('16' in segments) == (tree.dominance == 'right')
        else:
            assert {'5', '6', '7', '8', '11', '13'} <= segments
            assert ('15' in segments) == (tree.dominance == 'left')


def test_side_branches_are_many_and_not_labelled(trees: list[CoronaryTree]) -> None:
    for tree in trees:
        nameless = [branch for branch in tree.branches if not branch.name]
        assert len(nameless) >= 8
        assert not any(branch.labels.any() for branch in nameless)


def test_categories_are_those_of_arcade() -> None:
    assert len(SYNTAX_SEGMENTS) == 25
    assert CATEGORY_IDS['1'] == 1 and CATEGORY_IDS['9a'] == 10 and CATEGORY_IDS['10'] == 11
    assert CATEGORY_IDS['16c'] == 23 and CATEGORY_IDS['12b'] == 24 and CATEGORY_IDS['14b'] == 25
    with pytest.raises(ValueError, match='middle'):
        template('middle', 'right')


def test_spline_passes_its_knots_and_reproduces_lines() -> None:
    knots = np.array([0.0, 1.0, 2.5, 4.0])
    values = np.array([[0.0, 3.0], [1.0, -1.0], [0.5, 2.0], [4.0, 0.0]])
    np.testing.assert_allclose(natural_spline(knots, values, knots), values, atol=1e-12)
    at = np.linspace(0, 4, 9)
    np.testing.assert_allclose(natural_spline(knots, knots[:, None] * [2.0, -1.0], at), at[:, None] * [2.0, -1.0])
