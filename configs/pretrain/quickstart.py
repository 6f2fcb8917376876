# A VasoMIM small enough for a minute on two cores: ViT-Ti, a light decoder, simulated angiograms.
_base_ = 'vasomim.py'

model = dict(backbone=dict(arch='tiny'), neck=dict(decoder_embed_dim=128, decoder_depth=2, decoder_num_heads=4))

dataset = dict(type='AngiogramFolder', data_root='data/quickstart', anatomy_root='data/quickstart_frangi', held_out=0.1)
train_dataloader = dict(batch_size=16, num_workers=1, dataset=dataset)
val_dataloader = dict(batch_size=16, num_workers=1, dataset=dataset)

train_cfg = dict(max_epochs=15)
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
