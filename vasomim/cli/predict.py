"""``vasomim predict``: masks, overlays and boxes for a frame or a folder of frames."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError

SUMMARY = 'Predict masks or boxes for frames with a fine-tuned checkpoint; for research only, not for diagnosis.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('checkpoint', help='checkpoint of a downstream task, or the folder of its run')
    parser.add_argument('source', type=Path, help='a frame, or a folder of frames')
    parser.add_argument('target', type=Path, help='folder for masks/, overlays/ and, from detection, boxes.json (COCO)')
    parser.add_argument(
        '--score', type=float, default=0.3, help='leave out boxes below this score (default: %(default)s)'
    )
    parser.add_argument('--device', help='cpu, cuda or cuda:N (default: a GPU if there is one)')


def run(options: argparse.Namespace) -> int:
    """Predict.

    Raises:
        CheckpointError: If the checkpoint is not that of a downstream task.
        DatasetError: If the source holds no frame, or one is damaged.
    """
    from rich.progress import track

    from vasomim.layout import list_images, map_names
    from vasomim.predictor import NOTICE, Predictor
    from vasomim.visualization import write_picture

    source: Path = options.source
    if source.is_file():
        root, names = source.parent, [source.name]
    else:
        root, names = source, list_images(source, anatomy_suffix='', without=options.target)
    targets = map_names(names, root)
    predictor = Predictor(options.checkpoint, options.device, options.score)
    found = []
    for name in track(names, description='frames', transient=True):
        prediction = predictor(root / name)
        write_picture(options.target / 'overlays' / targets[name], prediction.overlay())
        if prediction.mask is not None:
            # One class as 0 and 255, which every viewer shows; several as their indices.
            values = prediction.mask * 255 if predictor.model.num_classes == 2 else prediction.mask
            write_grey(options.target / 'masks' / targets[name], values)
        found.append((name, prediction))
    if predictor.task == 'detection':
        write_json(options.target / 'boxes.json', coco(found, predictor.classes))
    print(f'{options.target}: {predictor.task} of {len(names)} {"frame" if len(names) == 1 else "frames"}. {NOTICE}')
    return 0


def coco(found: list[tuple[str, Any]], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return boxes as a COCO dictionary, with the score of each.

    Args:
        found: Path and prediction of each frame.
        classes: Names of the classes; numbers take their place where they are not known.
    """
    from vasomim.predictor import NOTICE

    images: list[dict] = []
    annotations: list[dict] = []
    top = 1
    for image_id, (name, prediction) in enumerate(found, start=1):
        height, width = prediction.frame.shape
        images.append({'id': image_id, 'file_name': name, 'width': width, 'height': height})
        for box, score, label in zip(prediction.boxes, prediction.scores, prediction.labels, strict=True):
            left, upper, right, lower = (float(value) for value in box)
            top = max(top, int(label))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    'category_id': int(label),
                    'bbox': [left, upper, right - left, lower - upper],
                    'area': (right - left) * (lower - upper),
                    'iscrowd': 0,
                    'score': float(score),
                }
            )
    names = classes or tuple(f'class {number + 1}' for number in range(top))
    categories = [{'id': number, 'name': name} for number, name in enumerate(names, start=1)]
    return {'info': {'description': NOTICE}, 'images': images, 'annotations': annotations, 'categories': categories}


def write_grey(path: Path, image: Any) -> None:
    """Write grey levels as PNG.

    Raises:
        DatasetError: If the file cannot be written.
    """
    import cv2

    encoded = cv2.imencode('.png', image)[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise DatasetError(
            path, f'cannot be written ({error.strerror}).', 'Free space or choose another folder.'
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON, all at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + '.tmp')
    unfinished.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    os.replace(unfinished, path)
