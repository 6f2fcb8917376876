# Your own frames and boxes, prepared by `vasomim prepare downstream folder`.
#   boxes of N classes       --cfg-options model.roi_head.bbox_head.num_classes=N
_base_ = [
    '../../_base_/detection_data.py',
    '../../_base_/detection_vit.py',
    '../../_base_/downstream_runtime.py',
]

data_root = 'data/own'
dataset = dict(type='FolderDetection', data_root=data_root)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)

val_evaluator = dict(type='CocoMetric', ann_file=f'{data_root}/val.json', metric='bbox')
test_evaluator = dict(type='CocoMetric', ann_file=f'{data_root}/test.json', metric='bbox')
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
optim_wrapper = dict(optimizer=dict(lr=1e-4))  # ViTDet (arXiv 2203.16527), there for a batch of 64
