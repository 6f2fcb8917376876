# SimMIM (arXiv 2111.09886) with a plain ViT, on the same frames, transforms, encoder and budget.
_base_ = ['../_base_/frames.py', '../_base_/pretrain_runtime.py']

model = dict(
    type='MaskedImageModeling',
    backbone=dict(type='MaskTokenViT', arch='base', img_size=224),
    neck=dict(type='PatchPredictor'),
    head=dict(type='ReconstructionHead', norm_pix=False, criterion='L1'),
    masking=dict(type='UniformMasking', ratio=0.6, unit=2),  # units of 32 px, arXiv 2111.09886
    # MAE's initialization (arXiv 2111.06377).
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
