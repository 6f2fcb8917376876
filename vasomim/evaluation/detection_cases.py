"""What detection does on each image, beside COCO's figures, which exist for a whole set only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vasomim import compat

compat.prepare()

from mmdet.registry import METRICS  # noqa: E402
from mmengine.evaluator import BaseMetric  # noqa: E402

from vasomim.evaluation.cases import cell, short_names  # noqa: E402
from vasomim.evaluation.detection_sizes import ImageBoxes, precision_by_size  # noqa: E402
from vasomim.files import write_whole  # noqa: E402


@dataclass(frozen=True)
class DetectionCase:
    """Boxes of one image.

    Attributes:
        image: Path; in the file what tells it from the others.
        true_boxes: Number in the truth.
        predicted_boxes: Number predicted at or above the score.
        found: Number of true boxes that a predicted one matches.
        F1: 2 x found / (true + predicted); 1 where there are none of either.
    """

    image: str
    true_boxes: int
    predicted_boxes: int
    found: int
    F1: float


@METRICS.register_module()
class DetectionCases(BaseMetric):
    """F1 per image, and COCO's average precision by the size of the true boxes.

    For F1 predicted boxes by falling score each take the free true box of their class that they overlap most. For the
    sizes see :func:`vasomim.evaluation.detection_sizes.precision_by_size`.

    Args:
        score: Boxes below it do not count, in [0, 1].
        overlap: Least IoU of a match, in (0, 1].
        per_case_file: CSV file that gets a row for each image; None writes none.
        prefix: Of the keys.
    """

    default_prefix = 'cases'

    def __init__(
        self,
        score: float = 0.5,
        overlap: float = 0.5,
        per_case_file: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.score, self.overlap, self.per_case_file = score, overlap, per_case_file

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Match the boxes of a batch; both sides are in the image's own pixels."""
        for sample in data_samples:
            true, predicted = sample['gt_instances'], sample['pred_instances']
            boxes = ImageBoxes(
                true=as_array(true['bboxes']),
                true_labels=as_array(true['labels']),
                predicted=as_array(predicted['bboxes']),
                labels=as_array(predicted['labels']),
                scores=as_array(predicted['scores']),
            )
            kept = boxes.scores >= self.score
            found = int((matched(boxes, self.overlap) & kept).sum())
            number, truth = int(kept.sum()), len(boxes.true)
            f1 = 2 * found / (number + truth) if number + truth else 1.0
            self.results.append((DetectionCase(str(sample['img_path']), truth, number, found, f1), boxes))

    def compute_metrics(self, results: list[tuple[DetectionCase, ImageBoxes]]) -> dict[str, float]:
        """Return the mean F1 over images and the figures by size; in the main process, write ``per_case_file``."""
        cases = [case for case, _ in results]
        if self.per_case_file:
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(DetectionCase.__dataclass_fields__), lineterminator='\n')
            writer.writeheader()
            for case, name in zip(cases, short_names([case.image for case in cases]), strict=True):
                writer.writerow({**asdict(case), 'image': cell(name)})
            write_whole(self.per_case_file, buffer.getvalue())
        figures = {'F1': float(np.mean([case.F1 for case in cases])), 'images': len(cases)}
        figures['predicted_boxes'] = sum(case.predicted_boxes for case in cases)
        return figures | precision_by_size([boxes for _, boxes in results])


def matched(boxes: ImageBoxes, overlap: float = 0.5) -> np.ndarray:
    """Return which predicted boxes find a true one, bool (N,).

    By falling score each takes the free one of its class that it overlaps most. No box depends on those of a lower
    score, so those at or above any score match as they do among all.

    Args:
        boxes: Of one image.
        overlap: Least IoU of a match, in (0, 1].
    """
    free = np.ones(len(boxes.true), bool)
    found = np.zeros(len(boxes.scores), bool)
    for index in np.argsort(-boxes.scores, kind='stable'):
        fits = free & (boxes.true_labels == boxes.labels[index])
        ious = np.where(fits, iou(boxes.predicted[index], boxes.true), -1.0)
        if ious.size and ious.max() >= overlap:
            free[ious.argmax()] = False
            found[index] = True
    return found


def f1_at(boxes: ImageBoxes, scores: np.ndarray, overlap: float = 0.5) -> np.ndarray:
    """Return F1 of an image when the boxes at or above each of some scores (K,) count, (K,); 1 where there are none.

    Args:
        boxes: Of the image.
        scores: In any order.
        overlap: Least IoU of a match, in (0, 1].
    """
    order = np.argsort(-boxes.scores, kind='stable')
    number = np.searchsorted(-boxes.scores[order], -scores, side='right')
    found = np.concatenate([[0], np.cumsum(matched(boxes, overlap)[order])])[number]
    all_boxes = number + len(boxes.true)
    return np.where(all_boxes > 0, 2 * found / np.maximum(all_boxes, 1), 1.0)


def best_score(images: Sequence[ImageBoxes]) -> float:
    """Return the score from which boxes count with the largest mean F1; the highest of several.

    Args:
        images: Validation images.

    Returns:
        In [0, 1]; 1 where it is best to count none.
    """
    candidates = np.unique(np.concatenate([*(image.scores for image in images), np.ones(1)]))[::-1]
    return float(candidates[np.mean([f1_at(image, candidates) for image in images], axis=0).argmax()])


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (M, 4), in [0, 1], (M,)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(areas - common, 1e-9)


def as_array(values: Any) -> np.ndarray:
    """Return a tensor, or mmdet's boxes around one, as an array."""
    return getattr(values, 'tensor', values).cpu().numpy()
