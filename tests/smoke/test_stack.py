"""Each library builds, trains, checkpoints, resumes and evaluates on whichever of the two stacks is installed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from vasomim import compat

compat.prepare()

SIZE = 64


def blob(index: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Draw a bright rectangle on noise; return the frame and the box x, y, width, height."""
    generator = np.random.default_rng(index)
    frame = generator.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    x, y, width, height = (int(value) for value in generator.integers((4, 4, 16, 16), (20, 20, 40, 40)))
    frame[y : y + height, x : x + width] += 150
    return frame, (x, y, width, height)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four frames with boxes in COCO's form and masks beside them."""
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    images, annotations = [], []
    for index in range(4):
        frame, (x, y, width, height) = blob(index)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[y : y + height, x : x + width] = 1
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), frame)
        cv2.imwrite(str(tmp_path / 'masks' / f'{index}.png'), mask)
        images.append({'id': index, 'file_name': f'{index}.png', 'width': SIZE, 'height': SIZE})
        annotations.append(
            {
                'id': index + 1,
                'image_id': index,
                'category_id': 1,
                'bbox': [x, y, width, height],
                'area': width * height,
                'iscrowd': 0,
            }
        )
    coco = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'vessel'}]}
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    return tmp_path


def loader(dataset: dict, batch: int = 2, collate: str = 'pseudo_collate') -> dict:
    return dict(
        batch_size=batch,
        num_workers=0,
        collate_fn=dict(type=collate),
        sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
        dataset=dataset,
    )


def experiment(scope: str, work_dir: Path, model: dict, data: dict, evaluation: dict | None = None) -> dict:
    """Two iterations with a checkpoint after each."""
    settings = dict(
        default_scope=scope,
        work_dir=str(work_dir),
        experiment_name=scope,
        model=model,
        train_dataloader=loader(data),
        train_cfg=dict(by_epoch=False, max_iters=2, val_interval=2),
        optim_wrapper=dict(type='mmengine.OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
        param_scheduler=[dict(type='mmengine.LinearLR', start_factor=0.1, by_epoch=False, end=4)],
        default_hooks=dict(
            logger=dict(type='mmengine.LoggerHook', interval=1),
            checkpoint=dict(type='mmengine.CheckpointHook', interval=1, by_epoch=False),
        ),
        randomness=dict(seed=0),
        log_level='WARNING',
    )
    if evaluation:
        settings.update(evaluation)
    return settings


class StartRecorder(Hook):
    """Keeps the state in which training starts, which is after the checkpoint is read."""

    def before_train(self, runner: Runner) -> None:
        self.iteration = runner.iter
        self.weights = {name: weight.clone() for name, weight in runner.model.state_dict().items()}


def train_and_resume(settings: dict) -> Runner:
    """Train two iterations and resume for two more; check that the second run took over the state of the first."""
    first = Runner.from_cfg(Config(settings))
    first.train()
    assert first.iter == 2
    assert (Path(settings['work_dir']) / 'iter_2.pth').is_file()

    settings['train_cfg']['max_iters'] = 4
    # mmengine keeps state by the experiment's name for the whole process; another name is a process of its own to it.
    second = Runner.from_cfg(Config({**settings, 'resume': True, 'experiment_name': settings['default_scope'] + '-2'}))
    start = StartRecorder()
    second.register_hook(start)
    second.train()

    assert start.iteration == 2
    for name, weight in first.model.state_dict().items():
        torch.testing.assert_close(start.weights[name], weight, msg=f'{name} was not resumed')
    assert second.iter == 4
    assert any(not torch.equal(weight, start.weights[name]) for name, weight in second.model.state_dict().items())
    assert {int(state['step']) for state in second.optim_wrapper.optimizer.state.values()} == {4}
    losses = second.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 4, 'the history of the losses was not resumed'
    assert np.isfinite(losses).all()
    return second


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    """Mmengine keeps the scope of the last runner for the process."""
    yield
    DefaultScope._instance_dict.clear()


def test_mmpretrain_trains_and_resumes_a_masked_autoencoder(folder):
    model = dict(
        type='MAE',
        backbone=dict(
            type='MAEViT',
            arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
            img_size=SIZE,
            patch_size=16,
            mask_ratio=0.75,
        ),
        neck=dict(
            type='MAEPretrainDecoder',
            num_patches=16,
            patch_size=16,
            embed_dim=32,
            decoder_embed_dim=32,
            decoder_depth=1,
            decoder_num_heads=2,
            mlp_ratio=2.0,
        ),
        head=dict(
            type='MAEPretrainHead',
            norm_pix=True,
            patch_size=16,
            loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        ),
        data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
    )
    data = dict(
        type='CustomDataset',
        data_root=str(folder),
        data_prefix='images',
        with_label=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    settings = experiment('mmpretrain', folder / 'work', model, data)
    settings['train_dataloader'] = loader(data, collate='default_collate')
    train_and_resume(settings)


def test_mmseg_trains_resumes_and_evaluates_a_unet(folder):
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[0] * 3, std=[255] * 3, size=(SIZE, SIZE)),
        backbone=dict(
            type='UNet',
            base_channels=8,
            num_stages=2,
            strides=(1, 1),
            enc_num_convs=(1, 1),
            dec_num_convs=(1,),
            downsamples=(True,),
            enc_dilations=(1, 1),
            dec_dilations=(1,),
            norm_cfg=dict(type='BN'),
        ),
        decode_head=dict(type='FCNHead', in_channels=8, in_index=1, channels=8, num_convs=1, num_classes=2),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    data = dict(
        type='BaseSegDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix='.png',
        seg_map_suffix='.png',
        metainfo=dict(classes=('background', 'vessel'), palette=[[0, 0, 0], [255, 0, 0]]),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    )
    evaluation = dict(
        val_dataloader=loader(data, batch=1),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='IoUMetric', iou_metrics=['mDice']),
    )
    runner = train_and_resume(experiment('mmseg', folder / 'work', model, data, evaluation))
    assert 0 <= runner.val_loop.run()['mDice'] <= 100


