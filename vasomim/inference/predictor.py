"""Frames in, masks or boxes out, from nothing but a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from vasomim import compat
from vasomim.checkpoints.building import TASKS
from vasomim.checkpoints.loading import load_tensors
from vasomim.checkpoints.reading import read_checkpoint, trained_classes
from vasomim.checkpoints.runs import best_checkpoint
from vasomim.checkpoints.stored_check import buildable
from vasomim.checkpoints.stored_config import look_up, parse_config
from vasomim.checkpoints.stored_model import blamed_on_config, build_model, build_pipeline
from vasomim.drawing.overlays import draw_boxes, draw_mask
from vasomim.errors import CheckpointError, ConfigError, DatasetError
from vasomim.frames.inputs import Frame, list_sources, read_source, read_sources
from vasomim.inference.device import chosen_device

PIPELINE = 'test_dataloader.dataset.pipeline'


@dataclass(frozen=True)
class Prediction:
    """What a model makes of a frame, at the frame's own resolution.

    Attributes:
        frame: Grey levels, uint8 (H, W).
        mask: Class indices, uint8 (H, W), 0 = background; None for detection.
        boxes: x1, y1, x2, y2 in pixels, float (N, 4), by falling score; None for segmentation.
        scores: Score of each box in [0, 1], (N,); None for segmentation, and for boxes of an annotation.
        labels: Class of each box, 1 or more, int (N,); None for segmentation.
    """

    frame: np.ndarray
    mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    labels: np.ndarray | None = None

    def overlay(self) -> np.ndarray:
        """Return the mask or the boxes drawn onto the frame, RGB uint8 (H, W, 3)."""
        if self.mask is not None:
            return draw_mask(self.frame, self.mask)
        assert self.boxes is not None and self.labels is not None
        scores = None if self.scores is None else self.scores.tolist()
        return draw_boxes(self.frame, self.boxes, self.labels.tolist(), scores)


class Predictor:
    """A fine-tuned model with all that it needs, from the checkpoint that ``vasomim train`` wrote.

    >>> predictor = Predictor(checkpoint)
    >>> predictor.task, predictor.classes
    ('segmentation', ('vessel',))
    >>> prediction = predictor(frame)  # uint8 (H, W), or the path of an image
    >>> prediction.mask.shape == frame.shape
    True
    >>> prediction.overlay().shape == (*frame.shape, 3)
    True

    For research only, not for diagnosis.

    Args:
        checkpoint: A file, or the folder of a run: its best checkpoint, else its last.
        device: Where the model runs; a GPU if there is one, else the CPU.
        score: Boxes below it are left out, in [0, 1].
        trust_config: Build whatever the checkpoint's config says, be it code; for files whose source you trust.

    Raises:
        CheckpointError: If the checkpoint is not that of a downstream task, or does not fit its own config.
        ConfigError: If ``score`` leaves its range, or there is no such device.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        device: str | torch.device | None = None,
        score: float = 0.3,
        trust_config: bool = False,
    ) -> None:
        compat.prepare()
        if not 0 <= score <= 1:
            raise ConfigError('score', f'{score} is not in [0, 1].', 'Take 0.3, or 0 for all boxes.')
        device = chosen_device(device)
        self.source = source = best_checkpoint(checkpoint)
        self.cfg, tensors = fine_tuned(source, trust_config)
        self.scope = self.cfg.default_scope
        self.task = TASKS[self.scope]
        self.score = score
        self.classes = trained_classes(source)
        steps = transforms_of_pixels(self.cfg, source, trust_config)
        self.pipeline = build_pipeline(steps, self.scope, source)
        model = build_model(self.cfg.model, self.scope, tensors, source)
        load_tensors(model, tensors, str(source))
        self.model = model.to(device).eval()

    def __call__(self, frame: np.ndarray | str | Path) -> Prediction:
        """Predict for one frame.

        Args:
            frame: Grey levels, uint8 (H, W), or the path of an image or of a DICOM file of one frame.

        Raises:
            DatasetError: If the file cannot be read, or is a cine: :meth:`stream` takes those. If nothing is left of
                the frame's shorter side at the model's size.
            CheckpointError: If the model fails on it.
            ValueError: If an array is not uint8 (H, W).
        """
        if not isinstance(frame, np.ndarray):
            frame = single_frame(Path(frame))
        if frame.ndim != 2 or frame.dtype != np.uint8:
            raise ValueError(f'a frame is uint8 (H, W), not {frame.dtype} {frame.shape}')
        shape = frame.shape
        pixels = np.repeat(frame[..., None], 3, axis=-1)
        with blamed_on_config(self.source, f'its model fails on a frame of {shape[1]} x {shape[0]}'):
            try:
                packed = self.pipeline(dict(img=pixels, img_path='', img_id=0, img_shape=shape, ori_shape=shape))
            except cv2.error as error:
                what = f'a frame of {shape[1]} x {shape[0]} pixels cannot be brought to the size of the model.'
                raise DatasetError('frame', what, 'It is too narrow to be an angiogram: leave it out.') from error
            with torch.no_grad(), DefaultScope.overwrite_default_scope(self.scope):
                sample = self.model.test_step(pseudo_collate([packed]))[0]
            return as_prediction(frame, sample, self.score)

    def stream(self, source: str | Path) -> Iterator[tuple[Frame, Prediction]]:
        """Predict for every frame of a source, one after the other.

        Args:
            source: An image, a DICOM file of one frame or many, or a folder of them.

        Raises:
            DatasetError: If it holds no frame, or one cannot be read, or is too narrow.
        """
        root, names = list_sources(source)
        for frame in read_sources(root, names):
            try:
                prediction = self(frame.pixels)
            except DatasetError as error:
                raise DatasetError(root / frame.source, error.what, error.cure) from error
            yield frame, prediction


