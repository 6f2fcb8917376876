# Vessel segmentor UNeXt-S on extracted anatomy (arXiv 2602.11536: 200 epochs, batch 256, Adam 1e-3, polynomial decay).
_base_ = ['../_base_/frames.py', '../_base_/pretrain_runtime.py']

model = dict(type='UNeXt', data_preprocessor=dict(type='AngiogramPreprocessor'))

train_cfg = dict(max_epochs=200)
auto_scale_lr = dict(enable=False)  # the rate is the paper's for its batch of 256, and is taken as it is
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0))
param_scheduler = [dict(type='PolynomialLR', power=0.9, by_epoch=True)]  # lr (1 - e / E)^0.9 in epoch e of E
val_evaluator = dict(type='PseudoMaskDice')
default_hooks = dict(checkpoint=dict(save_best='held_out/dice', rule='greater'))
custom_hooks = []  # there is no reconstruction to draw
