"""From predictions on disk to scores: what a cell records, and what `benchmark verify` computes again."""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.results.tables import Scores
from vasomim.benchmark.schema import LENIENT, STRICT, Count, Number, checked, number
from vasomim.benchmark.study.entries import Task
from vasomim.errors import DatasetError
from vasomim.files import parse_json, read_json
from vasomim.prepare.prepared import SIDES, boxes_path, mask_path, read_description, read_split

if TYPE_CHECKING:
    from vasomim.evaluation.detection_sizes import ImageBoxes

AGAIN = 'Test the model again.'
FARTHEST = 1e6  # Pixels; no picture is as large.
STATISTICS = {'mAP': 0, 'mAP50': 1, 'mAP75': 2}  # Places in COCO's summary.
PREDICTIONS = 'predictions'  # Folder of a test's predictions, in that of the test.
BOXES, OPERATING_POINT = 'boxes.json', 'operating_point.json'


@LENIENT
class CocoImage(TypedDict):
    """An image of a COCO file."""

    id: int
    file_name: str


@LENIENT
class CocoBox(TypedDict):
    """A box of a COCO file."""

    image_id: int
    category_id: int
    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]


@LENIENT
class CocoCategory(TypedDict):
    """A category of a COCO file."""

    id: int


@LENIENT
class Coco(TypedDict):
    """A COCO file."""

    images: list[CocoImage]
    annotations: list[CocoBox]
    categories: list[CocoCategory]


@STRICT
class Chosen(TypedDict):
    """The score from which a box counts for F1, and the number of images that it was chosen on."""

    score: Number
    images: Count


TRUTH, CHOSEN = TypeAdapter(Coco), TypeAdapter(Chosen)


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
    from vasomim.evaluation.cases import measure_case
    from vasomim.evaluation.report import report
    from vasomim.frames.images import read_grey

    classes = read_description(data)['classes']
    sides = read_json(data / SIDES, DatasetError, 'Prepare the set again.') if (data / SIDES).is_file() else {}
    cases = []
    for name in read_split(data, 'test'):
        truth = read_grey(mask_path(data, name))
        mask = parse_mask(read(f'{name}.png'), f'{name}.png', truth.shape, len(classes))
        cases.append(measure_case(name, mask, truth, len(classes), task.metrics, task.subgroups, sides.get(name)))
    figures = report(cases, classes, task.subgroups)
    values = {metric: np.array([case.value(metric) for case in cases]) for metric in task.metrics}
    table = Scores(tuple(case.name for case in cases), values, groups(cases, figures, task.subgroups))
    scores = {metric: figures[metric] for metric in task.metrics}
    if figures.get('HD95/undefined'):  # Its mean over the other images favors a model that misses vessels.
        scores['HD95'] = math.nan
    return Outcome(scores, table, by_subgroup(figures, task))


