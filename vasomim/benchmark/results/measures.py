"""From predictions on disk to scores: what a cell records, and what `benchmark verify` computes again."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vasomim.benchmark.results.store import Scores, StoreError
from vasomim.benchmark.study.entries import Task
from vasomim.prepare.prepared import SIDES, boxes_path, mask_path, read_description, read_split

if TYPE_CHECKING:
    from vasomim.evaluation.detection_sizes import ImageBoxes

STATISTICS = {'mAP': 0, 'mAP50': 1, 'mAP75': 2}  # Places in COCO's summary.
BOX_METRICS = (*STATISTICS, 'F1')
BOXES, OPERATING_POINT = 'boxes.json', 'operating_point.json'


@dataclass(frozen=True)
class Outcome:
    """What a test gives.

    Attributes:
        scores: By metric, over all images, in [0, 1]; NaN where undefined.
        table: The same per image, as far as a metric exists there.
        subgroups: By subgroup and group: metrics and the number of ``images``.
        curve: Validation by epoch.
        weights: What was loaded into the encoder.
        score_threshold: Score from which a box counts for F1; None for masks.
    """

    scores: dict[str, float]
    table: Scores
    subgroups: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Any] | None = None
    score_threshold: float | None = None


def score(task: Task, data: Path, read: Callable[[str], bytes]) -> Outcome:
    """Score predictions for the test split of a prepared set.

    Args:
        task: Its metrics and subgroups are measured.
        data: The prepared set.
        read: Returns the content of ``NAME.png`` (class indices, at the annotation's resolution); or of ``boxes.json``
            (COCO's list of results) and ``operating_point.json`` (the score from which a box counts for F1).

    Raises:
        StoreError: If a prediction is missing or damaged.
    """
    return score_masks(task, data, read) if task.task == 'segmentation' else score_boxes(task, data, read)


def score_masks(task: Task, data: Path, read: Callable[[str], bytes]) -> Outcome:
    """Score masks; otherwise as :func:`score`."""
    import cv2

    from vasomim.evaluation.cases import measure_case
    from vasomim.evaluation.report import report
    from vasomim.frames.images import read_grey

    classes = read_description(data)['classes']
    sides = json.loads((data / SIDES).read_text(encoding='utf-8')) if (data / SIDES).is_file() else {}
    cases = []
    for name in read_split(data, 'test'):
        truth = read_grey(mask_path(data, name))
        mask = cv2.imdecode(np.frombuffer(read(f'{name}.png'), np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != truth.shape or mask.max() > len(classes):
            raise StoreError(f'{name}.png', 'this prediction does not fit its annotation.', 'Test the model again.')
        cases.append(measure_case(name, mask, truth, len(classes), task.metrics, task.subgroups, sides.get(name)))
    figures = report(cases, classes, task.subgroups)
    values = {metric: np.array([case.value(metric) for case in cases]) for metric in task.metrics}
    table = Scores(tuple(case.name for case in cases), values, groups(cases, figures, task.subgroups))
    scores = {metric: figures[metric] for metric in task.metrics}
    if figures.get('HD95/undefined'):  # Its mean over the other images favors a model that misses vessels.
        scores['HD95'] = math.nan
    return Outcome(scores, table, by_subgroup(figures, task))


def groups(cases: Sequence[Any], figures: Mapping[str, float], subgroups: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the group of each image, for the subgroups that divide images."""
    from vasomim.evaluation.report import GROUP_NAMES
    from vasomim.evaluation.summary import Terciles

    found: dict[str, tuple[str, ...]] = {}
    if 'side' in subgroups:
        found['side'] = tuple(case.side or '' for case in cases)
    if 'mean_width' in subgroups:
        cuts = Terciles(figures['mean_width/low_cut'], figures['mean_width/high_cut'])
        names = (*GROUP_NAMES['mean_width'], 'no_vessel')
        found['mean_width'] = tuple(names[group] for group in cuts.group(np.array([case.mean_width for case in cases])))
    return found


def by_subgroup(figures: Mapping[str, float], task: Task) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of subgroups as a tree."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    counted: dict[tuple[str, str], dict[str, float]] = {}
    for metric in task.metrics:
        for subgroup in task.subgroups:
            start = f'{metric}/{subgroup}/'
            for key in figures:
                group = key.removeprefix(start)
                if key.startswith(start) and '/' not in group:
                    of_group = found.setdefault(subgroup, {}).setdefault(group, {})
                    images = figures[f'{key}/images']
                    of_group['images'] = max(images, of_group.get('images', 0))
                    of_group[metric] = figures[key]
                    counted.setdefault((subgroup, group), {})[metric] = images
    for (
        subgroup,
        group,
    ), images_of in counted.items():  # No mean over what happens to be defined.
        if images_of.get('HD95', math.inf) < found[subgroup][group]['images']:
            found[subgroup][group]['HD95'] = math.nan
    return found


def score_boxes(task: Task, data: Path, read: Callable[[str], bytes]) -> Outcome:
    """Score boxes; otherwise as :func:`score`."""
    from vasomim.evaluation.detection_cases import f1_at

    results, threshold = from_json(read, BOXES), from_json(read, OPERATING_POINT)['score']
    content, images = with_truth(data, 'test', results)
    f1 = np.array([f1_at(boxes, np.array([threshold]))[0] for boxes in images.values()])
    measured = {**coco_scores(content, results), 'F1': float(f1.mean())}
    return Outcome(
        {metric: measured[metric] for metric in task.metrics},
        Scores(tuple(images), {'F1': f1} if 'F1' in task.metrics else {}, {}),
        score_threshold=threshold,
    )


def choose_operating_point(data: Path, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Choose the score from which a box counts for F1 on the validation split of a prepared set.

    Detectors differ in how sure they are: at a fixed score F1 would compare that.

    Args:
        data: The prepared set.
        results: COCO's list of results on that split.

    Returns:
        ``score`` and ``images``, the number of images that it was chosen on.
    """
    from vasomim.evaluation.detection_cases import best_score

    _, images = with_truth(data, 'val', results)
    return {'score': best_score(list(images.values())), 'images': len(images)}


def from_json(read: Callable[[str], bytes], name: str) -> Any:
    """Read predictions.

    Raises:
        StoreError: If they are damaged.
    """
    try:
        return json.loads(read(name))
    except ValueError as error:
        raise StoreError(name, f'these predictions are damaged: {error}.', 'Test the model again.') from error


def with_truth(
    data: Path, split: str, results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, ImageBoxes]]:
    """Return the COCO file of a split, and its true boxes beside the predicted ones by the image's name."""
    from vasomim.evaluation.detection_sizes import ImageBoxes

    content = json.loads(boxes_path(data, split).read_text(encoding='utf-8'))
    true: dict[int, list] = {image['id']: [] for image in content['images']}
    found: dict[int, list] = {image['id']: [] for image in content['images']}
    for rows, into in ((content['annotations'], true), (results, found)):
        for box in rows:
            into[box['image_id']].append(box)
    images = {}
    for image in sorted(content['images'], key=lambda image: image['file_name']):
        boxes = found[image['id']]
        scores = np.array([box['score'] for box in boxes], dtype=float)
        images[Path(image['file_name']).stem] = ImageBoxes(*arrays(true[image['id']]), *arrays(boxes), scores)
    return content, images


def arrays(boxes: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return COCO's boxes as corners (N, 4), and their categories (N,)."""
    corners = np.array([box['bbox'] for box in boxes], dtype=float).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners, np.array([box['category_id'] for box in boxes], dtype=int)


def coco_scores(content: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, float]:
    """Return COCO's average precisions, unrounded; NaN where there is nothing to find."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not results:
        return dict.fromkeys(STATISTICS, 0.0 if content['annotations'] else math.nan)
    with contextlib.redirect_stdout(io.StringIO()):  # It prints what it does.
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        name: math.nan if evaluation.stats[place] == -1 else float(evaluation.stats[place])
        for name, place in STATISTICS.items()
    }
