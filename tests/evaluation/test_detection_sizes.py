"""Average precision by size: by hand, and against a slow computation of what COCO defines."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vasomim.evaluation.detection_sizes import ImageBoxes, precision_by_size

NOTHING = np.zeros((0, 4))


def image(true, predicted=NOTHING, scores=()) -> ImageBoxes:
    true, predicted = np.array(true, float).reshape(-1, 4), np.array(predicted, float).reshape(-1, 4)
    return ImageBoxes(true, np.zeros(len(true), int), predicted, np.zeros(len(predicted), int), np.array(scores, float))


def box(side: float, left: float = 0, top: float = 0) -> list[float]:
    return [left, top, left + side, top + side]


def test_each_group_counts_its_own_boxes_by_hand():
    figures = precision_by_size(
        [
            image([box(10), box(20, 100), box(40, 200)], [box(10), box(40, 200)], [0.9, 0.8]),
            image([box(11), box(21, 100), box(41, 200)], [box(41, 200)], [0.7]),
        ]
    )
    assert [figures[f'lesion_size/{group}/boxes'] for group in ('small', 'medium', 'large')] == [2, 2, 2]
    assert (figures['lesion_size/low_cut'], figures['lesion_size/high_cut']) == (121, 441)
    assert figures['mAP/lesion_size/large'] == pytest.approx(1)  # Both found, exactly.
    assert figures['mAP/lesion_size/medium'] == pytest.approx(0)  # None found.
    # One of two small ones found: precision 1 up to a recall of 0.5, which is 51 of the 101 steps.
    assert figures['mAP50/lesion_size/small'] == pytest.approx(51 / 101)


def slow_precision(images: list[ImageBoxes], low: float, high: float, overlap: float) -> float:
    """COCO's definition for one class, a box at a time; areas above ``low`` up to ``high``."""

    def outside(corners: np.ndarray) -> bool:
        size = (corners[2] - corners[0]) * (corners[3] - corners[1])
        return not low < size <= high

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(wide, 0) * max(tall, 0)
        return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)

    verdicts, wanted = [], 0
    for each in images:
        wanted += sum(not outside(true) for true in each.true)
        free = set(range(len(each.true)))
        for place in np.argsort(-each.scores):
            predicted = each.predicted[place]
            rivals = [(iou(predicted, each.true[k]), k) for k in free if iou(predicted, each.true[k]) >= overlap]
            counting = [rival for rival in rivals if not outside(each.true[rival[1]])]
            if rivals:
                _, taken = max(counting or rivals)
                free.discard(taken)
                if counting:
                    verdicts.append((each.scores[place], True))
            elif not outside(predicted):
                verdicts.append((each.scores[place], False))
    if not wanted:
        return math.nan
    verdicts.sort(reverse=True)
    right = np.cumsum([good for _, good in verdicts])
    recall, precision = right / wanted, right / np.arange(1, len(verdicts) + 1)
    steps = [precision[recall >= step - 1e-12].max(initial=0) for step in np.linspace(0, 1, 101)]
    return float(np.mean(steps))


@pytest.mark.parametrize('seed', range(4))
def test_groups_agree_with_a_slow_computation(seed):
    random = np.random.default_rng(seed)
    images = []
    for _ in range(8):
        true = [box(random.integers(6, 60), *random.integers(0, 150, 2)) for _ in range(random.integers(0, 5))]
        shaken = [np.array(each) + random.normal(0, 2, 4) for each in true if random.random() < 0.8]
        wrong = [box(random.integers(6, 60), *random.integers(0, 150, 2)) for _ in range(2)]
        images.append(image(true, [*shaken, *wrong], random.random(len(shaken) + 2)))
    figures = precision_by_size(images)
    cuts = [-1, figures['lesion_size/low_cut'], figures['lesion_size/high_cut'], math.inf]
    for number, group in enumerate(('small', 'medium', 'large')):
        for measure, overlap in (('mAP50', 0.5), ('mAP75', 0.75)):
            expected = slow_precision(images, cuts[number], cuts[number + 1], overlap)
            assert figures[f'{measure}/lesion_size/{group}'] == pytest.approx(expected, abs=1e-9)
    assert 0 < figures['mAP50/lesion_size/large'] < 1


def test_a_set_without_boxes_and_an_empty_group_are_undefined():
    figures = precision_by_size([image(NOTHING, [box(10)], [0.9])])
    assert all(math.isnan(figures[f'mAP/lesion_size/{group}']) for group in ('small', 'medium', 'large'))
    alike = precision_by_size([image([box(10), box(10, 50)], [box(10)], [0.9])])
    assert alike['lesion_size/small/boxes'] == 2 and math.isnan(alike['mAP/lesion_size/large'])
