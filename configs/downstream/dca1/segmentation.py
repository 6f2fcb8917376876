# Vessels of DCA1: binary.
_base_ = [
    '../../_base_/segmentation_data.py',
    '../../_base_/segmentation_vit.py',
    '../../_base_/downstream_runtime.py',
]

dataset = dict(type='DCA1', data_root='data/dca1')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)

val_evaluator = dict(type='SegmentationMetric', measures=['DSC'])
test_evaluator = dict(type='SegmentationMetric', measures=['DSC', 'clDice'])
default_hooks = dict(checkpoint=dict(save_best='DSC'))  # best by validation DSC (arXiv 2602.11536)
