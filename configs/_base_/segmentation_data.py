# Frames and masks for segmentation: 224 px (arXiv 2602.11536); metrics at the annotation's own resolution.
# Augmentation, batch and workers are choices of this project, as the paper does not say its own.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMask'),
    dict(type='RandomResize', scale=(224, 224), ratio_range=(0.8, 1.5), keep_ratio=False),
    dict(type='RandomRotate', prob=0.5, degree=20, pad_val=0, seg_pad_val=255),
    dict(type='RandomCrop', crop_size=(224, 224)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='LoadMask'),  # behind Resize: the truth keeps its size, and predictions are resized to it
    dict(
        type='PackSegInputs',
        meta_keys=('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'scale_factor', 'side'),
    ),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=test_pipeline),
)
default_scope = 'mmseg'
custom_imports = dict(
    imports=[
        'vasomim.models.segmentation',
        'vasomim.data.segmentation',
        'vasomim.evaluation.segmentation_metric',
        'vasomim.engine',
    ]
)
