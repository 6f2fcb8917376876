"""Predict masks or boxes for frames, into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vasomim.apis.files_read import FilesRead
from vasomim.apis.tracking import tracked
from vasomim.drawing.notice import NOTICE, write_notice, write_png
from vasomim.errors import DatasetError, VasoMIMError, printable
from vasomim.files import LOCK, locked, write_json
from vasomim.frames.inputs import Frame, list_sources, read_sources, refuse_all_damaged
from vasomim.inference.predictor import Prediction, Predictor


@dataclass(frozen=True)
class Predicted:
    """What was predicted into a folder.

    Attributes:
        target: The folder: ``overlays/``, and ``masks/`` (segmentation) or ``boxes.json`` (detection, COCO).
        task: 'segmentation' or 'detection'.
        classes: Without the background; empty where the checkpoint does not say.
        frames: Number of frames.
        files: What became of the files.
    """

    target: Path
    task: str
    classes: tuple[str, ...]
    frames: int
    files: FilesRead


def predict(
    checkpoint: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    score: float = 0.3,
    device: str | None = None,
    trust_config: bool = False,
    progress: bool = False,
) -> Predicted:
    """Predict for all frames of a source; for research only, not for diagnosis.

    A file that cannot be read, or that the model fails on, is named in the result, and the others are predicted. For
    predictions in memory there is :class:`vasomim.inference.predictor.Predictor`.

    Args:
        checkpoint: Of a downstream task: a file, or the folder of a run (its best checkpoint, else its last).
        source: An image, a DICOM file, or a folder of them.
        target: Folder to write to. Masks are uint8 (H, W) of the frame's own size: 0 and 255 for one class, else the
            indices of the classes. Boxes are in pixels of the frame.
        score: Boxes below it are left out, in [0, 1].
        device: 'cpu', 'cuda' or 'cuda:N'; None for a GPU if there is one.
        trust_config: Build whatever the checkpoint's config says, be it code; for files whose source you trust.
        progress: Whether to show a progress bar.

    Raises:
        CheckpointError: If the checkpoint is not that of a downstream task.
        ConfigError: If ``score`` leaves its range, or there is no such device.
        DatasetError: If the source holds no frame that can be read.
        StorageError: If the target cannot be written, or another prediction writes there.
    """
    target = Path(target)
    busy = 'another `vasomim predict` writes here.'
    with locked(target / LOCK, busy, 'Wait until it has ended, or name another folder.', keep=False):
        not_images: list[str] = []
        unread: list[str] = []
        root, names = list_sources(Path(source), target, not_images, unread)
        predictor = Predictor(checkpoint, device, score, trust_config)
        binary = len(predictor.classes) <= 1 and predictor.task == 'segmentation' and predictor.model.num_classes == 2
        write_notice(target, legend(predictor.task, binary, predictor.classes))
        count = 0
        images: list[dict] = []
        annotations: list[dict] = []
        damaged: list[DatasetError] = []
        for frame in tracked(read_sources(root, names, damaged), 'frames', progress):
            try:
                prediction = predicted(predictor, frame, root)
            except DatasetError as error:
                damaged.append(error)
                continue
            write_png(target / 'overlays' / frame.target, prediction.overlay())
            if prediction.mask is not None:
                # One class as 0 and 255, which every viewer shows; several as their indices.
                write_png(target / 'masks' / frame.target, prediction.mask * 255 if binary else prediction.mask)
            if prediction.boxes is not None:
                add_boxes(images, annotations, frame, prediction)
            count += 1
        if not count:
            refuse_all_damaged(root, len(names), damaged)
        if predictor.task == 'detection':
            write_json(target / 'boxes.json', coco(images, annotations, predictor.classes))
    files = FilesRead(len(names), tuple(damaged), tuple(not_images), tuple(unread))
    return Predicted(target, predictor.task, tuple(predictor.classes), count, files)


def predicted(predictor: Predictor, frame: Frame, root: Path) -> Prediction:
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


def add_boxes(images: list[dict], annotations: list[dict], frame: Frame, prediction: Prediction) -> None:
    """Add a frame and the boxes in it to lists of COCO; nothing of its pixels is kept.

    Args:
        images: Of the frames before.
        annotations: Of the frames before.
        frame: One of a cine is named as its overlay, and has its file and number beside.
        prediction: With boxes.
    """
    height, width = frame.pixels.shape
    # Printable, as JSON cannot hold every name that a file can have.
    image = {'id': len(images) + 1, 'file_name': printable(frame.source), 'width': width, 'height': height}
    if frame.index is not None:
        image |= {'file_name': printable(frame.target), 'source': printable(frame.source), 'frame': frame.index}
    images.append(image)
    assert prediction.boxes is not None and prediction.scores is not None and prediction.labels is not None
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
    top = max((annotation['category_id'] for annotation in annotations), default=1)
    names = classes or tuple(f'class {number + 1}' for number in range(top))
    categories = [{'id': number, 'name': name} for number, name in enumerate(names, start=1)]
    return {'info': {'description': NOTICE}, 'images': images, 'annotations': annotations, 'categories': categories}
