# Frames and their anatomy: one crop and flip for both (arXiv 2602.11536: 224 px, scale 0.2-1, bicubic, flip 0.5).
train_pipeline = [
    dict(type='LoadAngiogram'),
    dict(type='LoadAnatomy'),
    dict(type='PairedResizedCrop', size=224, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
    dict(type='PairedFlip', prob=0.5),
    dict(type='PackAngiogram'),
]
held_out_pipeline = [
    dict(type='LoadAngiogram'),
    dict(type='LoadAnatomy'),
    dict(type='PairedResize', size=224),
    dict(type='PackAngiogram'),
]

train_dataloader = dict(
    batch_size=256,  # 8 GPUs x 256 = 2,048 frames a step (arXiv 2602.11536)
    num_workers=8,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='XA170K', data_root='data/xa170k', subset='train', held_out=0.02, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='XA170K', data_root='data/xa170k', subset='held_out', held_out=0.02, pipeline=held_out_pipeline),
)
