# VasoMIM (arXiv 2602.11536): MAE with guided masks and a consistency loss. Options instead of further files:
#   another size             --cfg-options model.backbone.arch=small     (tiny, small, base, large, huge)
#   no guidance              --cfg-options model.guidance=None model.masking.type=UniformMasking
#   no consistency           --cfg-options model.losses=None
#   another length           --cfg-options train_cfg.max_epochs=400
_base_ = ['../_base_/frames.py', '../_base_/pretrain_runtime.py']

model = dict(
    type='MaskedImageModeling',
    backbone=dict(type='MaskedViT', arch='base', img_size=224),
    neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16),
    head=dict(type='ReconstructionHead', norm_pix=True),
    guidance=dict(type='VesselGuidance', eta=0.5),  # arXiv 2602.11536
    masking=dict(type='AnatomyMasking', ratio=0.5),  # guidance strength from 0 to 0.5, the defaults: arXiv 2602.11536
    segmentor=dict(type='UNeXt', weights='unext_s'),
    losses=dict(cons=dict(type='AnatomicalConsistencyLoss')),
    # MAE's initialization (arXiv 2111.06377); the frozen segmentor is spared.
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
