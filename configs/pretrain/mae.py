# MAE (arXiv 2111.06377) on the same frames, transforms, encoder and budget.
_base_ = ['../_base_/frames.py', '../_base_/pretrain_runtime.py']

model = dict(
    type='MaskedImageModeling',
    backbone=dict(type='MaskedViT', arch='base', img_size=224),
    neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16),
    head=dict(type='ReconstructionHead', norm_pix=True),
    masking=dict(type='UniformMasking', ratio=0.75),  # arXiv 2111.06377
    # MAE's initialization (arXiv 2111.06377).
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
