"""F1 of boxes, and the score from which they count, against counting by hand and trying every score."""

import numpy as np
import pytest

from vasomim.evaluation.detection_cases import best_score, f1_at, iou, matched
from vasomim.evaluation.detection_sizes import ImageBoxes

TRUE, LABELS = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float), np.array([0, 1])
PREDICTED = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], float)
NONE = (np.zeros((0, 4)), np.zeros(0, int))


@pytest.mark.parametrize(
    ('labels', 'scores', 'expected'),
    [
        ([0, 0, 1], [0.9, 0.8, 0.7], [True, False, True]),
        ([0, 0, 1], [0.8, 0.9, 0.7], [False, True, True]),  # The surer one takes it.
        ([0, 0, 0], [0.9, 0.8, 0.7], [True, False, False]),  # Of another class.
    ],
)
def test_a_true_box_is_found_once_and_by_its_class_only(labels, scores, expected) -> None:
    boxes = ImageBoxes(TRUE, LABELS, PREDICTED, np.array(labels), np.array(scores))
    assert matched(boxes).tolist() == expected


def test_images_without_boxes() -> None:
    empty = ImageBoxes(*NONE, *NONE, np.zeros(0))
    missed = ImageBoxes(TRUE, LABELS, *NONE, np.zeros(0))
    invented = ImageBoxes(*NONE, PREDICTED, np.zeros(3, int), np.array([0.9, 0.5, 0.1]))
    scores = np.array([0.0, 0.5, 1.0])
    assert f1_at(empty, scores).tolist() == [1, 1, 1]
    assert f1_at(missed, scores).tolist() == [0, 0, 0]
    assert f1_at(invented, scores).tolist() == [0, 0, 1]
    assert best_score([empty, missed]) == 1.0


def slow_f1(boxes: ImageBoxes, score: float) -> float:
    """F1 of the boxes at or above a score, matched among themselves alone."""
    chosen = [index for index in np.argsort(-boxes.scores, kind='stable') if boxes.scores[index] >= score]
    free, found = list(range(len(boxes.true))), 0
    for index in chosen:
        ious = {place: iou(boxes.predicted[index], boxes.true[place : place + 1])[0] for place in free}
        ious = {place: value for place, value in ious.items() if boxes.true_labels[place] == boxes.labels[index]}
        if ious and max(ious.values()) >= 0.5:
            free.remove(max(ious, key=ious.get))
            found += 1
    total = len(chosen) + len(boxes.true)
    return 2 * found / total if total else 1.0


def random_image(rng: np.random.Generator) -> ImageBoxes:
    """Some true boxes, predictions near and far from them, and scores of which some are equal."""
    corners = rng.uniform(0, 60, (rng.integers(0, 4), 2))
    true = np.hstack([corners, corners + rng.uniform(8, 20, corners.shape)])
    near = np.repeat(true, 2, axis=0) + rng.normal(0, 3, (2 * len(true), 4))
    far = rng.uniform(0, 60, (rng.integers(0, 5), 2))
    predicted = np.vstack([near, np.hstack([far, far + 12])])
    scores = rng.integers(1, 20, len(predicted)) / 20
    return ImageBoxes(true, rng.integers(0, 2, len(true)), predicted, rng.integers(0, 2, len(predicted)), scores)


@pytest.mark.parametrize('seed', range(5))
def test_the_best_score_is_the_best_of_all(seed) -> None:
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(12)]
    tried = np.arange(21) / 20
    for image in images:
        np.testing.assert_allclose(f1_at(image, tried), [slow_f1(image, score) for score in tried])
    means = {score: np.mean([slow_f1(image, score) for image in images]) for score in tried[1:]}
    assert means[best_score(images)] == pytest.approx(max(means.values()), abs=1e-12)