def single_frame(path: Path) -> np.ndarray:
    """Return the only frame of a file.

    Raises:
        DatasetError: If it cannot be read, or holds several.
    """
    frame = next(read_source(path.parent, path.name))
    if frame.index is not None:
        raise DatasetError(path, 'it is a cine of several frames.', 'Take Predictor.stream, which yields each of them.')
    return frame.pixels


def as_prediction(frame: np.ndarray, sample: Any, score: float) -> Prediction:
    """Return a model's output for a frame, a sample of mmseg or mmdet, without boxes below a score."""
    if 'pred_sem_seg' in sample:
        return Prediction(frame, mask=sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8))
    found = sample.pred_instances
    found = found[found.scores >= score]
    order = found.scores.argsort(descending=True)
    boxes, scores, labels = (values[order].cpu().numpy() for values in (found.bboxes, found.scores, found.labels))
    return Prediction(frame, boxes=boxes, scores=scores, labels=labels + 1)


def fine_tuned(source: str | Path, trust_config: bool = False) -> tuple[Config, dict[str, torch.Tensor]]:
    """Return config and tensors of a downstream task's checkpoint; its ``model`` is ready to be built.

    Args:
        source: The checkpoint.
        trust_config: As in :class:`Predictor`.

    Raises:
        CheckpointError: If it carries no config, that of something else, or one with what
            :mod:`vasomim.checkpoints.allow_list` does not allow.
    """
    checkpoint = read_checkpoint(source)
    cure = 'Take a checkpoint that `vasomim train` wrote with a config of configs/downstream.'
    if checkpoint.config is None:
        raise CheckpointError(source, 'it carries no config, so its model is unknown.', cure)
    cfg = parse_config(checkpoint.config, source)
    scope = look_up(cfg, 'default_scope', str, source)
    if scope not in TASKS:
        raise CheckpointError(source, 'it is not of a downstream task, and predicts neither masks nor boxes.', cure)
    model = look_up(cfg, 'model', dict, source)
    if not model:
        raise CheckpointError(source, 'its config describes no model.', cure)
    cfg.model = buildable(model, 'model', cfg, scope, source, trust_config)
    return cfg, checkpoint.tensors


def transforms_of_pixels(cfg: Config, source: str | Path, trust_config: bool = False) -> list[dict]:
    """Return the steps of the test pipeline in a stored config that read no file, ready to be built.

    Args:
        cfg: The stored config.
        source: The checkpoint, for the error.
        trust_config: As in :class:`Predictor`.

    Raises:
        CheckpointError: If it has none, one that names no type, or one that is not allowed.
    """
    steps = look_up(cfg, PIPELINE, (list, tuple), source, [])
    if not steps or not all(isinstance(step, dict) and isinstance(step.get('type'), str) for step in steps):
        what = f'its config has no test pipeline ({PIPELINE}) that says how frames are prepared.'
        raise CheckpointError(source, what, 'Take a checkpoint that `vasomim train` wrote.')
    of_pixels = [None if step['type'].rpartition('.')[2].startswith('Load') else step for step in steps]
    checked = buildable(of_pixels, PIPELINE, cfg, cfg.default_scope, source, trust_config)
    return [step for step in checked if step is not None]
