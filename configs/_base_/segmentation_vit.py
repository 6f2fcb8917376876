# A pre-trained plain ViT with a UNet-style decoder, Dice + BCE (arXiv 2602.11536, which names CheXWorld's protocol).
#   another encoder size     --cfg-options model.backbone.arch=small   (tiny, small, base, large, huge)
#   its weights              --init CHECKPOINT
#   soft clDice as well      see vasomim.models.segmentation_losses.SoftCenterlineDiceLoss
model = dict(
    type='PlainViTSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],  # as in pre-training: ImageNet's, on three equal channels
        std=[58.395, 57.12, 57.375],
        size=(224, 224),
        seg_pad_val=255,
    ),
    backbone=dict(type='mmpretrain.PlainViT', arch='base', img_size=224, drop_path_rate=0.1),  # arXiv 2602.11536
    decode_head=dict(
        type='PlainViTUNetHead',
        widths=(256, 128, 64, 32, 16),  # a choice of this project
        num_classes=2,
        loss_decode=[
            dict(type='SoftDiceLoss'),
            dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True, loss_name='loss_bce'),
        ],
    ),
    test_cfg=dict(mode='whole'),
)
