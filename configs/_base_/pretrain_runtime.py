# How a pre-training runs: optimizer, schedule, hooks, logs. Numbers without a source are choices of this project.
default_scope = 'mmpretrain'
custom_imports = dict(
    imports=['vasomim.models', 'vasomim.data', 'vasomim.evaluation.pretraining_metrics', 'vasomim.engine']
)
runner_type = 'PretrainRunner'

train_cfg = dict(type='ResumableTrainLoop', max_epochs=800, val_interval=1)  # arXiv 2602.11536: 800 epochs
val_cfg = dict()
val_evaluator = dict(type='ReconstructionLoss')

# AdamW (0.9, 0.95), weight decay 0.05 but for parameters of one dimension (arXiv 2602.11536). The learning rate is the
# one for 256 frames a step and is scaled to the true number: frames per process x processes x accumulated iterations.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    # fused: one kernel for all parameters, and no read-back of step counters
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
# 40 of 800 epochs of warm-up, cosine to 0 (arXiv 2602.11536), as a share of whatever train_cfg.max_epochs is.
param_scheduler = [dict(type='WarmupCosineLR', warmup=0.05, by_epoch=True, convert_to_iter_based=True)]

default_hooks = dict(
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2, minutes=30),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    iteration_seed=dict(type='IterationSeedHook'),
    skipped=dict(type='SkippedFramesHook'),
    progress=dict(type='ProgressHook'),
)
custom_hooks = [dict(type='ReconstructionFigureHook', interval=20, num=4)]

visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
log_processor = dict(
    window_size=10,
    log_with_hierarchy=True,  # train/loss_rec and val/loss_rec are two curves
    custom_cfg=[dict(data_src='vessel_masked', method_name='mean', window_size=10)],
)

randomness = dict(seed=0)
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)
