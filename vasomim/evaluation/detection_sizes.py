"""COCO's average precision by the size of the true boxes: thirds of the set's own instead of COCO's fixed areas."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vasomim.evaluation.summary import terciles

GROUPS = ('small', 'medium', 'large')
MOST = 1000  # Boxes of an image that count, as in mmdet's metric.


@dataclass(frozen=True)
class ImageBoxes:
    """Boxes of one image, all of them whatever their score.

    Attributes:
        true: Corners x1, y1, x2, y2 in pixels, (M, 4).
        true_labels: int (M,).
        predicted: (N, 4).
        labels: int (N,).
        scores: (N,).
    """

    true: np.ndarray
    true_labels: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def precision_by_size(images: Sequence[ImageBoxes]) -> dict[str, float]:
    """Average precision for small, medium and large boxes, a third of the true ones of the set each.

    A group is to COCO what its own area ranges are: true boxes of other sizes neither count as missed nor, where they
    are found, as right, and a predicted box that finds nothing counts against the group of its own area.

    Args:
        images: Of the whole set.

    Returns:
        ``mAP/lesion_size/GROUP`` (IoU 0.5 to 0.95), ``mAP50/...`` and ``mAP75/...``, NaN where a group is empty;
        ``lesion_size/GROUP/boxes``, the number of true ones; ``lesion_size/low_cut`` and ``.../high_cut``, areas in
        pixels, of which a box on a cut belongs to the lower group.

    Source: the COCO detection evaluation (pycocotools).
    """
    areas = area(np.concatenate([image.true for image in images]))
    cuts = terciles(areas)
    group = cuts.group(areas)
    figures: dict[str, float] = {'lesion_size/low_cut': cuts.low, 'lesion_size/high_cut': cuts.high}
    figures |= {f'lesion_size/{name}/boxes': int((group == number).sum()) for number, name in enumerate(GROUPS)}
    # COCO's ranges include both of their ends; a box on a cut belongs to the lower group alone.
    ends = [0.0, cuts.low, cuts.high, np.inf]
    ranges = [(low and np.nextafter(low, np.inf), high) for low, high in pairwise(ends)]
    precision = coco_precision(images, ranges) if areas.size else np.full((10, 1, 1, len(GROUPS)), -1.0)
    for measure, overlaps in (('mAP', slice(None)), ('mAP50', slice(0, 1)), ('mAP75', slice(5, 6))):
        for number, name in enumerate(GROUPS):
            values = precision[overlaps, ..., number]
            known = values[values > -1]  # -1: the class has no true box in the range.
            figures[f'{measure}/lesion_size/{name}'] = float(known.mean()) if known.size else float('nan')
    return figures


def coco_precision(images: Sequence[ImageBoxes], ranges: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return precision by pycocotools for true boxes of some ranges of areas, both ends included.

    Returns:
        By IoU (0.5 to 0.95 in steps of 0.05), recall (101), class and range; -1 where a class has no true box there.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = np.unique(np.concatenate([image.true_labels for image in images])).tolist()
    truth, found = COCO(), COCO()
    shared: dict[str, Any] = {
        'images': [{'id': number} for number in range(len(images))],
        'categories': [{'id': label} for label in labels],
    }
    truth.dataset = {**shared, 'annotations': list(numbered(entries(images, of_truth=True)))}
    found.dataset = {**shared, 'annotations': list(numbered(entries(images, of_truth=False)))}
    with contextlib.redirect_stdout(io.StringIO()):  # It reports each step.
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, 'bbox')
        evaluation.params.areaRng = [list(each) for each in ranges]
        evaluation.params.areaRngLbl = [str(number) for number in range(len(ranges))]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval['precision'][..., 0]


def entries(images: Sequence[ImageBoxes], of_truth: bool) -> Iterator[dict[str, Any]]:
    """Yield true or predicted boxes as COCO's annotations, without ids."""
    for number, image in enumerate(images):
        boxes = image.true if of_truth else image.predicted
        labels = image.true_labels if of_truth else image.labels
        for place, (box, size) in enumerate(zip(boxes.astype(float), area(boxes), strict=True)):
            entry: dict[str, Any] = {
                'image_id': number,
                'category_id': int(labels[place]),
                'iscrowd': 0,
                'area': float(size),
            }
            entry['bbox'] = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
            yield entry if of_truth else {**entry, 'score': float(image.scores[place])}


def numbered(annotations: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield annotations with ids from 1: pycocotools takes the id 0 for a box that nothing matches."""
    for number, entry in enumerate(annotations, start=1):
        yield {**entry, 'id': number}


def area(boxes: np.ndarray) -> np.ndarray:
    """Area of boxes (N, 4) in pixels, (N,)."""
    return np.prod(boxes[:, 2:].astype(float) - boxes[:, :2], axis=1)
