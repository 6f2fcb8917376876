"""What detection does on each image, beside COCO's figures, which exist for a whole set only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vasomim import compat

compat.prepare()

from mmdet.registry import METRICS  # noqa: E402
from mmengine.evaluator import BaseMetric  # noqa: E402

from vasomim.files import write_whole  # noqa: E402


@dataclass(frozen=True)
class DetectionCase:
    """Boxes of one image.

    Attributes:
        image: Path.
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
    """F1 per image: predicted boxes by falling score each take the free true box of their class that they overlap most.

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
            scores = predicted['scores'].cpu().numpy()
            kept = scores >= self.score
            found = matches(
                predicted['bboxes'].cpu().numpy()[kept],
                predicted['labels'].cpu().numpy()[kept],
                scores[kept],
                as_array(true['bboxes']),
                as_array(true['labels']),
                self.overlap,
            )
            number, truth = int(kept.sum()), len(true['labels'])
            f1 = 2 * found / (number + truth) if number + truth else 1.0
            self.results.append(DetectionCase(str(sample['img_path']), truth, number, found, f1))

    def compute_metrics(self, results: list[DetectionCase]) -> dict[str, float]:
        """Return the mean F1 over images and, in the main process, write ``per_case_file``."""
        if self.per_case_file:
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(DetectionCase.__dataclass_fields__), lineterminator='\n')
            writer.writeheader()
            writer.writerows(asdict(case) for case in results)
            path = Path(self.per_case_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, buffer.getvalue().encode())
        return {'F1': float(np.mean([case.F1 for case in results])), 'images': len(results)}


def matches(
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    true_boxes: np.ndarray,
    true_labels: np.ndarray,
    overlap: float,
) -> int:
    """Count the true boxes that are found.

    Args:
        boxes: Predicted corners x1, y1, x2, y2, (N, 4).
        labels: (N,).
        scores: (N,).
        true_boxes: (M, 4).
        true_labels: (M,).
        overlap: Least IoU of a match.
    """
    free = np.ones(len(true_boxes), bool)
    for index in np.argsort(-scores, kind='stable'):
        ious = np.where(free & (true_labels == labels[index]), iou(boxes[index], true_boxes), -1.0)
        if ious.size and ious.max() >= overlap:
            free[ious.argmax()] = False
    return int((~free).sum())


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (M, 4), in [0, 1], (M,)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(areas - common, 1e-9)


def as_array(values: Any) -> np.ndarray:
    """Return a tensor, or mmdet's boxes around one, as an array."""
    return getattr(values, 'tensor', values).cpu().numpy()
