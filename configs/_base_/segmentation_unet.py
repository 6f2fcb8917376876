# UNet (arXiv 1505.04597) from scratch, the classical row: mmseg's, 64 to 1024 channels, with GroupNorm.
norm_cfg = dict(type='GN', num_groups=8)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        size=(224, 224),
        seg_pad_val=255,
    ),
    backbone=dict(type='UNet', base_channels=64, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=4,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        norm_cfg=norm_cfg,
        loss_decode=[
            dict(type='SoftDiceLoss'),
            dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True, loss_name='loss_bce'),
        ],
    ),
    test_cfg=dict(mode='whole'),
)
