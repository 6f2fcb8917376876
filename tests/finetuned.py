"""Checkpoints of downstream tasks as the training writes them, with random weights: no training is needed."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.registry import MODELS, DefaultScope

from tests.models.builders import ARCH
from vasomim import compat
from vasomim.apis.configs import load_config


def write_checkpoint(path: Path, config: str = 'arcade_v/segmentation', size: int = 64) -> Path:
    """Write a tiny model of a downstream config; its test pipeline resizes to ``size``."""
    compat.prepare()
    cfg = load_config(f'vasomim::downstream/{config}.py')
    cfg.model.backbone.update(arch=ARCH, img_size=size)
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'] == 'Resize':
            step['scale'] = (size, size)
    classes: tuple[str, ...] = ('stenosis',)
    if 'segmentation' in config:
        cfg.model.decode_head.widths = (16, 8, 8, 8, 8)
        number = cfg.model.decode_head.num_classes
        classes = ('background', 'vessel') if number == 2 else tuple(f'c{index}' for index in range(number))
        classes = ('background', *classes[1:])
    else:
        cfg.model.neck.out_channels = 16
        cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
        cfg.model.roi_head.bbox_roi_extractor.out_channels = 16
        cfg.model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16)
        cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    meta = {'cfg': cfg.pretty_text, 'dataset_meta': {'classes': classes}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path
