# SYNTAX segments of ARCADE (ARCADE-VS): 25 classes and background, Dice + CE (arXiv 2602.11536).
_base_ = [
    '../../_base_/segmentation_data.py',
    '../../_base_/segmentation_vit.py',
    '../../_base_/downstream_runtime.py',
]

dataset = dict(type='ARCADESegments', data_root='data/arcade/arcade_vs')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)

val_evaluator = dict(type='SegmentationMetric', measures=['DSC'])
test_evaluator = dict(type='SegmentationMetric', measures=['DSC'])
default_hooks = dict(checkpoint=dict(save_best='DSC'))  # best by validation DSC (arXiv 2602.11536)

model = dict(
    decode_head=dict(
        num_classes=26,
        loss_decode=[
            dict(type='SoftDiceLoss', over_batch=True),
            dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True, loss_name='loss_ce'),
        ],
    )
)
