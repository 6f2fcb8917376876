"""Figures of a cell as a tree; the measures themselves are tested where they are computed."""

from __future__ import annotations

import math
from dataclasses import replace

from vasomim.benchmark.scoring.measures import by_subgroup
from vasomim.benchmark.study.loading import load_entries


def test_a_group_with_undefined_distances_has_no_mean_of_the_others_and_keeps_its_images() -> None:
    task = replace(load_entries().task('arcade_v'), metrics=('DSC', 'HD95'), subgroups=('side',))
    left = {'DSC/side/left': 1 / 3, 'DSC/side/left/images': 3, 'HD95/side/left': 0.0, 'HD95/side/left/images': 1}
    right = {'DSC/side/right': 0.5, 'DSC/side/right/images': 2, 'HD95/side/right': 4.0, 'HD95/side/right/images': 2}
    found = by_subgroup({**left, **right}, task)['side']
    assert found['right'] == {'DSC': 0.5, 'HD95': 4.0, 'images': 2}
    assert math.isnan(found['left'].pop('HD95')) and found['left'] == {'DSC': 1 / 3, 'images': 3}
