# How a downstream task trains: AdamW, layer-wise learning-rate decay 0.75 (arXiv 2602.11536, section on downstream
# tasks); learning rate, weight decay and epochs are choices of this project, as the paper does not say its own.
runner_type = 'PretrainRunner'

train_cfg = dict(type='mmpretrain.ResumableTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmpretrain.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.75, no_decay=('cls_token', 'pos_embed')),
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),  # mmengine reads the norm back to log it: one wait for the GPU in each step
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = [dict(type='mmpretrain.WarmupCosineLR', warmup=0.05, by_epoch=True, convert_to_iter_based=True)]

default_hooks = dict(
    runtime_info=dict(type='mmpretrain.DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmpretrain.SafeCheckpointHook', interval=1, max_keep_ckpts=1, minutes=30, rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    iteration_seed=dict(type='mmpretrain.IterationSeedHook'),
    progress=dict(type='mmpretrain.ProgressHook'),
)
vis_backends = [dict(type='LocalVisBackend'), dict(type='mmengine.TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)
log_processor = dict(window_size=10, by_epoch=True)

randomness = dict(seed=0)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
