"""Keep what a model predicts on a test split, so that its scores can be computed from it at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from vasomim.benchmark.scoring.measures import BOXES, PREDICTIONS
from vasomim.files import write_whole
from vasomim.registry import HOOKS


@HOOKS.register_module()
class PredictionHook(Hook):
    """Writes the predictions of a test to ``predictions/`` in the work directory.

    Masks at the annotation's resolution: ``NAME.png``, class indices. Boxes: ``boxes.json``, COCO's list of results.
    """

    def before_test(self, runner: Runner) -> None:
        """Begin anew."""
        self.boxes: list[dict[str, Any]] = []
        self.folder = Path(runner.work_dir) / PREDICTIONS
        self.folder.mkdir(parents=True, exist_ok=True)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep the predictions of a batch."""
        for sample in outputs or ():
            if 'pred_sem_seg' in sample:
                mask = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
                done, content = cv2.imencode('.png', mask)
                assert done
                # Not synced, as they can be predicted again; imwrite says nothing of a full disk.
                write_whole(self.folder / f'{Path(sample.img_path).stem}.png', content.tobytes(), sync=False)
            else:
                categories = runner.test_dataloader.dataset.cat_ids
                self.boxes.extend(as_results(sample.img_id, sample.pred_instances, categories))

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Write the boxes."""
        if runner.cfg.default_scope == 'mmdet':
            write_whole(self.folder / BOXES, json.dumps(self.boxes))


def as_results(image: int, found: Any, categories: Sequence[int]) -> list[dict[str, Any]]:
    """Return the boxes of an image as COCO's results: x, y, width, height."""
    boxes, scores, labels = (values.cpu().numpy() for values in (found.bboxes, found.scores, found.labels))
    return [
        {
            'image_id': int(image),
            'category_id': int(categories[label]),
            'bbox': [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            'score': float(value),
        }
        for (x1, y1, x2, y2), value, label in zip(boxes.tolist(), scores, labels, strict=True)
    ]
