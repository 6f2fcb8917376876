# Vessels of your own frames and masks, prepared by `vasomim prepare downstream folder`: binary.
_base_ = [
    '../../_base_/segmentation_data.py',
    '../../_base_/segmentation_vit.py',
    '../../_base_/downstream_runtime.py',
]

dataset = dict(type='FolderSegmentation', data_root='data/own')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)

val_evaluator = dict(type='SegmentationMetric', measures=['DSC'])
test_evaluator = dict(type='SegmentationMetric', measures=['DSC', 'clDice'])
default_hooks = dict(checkpoint=dict(save_best='DSC'))  # best by validation DSC (arXiv 2602.11536)