def test_mmdet_trains_resumes_and_evaluates_a_faster_rcnn(folder):
    """Proposals pass through NMS and RoIAlign, in training and in evaluation."""
    box_coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4)
    assigner = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    sampler = dict(type='RandomSampler', num=16, pos_fraction=0.5)
    model = dict(
        type='FasterRCNN',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[0] * 3, std=[255] * 3, pad_size_divisor=32),
        backbone=dict(type='ResNet', depth=18, base_channels=8, num_stages=4, out_indices=(1, 2)),
        neck=dict(type='FPN', in_channels=[16, 32], out_channels=16, num_outs=2),
        rpn_head=dict(
            type='RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16]),
            bbox_coder=box_coder,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss'),
        ),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=16,
                featmap_strides=[8, 16],
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=16,
                fc_out_channels=16,
                roi_feat_size=7,
                num_classes=1,
                bbox_coder=box_coder,
                loss_cls=dict(type='CrossEntropyLoss'),
                loss_bbox=dict(type='L1Loss'),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=assigner, sampler={**sampler, 'add_gt_as_proposals': False}, allowed_border=-1, pos_weight=-1
            ),
            rpn_proposal=dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
            rcnn=dict(assigner=assigner, sampler=sampler, pos_weight=-1),
        ),
        test_cfg=dict(
            rpn=dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
            rcnn=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10),
        ),
    )
    data = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='coco.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('vessel',), palette=[(255, 0, 0)]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(SIZE, SIZE)),  # Sets the scale factor by which evaluation maps boxes back.
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ],
    )
    evaluation = dict(
        val_dataloader=loader({**data, 'test_mode': True}, batch=1),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='CocoMetric', ann_file=str(folder / 'coco.json'), metric='bbox'),
    )
    runner = train_and_resume(experiment('mmdet', folder / 'work', model, data, evaluation))
    assert -1 <= runner.val_loop.run()['coco/bbox_mAP'] <= 1
