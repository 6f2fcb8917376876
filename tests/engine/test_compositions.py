"""Each composition trains, validates, draws, resumes and converts, or is refused when it is built."""

from __future__ import annotations

import itertools

import pytest
import torch
from mmengine.config import Config

import vasomim.evaluation.pretraining_metrics  # noqa: F401 - registers
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.engine import PretrainRunner
from vasomim.errors import ConfigError
from vasomim.registry import MODELS

ARCH = dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=32)
SIZE = dict(arch=ARCH, img_size=32, patch_size=8)
NETWORKS = {
    'MAE': dict(
        backbone=dict(type='MaskedViT', **SIZE),
        neck=dict(type='MAEPretrainDecoder', decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2),
        head=dict(type='ReconstructionHead', norm_pix=True),
    ),
    'SimMIM': dict(
        backbone=dict(type='MaskTokenViT', **SIZE),
        neck=dict(type='PatchPredictor'),
        head=dict(type='ReconstructionHead', norm_pix=False, criterion='L1'),
    ),
}
MASKINGS = {
    'uniform': dict(type='UniformMasking', ratio=0.5),
    'blocks': dict(type='UniformMasking', ratio=0.5, unit=2),
    'guided': dict(type='AnatomyMasking', ratio=0.5),
}
ETAS = {'unguided': None, 'extraction': 1.0, 'segmentor': 0.0, 'both': 0.5}
GRID = list(itertools.product(NETWORKS, MASKINGS, ETAS, (False, True)))


def composition(network: str, masking: str, guidance: str, consistent: bool) -> dict:
    eta = ETAS[guidance]
    asked = consistent or guidance in ('segmentor', 'both')
    # In guided masks SimMIM keeps its units of two patches.
    unit = {'unit': 2} if (network, masking) == ('SimMIM', 'guided') else {}
    return dict(
        type='MaskedImageModeling',
        **NETWORKS[network],
        masking={**MASKINGS[masking], **unit},
        guidance=None if eta is None else dict(type='VesselGuidance', eta=eta),
        segmentor=dict(type='UNeXt', widths=(4, 4, 8, 8, 8)) if asked else None,
        losses=dict(cons=dict(type='AnatomicalConsistencyLoss')) if consistent else None,
    )


def is_refused(masking: str, guidance: str) -> bool:
    return (masking == 'guided') != (guidance != 'unguided')


@pytest.mark.parametrize(('network', 'masking', 'guidance', 'consistent'), [p for p in GRID if is_refused(*p[1:3])])
def test_a_guidance_without_guided_masks_or_the_reverse_is_refused(network, masking, guidance, consistent):
    with pytest.raises(ConfigError) as error:
        MODELS.build(composition(network, masking, guidance, consistent))
    assert error.value.where == ('model.masking' if masking == 'guided' else 'model.guidance')
    assert 'model.guidance' in error.value.cure


@pytest.mark.parametrize(('network', 'masking', 'guidance', 'consistent'), [p for p in GRID if not is_refused(*p[1:3])])
def test_all_others_train_validate_draw_resume_and_convert(toy, tmp_path, network, masking, guidance, consistent):
    config = composition(network, masking, guidance, consistent)

    def runner(epochs: int, **changes) -> PretrainRunner:
        torch.manual_seed(0)
        settings = toy.config(
            tmp_path,
            epochs,
            batch=2,
            model=MODELS.build(config),
            val_dataloader={'dataset': toy.Frames(2, side=32), 'batch_size': 2, 'num_workers': 0},
            val_cfg={},
            val_evaluator={'type': 'ReconstructionLoss'},
            custom_hooks=[{'type': 'ReconstructionFigureHook', 'interval': 1, 'num': 2}],
            **changes,
        )
        settings['train_dataloader']['dataset'] = toy.Frames(4, side=32)
        settings['val_dataloader']['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
        settings['cfg'] = Config({'model': config, 'default_scope': 'mmpretrain'})
        return PretrainRunner(**settings)

    first = runner(epochs=1)
    first.train()
    assert first.iter == 2
    logged = {key for key in first.message_hub.log_scalars if key.startswith('train/loss_')}
    assert logged == {'train/loss_rec'} | ({'train/loss_cons'} if consistent else set())
    second = runner(epochs=2, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    second.train()
    assert (second.epoch, second.iter) == (2, 4)
    for each in (first, second):  # Each validated once; a checkpoint is written before its validation.
        held_out = each.message_hub.get_scalar('val/held_out/loss_rec').data[0]
        assert len(held_out) == 1 and held_out[0] > 0
    for epoch in (1, 2):
        assert (tmp_path / f'figures/epoch_{epoch}.png').stat().st_size > 1000
    done = convert_checkpoint(tmp_path, tmp_path / 'encoder.safetensors', to='timm')
    own = second.model.backbone.state_dict()
    own.pop('mask_token', None)  # Not a part of timm's ViT.
    assert len(done.report.matched) == len(own) and not done.report.missing
    written = read_checkpoint(tmp_path / 'encoder.safetensors').tensors
    assert all(torch.equal(written[f'backbone.{name}'], tensor) for name, tensor in own.items())
