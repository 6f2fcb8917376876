"""The curve of a training, from the logs that mmengine writes."""

from __future__ import annotations

import json
from pathlib import Path

from vasomim.benchmark.running.cells import curve


def test_a_curve_holds_the_figures_of_the_whole_set(tmp_path: Path) -> None:
    log = tmp_path / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    rows = [
        {'loss': 2.0, 'epoch': 1, 'step': 1},
        {'loss': 1.0, 'epoch': 1, 'step': 2},
        {'DSC': 0.5, 'images': 200, 'DSC/class/1': 0.1, 'DSC/class/1/images': 58, 'DSC/pooled': 0.4, 'step': 1},
        {'loss': 0.5, 'epoch': 2, 'step': 3},
        {'coco/bbox_mAP': 0.3, 'time': 0.1, 'step': 2},
    ]
    log.write_text(''.join(json.dumps(row) + '\n' for row in rows) + '{"loss": 0.', encoding='utf-8')
    assert curve(tmp_path) == [
        {'epoch': 1, 'loss': 1.5, 'DSC': 0.5, 'images': 200},
        {'epoch': 2, 'loss': 0.5, 'bbox_mAP': 0.3},
    ]