def parse_mask(data: bytes, name: str, shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Return a predicted mask, uint8 (H, W), class indices.

    Args:
        data: A PNG file of 8-bit grey: others would be converted, and theirs are no class indices.
        name: Of the file.
        shape: Of its annotation, (H, W); a file that says that it has another one is not decoded.
        classes: Without the background.

    Raises:
        StoreError: If it is none, or does not fit the annotation.
    """
    import cv2

    head = data[16:26]
    if data[:8] != b'\x89PNG\r\n\x1a\n' or len(head) < 10:
        raise StoreError(name, 'this prediction is no PNG file.', AGAIN)
    width, height, depth, color = struct.unpack('>IIBB', head)
    if (height, width) != tuple(shape[:2]) or (depth, color) != (8, 0):
        raise StoreError(name, 'this prediction does not fit its annotation.', AGAIN)
    try:
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # As it is, whatever its EXIF says.
    except cv2.error as error:
        raise StoreError(name, 'this prediction is damaged.', AGAIN) from error
    if mask is None or mask.shape != tuple(shape) or mask.max() > classes:
        raise StoreError(name, 'this prediction does not fit its annotation.', AGAIN)
    return np.asarray(mask)


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

    content = read_truth(data, 'test')
    results, threshold = parse_boxes(read(BOXES), BOXES, content), parse_operating_point(read(OPERATING_POINT))['score']
    images = by_image(content, results)
    f1 = np.array([f1_at(boxes, np.array([threshold]))[0] for boxes in images.values()])
    measured = {**coco_scores(content, results), 'F1': float(f1.mean())}
    return Outcome(
        {metric: measured[metric] for metric in task.metrics},
        Scores(tuple(images), {'F1': f1} if 'F1' in task.metrics else {}, {}),
        score_threshold=threshold,
    )


def choose_operating_point(data: Path, predictions: bytes, name: str = BOXES) -> dict[str, Any]:
    """Choose the score from which a box counts for F1 on the validation split of a prepared set.

    Detectors differ in how sure they are: at a fixed score F1 would compare that.

    Args:
        data: The prepared set.
        predictions: COCO's list of results on that split, as JSON.
        name: Of their file.

    Returns:
        ``score`` and ``images``, the number of images that it was chosen on.

    Raises:
        StoreError: If the predictions are damaged.
        DatasetError: If the set is.
    """
    from vasomim.evaluation.detection_cases import best_score

    content = read_truth(data, 'val')
    images = by_image(content, parse_boxes(predictions, name, content))
    return {'score': best_score(list(images.values())), 'images': len(images)}


def read_truth(data: Path, split: str) -> dict[str, Any]:
    """Return the COCO file of a split.

    Raises:
        DatasetError: If it is missing or damaged.
    """
    path = boxes_path(data, split)
    cure = 'Prepare the set again.'
    content: dict[str, Any] = read_json(path, DatasetError, cure)
    checked(TRUTH, content, path, DatasetError, cure)
    known = {image['id'] for image in content['images']}
    if any(box['image_id'] not in known for box in content['annotations']):
        raise DatasetError(path, 'a box belongs to an image that it does not list.', cure)
    return content


def parse_operating_point(data: bytes, name: str = OPERATING_POINT) -> dict[str, Any]:
    """Return the score from which a box counts for F1, and the number of images that it was chosen on.

    Raises:
        StoreError: If the file is damaged.
    """
    content = parse_json(data, name, StoreError, AGAIN)
    checked(CHOSEN, content, name, StoreError, AGAIN)
    return dict(content)


def parse_boxes(data: bytes, name: str, truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return COCO's list of results with the four keys that say what was predicted, and no others.

    pycocotools takes whatever stands beside them: with a ``caption`` it leaves out the areas, and a false ``area`` then
    makes a box fit or not count as one likes.

    Args:
        data: JSON.
        name: Of its file.
        truth: The COCO file whose images and categories they are of.

    Raises:
        StoreError: If they are damaged, or a box is of an image or a category that the set does not have.
    """
    rows = parse_json(data, name, StoreError, AGAIN, list)
    images = {image['id'] for image in truth['images']}
    categories = {category['id'] for category in truth['categories']}
    found = []
    for place, row in enumerate(rows):
        try:
            image, category, box, value = (row[key] for key in ('image_id', 'category_id', 'bbox', 'score'))
            numbers = [float(number(item)) for item in box]
            score = float(number(value))
        except (TypeError, KeyError, ValueError) as error:
            raise StoreError(f'{name}: box {place}', "it is none of COCO's results.", AGAIN) from error
        # True is 1 for Python, and no id.
        if type(image) is not int or image not in images or type(category) is not int or category not in categories:
            raise StoreError(f'{name}: box {place}', 'the set has no such image or category.', AGAIN)
        if len(numbers) != 4 or min(numbers[2:]) < 0 or max(map(abs, numbers)) > FARTHEST:
            raise StoreError(f'{name}: box {place}', 'it is no x, y, width and height in pixels.', AGAIN)
        found.append({'image_id': image, 'category_id': category, 'bbox': numbers, 'score': score})
    return found


def by_image(content: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, ImageBoxes]:
    """Return the true boxes of a COCO file beside the predicted ones, by the image's name."""
    from vasomim.evaluation.detection_sizes import ImageBoxes

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
    return images


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
