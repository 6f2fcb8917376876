"""``vasomim predict``: masks, overlays and boxes for images, DICOM cines, or folders of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vasomim.cli.trust import add_trust
from vasomim.errors import DatasetError, VasoMIMError, printable
from vasomim.files import LOCK, locked, write_whole

SUMMARY = 'Predict masks or boxes for frames with a fine-tuned checkpoint; for research only, not for diagnosis.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f'{SUMMARY} The exit status is 1 if files could not be read; the others are predicted.'
    parser.add_argument('checkpoint', help='checkpoint of a downstream task, or the folder of its run')
    parser.add_argument('source', type=Path, help='an image, a DICOM file, or a folder of them')
    parser.add_argument('target', type=Path, help='folder for masks/, overlays/ and, from detection, boxes.json (COCO)')
    parser.add_argument(
        '--score', type=float, default=0.3, help='leave out boxes below this score (default: %(default)s)'
    )
    parser.add_argument('--device', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Predict, and return 1 if files could not be read or predicted, which are listed.

    Raises:
        CheckpointError: If the checkpoint is not that of a downstream task.
        DatasetError: If the source holds no frame that can be read.
        StorageError: If the target cannot be written, or another prediction writes there.
    """
    busy = 'another `vasomim predict` writes here.'
    with locked(options.target / LOCK, busy, 'Wait until it has ended, or name another folder.', keep=False):
        return predict(options)


def predict(options: argparse.Namespace) -> int:
    """Predict into a folder that nobody else writes to; see :func:`run`."""
    from rich.progress import track

    from vasomim.drawing.notice import NOTICE, write_notice, write_png
    from vasomim.frames.inputs import left_out, list_sources, read_sources, refuse_all_damaged, tell_damaged
    from vasomim.frames.layout import unread_line
    from vasomim.inference.predictor import Predictor

    not_images: list[str] = []
    unread: list[str] = []
    root, names = list_sources(options.source, options.target, not_images, unread)
    predictor = Predictor(options.checkpoint, options.device, options.score, options.trust_config)
    binary = len(predictor.classes) <= 1 and predictor.task == 'segmentation' and predictor.model.num_classes == 2
    write_notice(options.target, legend(predictor.task, binary, predictor.classes))
    count = 0
    images: list[dict] = []
    annotations: list[dict] = []
    damaged: list[DatasetError] = []
    for frame in track(read_sources(root, names, damaged), description='frames', transient=True):
        try:
            prediction = predicted(predictor, frame, root)
        except DatasetError as error:
            damaged.append(error)
            continue
        write_png(options.target / 'overlays' / frame.target, prediction.overlay())
        if prediction.mask is not None:
            # One class as 0 and 255, which every viewer shows; several as their indices.
            write_png(options.target / 'masks' / frame.target, prediction.mask * 255 if binary else prediction.mask)
        if prediction.boxes is not None:
            add_boxes(images, annotations, frame, prediction)
        count += 1
    if not count:
        refuse_all_damaged(root, len(names), damaged)
    if predictor.task == 'detection':
        write_json(options.target / 'boxes.json', coco(images, annotations, predictor.classes))
    frames = f'{count} {"frame" if count == 1 else "frames"}'
    print(f'{printable(options.target)}: {predictor.task} of {frames} of {len(names)} files. {NOTICE}')
    if not_images:
        print(left_out(not_images))
    if unread:
        print(unread_line(unread))
    return tell_damaged(damaged, len(names))


def predicted(predictor: Any, frame: Any, root: Path) -> Any:
    """Predict for a frame.

    Raises:
        DatasetError: If the model or its resizing fails, as on a frame of 1 x 3000 pixels: the others shall follow.
    """
    try:
        return predictor(frame.pixels)
    except DatasetError as error:
        raise DatasetError(root / frame.source, error.what, error.cure) from error
    except VasoMIMError:
        raise
    except Exception as error:
        height, width = frame.pixels.shape
        reason = ' '.join(str(error).split()) or type(error).__name__
        what = f'the model fails on its frame of {width} x {height} pixels: {reason}'
        raise DatasetError(root / frame.source, what, 'Leave it out.') from error


def legend(task: str, binary: bool, classes: tuple[str, ...]) -> list[str]:
    """Return what the values in masks, or the categories of boxes, mean."""
    if task == 'detection':
        return ['boxes.json: COCO, in pixels of the frame.']
    if binary:
        return [f'masks: 0 background, 255 {classes[0] if classes else "foreground"}.']
    return ['masks: 0 background.', *(f'masks: {number} {name}.' for number, name in enumerate(classes, start=1))]


def add_boxes(images: list[dict], annotations: list[dict], frame: Any, prediction: Any) -> None:
    """Add a frame and the boxes in it to lists of COCO; nothing of its pixels is kept.

    Args:
        images: Of the frames before.
        annotations: Of the frames before.
        frame: :class:`vasomim.frames.inputs.Frame`. One of a cine is named as its overlay, and has its file and
            number beside.
        prediction: :class:`vasomim.inference.predictor.Prediction` with boxes.
    """
    height, width = frame.pixels.shape
    # Printable, as JSON cannot hold every name that a file can have.
    image = {'id': len(images) + 1, 'file_name': printable(frame.source), 'width': width, 'height': height}
    if frame.index is not None:
        image |= {'file_name': printable(frame.target), 'source': printable(frame.source), 'frame': frame.index}
    images.append(image)
    for box, score, label in zip(prediction.boxes, prediction.scores, prediction.labels, strict=True):
        left, upper, right, lower = (float(value) for value in box)
        annotations.append(
            {
                'id': len(annotations) + 1,
                'image_id': image['id'],
                'category_id': int(label),
                'bbox': [left, upper, right - left, lower - upper],
                'area': (right - left) * (lower - upper),
                'iscrowd': 0,
                'score': float(score),
            }
        )


def coco(images: list[dict], annotations: list[dict], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return frames and boxes as a COCO dictionary; numbers take the place of classes that are not known."""
    from vasomim.drawing.notice import NOTICE

    top = max((annotation['category_id'] for annotation in annotations), default=1)
    names = classes or tuple(f'class {number + 1}' for number in range(top))
    categories = [{'id': number, 'name': name} for number, name in enumerate(names, start=1)]
    return {'info': {'description': NOTICE}, 'images': images, 'annotations': annotations, 'categories': categories}


def write_json(path: Path, content: Any) -> None:
    """Write JSON, all at once or not at all."""
    write_whole(path, json.dumps(content, indent=1) + '\n')
