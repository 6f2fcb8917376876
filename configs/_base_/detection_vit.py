# ViTDet (arXiv 2203.16527): a plain ViT with windows and four global layers, a simple feature pyramid, and Faster R-CNN
# (arXiv 1506.01497), with the settings that mmdet uses for it on a feature pyramid, but for those marked [stenosis]:
# choices of this project, as stenoses are few, small and faint. With mmdet's, 500 steps on ARCADE taught the detector
# where stenoses lie on average and nothing of the image.
#   another encoder size     --cfg-options model.backbone.arch=small   (tiny, small, base, large)
model = dict(
    type='PlainViTFasterRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # as in pre-training: ImageNet's, on three equal channels
        std=[58.395, 57.12, 57.375],
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='mmpretrain.PlainViT',
        arch='base',
        img_size=512,
        drop_path_rate=0.1,
        window_size=16,  # 2 x 2 windows of 256 px at 512 px; ViTDet: 14 at 1024 px
    ),
    neck=dict(type='SimpleFeaturePyramid', out_channels=256),
    rpn_head=dict(
        type='RPNHead',
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4, 5.66], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
        ),  # [stenosis] boxes of 16 to 362 px, half an octave apart; mmdet's one scale, 8, begins at 32 px. Of ARCADE's
        # boxes 55 % overlap an anchor by 0.7, with the scale 4 alone 23 %.
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        # [stenosis] Focal loss (arXiv 1708.02002) over all anchors, begun at a probability of 0.01: of the 256 anchors
        # that mmdet samples, about 1 % were positive.
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='rpn_cls', std=0.01, bias_prob=0.01),
        ),
    ),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
            finest_scale=28,  # boxes below 56 px are read from stride 4
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=1,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True
            ),  # [stenosis] mmdet: 0.7, which 2 or 3 anchors of an image of ARCADE reach
            sampler=dict(type='PseudoSampler'),  # all anchors, for the focal loss
            allowed_border=-1,
            pos_weight=-1,
        ),
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
            ),
            # [stenosis] mmdet adds the true boxes. Beside proposals that all lie near the anchors' lattice, the head
            # told them by their place alone, and called any box off the lattice a stenosis.
            sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, add_gt_as_proposals=False),
            pos_weight=-1,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    ),
)
