"""Parts that do not fit each other are refused when the model is built; sizes are said once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vasomim.errors import ConfigError
from vasomim.masking import Masking, MaskPlan, MaskRequest, plan_from_order
from vasomim.models import Evidence, Guidance, LossTerm, MaskedBatch, MaskedImageModeling
from vasomim.registry import MODELS

from .builders import ARCH, BACKBONE, NECK, batch, build, vasomim_config

UNIFORM = dict(type='UniformMasking', ratio=0.5)
MAE = dict(guidance=None, segmentor=None, losses=None, masking=UNIFORM)
SIMMIM = dict(backbone={**BACKBONE, 'type': 'MaskTokenViT'}, neck=dict(type='PatchPredictor'))


class NoRatio(Masking):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.unit = 1

    def forward(self, request: MaskRequest) -> MaskPlan:
        return plan_from_order(torch.rand(request.batch, request.num_patches), 2)


class OldSignature(Masking):
    def __init__(self) -> None:
        super().__init__(0.5)

    def forward(self, batch: int, grid: tuple[int, int], device: str) -> MaskPlan:
        raise AssertionError('never called')


class NoForward(Masking):
    def __init__(self) -> None:
        super().__init__(0.5)


class Stranger(nn.Module):
    pass


class Greedy(LossTerm):
    needs = ('everything',)

    def forward(self, batch: MaskedBatch) -> Tensor:
        raise AssertionError('never called')


@pytest.mark.parametrize(
    ('changes', 'where', 'cure'),
    [
        ({**MAE, 'masking': dict(type=NoRatio)}, 'model.masking', 'super().__init__(ratio'),
        ({**MAE, 'masking': dict(type=OldSignature)}, 'model.masking', 'forward(self, request)'),
        ({**MAE, 'masking': dict(type=NoForward)}, 'model.masking', 'forward(self, request)'),
        ({**MAE, 'masking': dict(type=Stranger)}, 'model.masking', 'vasomim.masking.Masking'),
        ({**MAE, 'masking': {**UNIFORM, 'unit': 3}}, 'model.masking.unit', 'divides the grid'),
        ({**MAE, 'masking': {**UNIFORM, 'ratio': 0.99}}, 'model.masking.ratio', 'ratio'),
        (dict(guidance=None), 'model.masking', 'model.guidance'),
        (dict(masking=UNIFORM), 'model.guidance', 'AnatomyMasking'),
        (dict(segmentor=None, losses=None), 'model.guidance', 'model.segmentor'),
        (dict(segmentor=None, guidance=dict(type='VesselGuidance', eta=1.0)), 'model.losses.cons', 'model.segmentor'),
        (dict(segmentor=dict(type=Stranger)), 'model.segmentor', 'UNeXt'),
        (dict(guidance=dict(type=Stranger)), 'model.guidance', 'Guidance'),
        (dict(losses=dict(cons=dict(type=Stranger))), 'model.losses.cons', 'LossTerm'),
        (dict(losses=dict(cons=dict(type=Greedy))), 'model.losses.cons', 'segmentor'),
        (dict(losses=[dict(type='AnatomicalConsistencyLoss')]), 'model.losses', 'dict(cons='),
        (dict(neck=dict(type='PatchPredictor')), 'model.neck', 'MaskTokenViT'),
        (dict(neck=dict(type='LinearNeck', in_channels=24, out_channels=768)), 'model.neck', 'ids_restore'),
        (
            dict(head=dict(type='MAEPretrainHead', loss=dict(type='PixelReconstructionLoss', criterion='L2'))),
            'model.head',
            'ReconstructionHead',
        ),
        (
            dict(backbone=dict(type='VisionTransformer', arch=ARCH, img_size=64, patch_size=16)),
            'model.backbone',
            'MaskedViT',
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place_and_cure(changes: dict, where: str, cure: str) -> None:
    with pytest.raises(ConfigError) as error:
        MODELS.build(vasomim_config(**changes))
    assert error.value.where == where
    assert cure in error.value.cure


class Centre(Guidance):
    """Guides to the middle four of sixteen patches, a value a patch."""

    def forward(self, frames: Tensor, evidence: Evidence) -> Tensor:
        guidance = frames.new_zeros(len(frames), 1, 4, 4)
        guidance[:, :, 1:3, 1:3] = 1.0
        return guidance


class PatchWeights(LossTerm):
    """The mean error of masked patches in the upper half of the frame."""

    def forward(self, batch: MaskedBatch) -> Tensor:
        error = batch.head.loss_per_patch(batch.patches, batch.frames)
        upper = batch.plan.mask[:, :8]
        return (error[:, :8] * upper).sum() / upper.sum()


def test_parts_of_another_package_join_in() -> None:
    model = build(
        vasomim_config(
            guidance=dict(type=Centre),
            masking=dict(type='AnatomyMasking', ratio=0.25, start=1.0, end=1.0),
            losses=dict(upper=dict(type=PatchWeights), cons=None),
            segmentor=None,
        )
    )
    frames, _ = batch()
    evidence = model.evidence(frames, None)
    plan = model.draw(frames, evidence)
    assert torch.equal(plan.mask.reshape(3, 4, 4), evidence.guidance[:, 0])
    losses = model(frames, None, mode='loss')
    assert set(losses) == {'loss_rec', 'loss_upper'}  # No anatomy came with the frames, and none was asked for.
    patches = model.predict_patches(frames, plan)
    error = (model.head.construct_target(frames) - patches).pow(2).mean(dim=-1)
    assert float(losses['loss_upper'].detach()) == pytest.approx(float(error[:, [5, 6]].detach().mean()), rel=1e-5)
    assert model.eval().reconstruct(frames).guidance.shape == (3, 1, 64, 64)


class GuidesItself(MaskedImageModeling):
    """A method that brings the guidance by itself, as one with a teacher does."""

    gives = ('guidance',)

    def evidence(self, frames: Tensor, samples: list | None) -> Evidence:
        return replace(super().evidence(frames, samples), guidance=Centre()(frames, Evidence()))


@pytest.mark.parametrize('masking', [dict(type='AnatomyMasking', ratio=0.25, start=1.0, end=1.0), UNIFORM])
def test_a_method_may_bring_the_guidance(masking: dict) -> None:
    model = build(vasomim_config(**{**MAE, 'masking': masking}, type=GuidesItself))
    frames, _ = batch()
    middle = model.draw(frames, model.evidence(frames, None)).mask.reshape(3, 4, 4)[:, 1:3, 1:3]
    assert middle.mean() == 1 or masking is UNIFORM


def test_mask_tokens_keep_their_places_in_any_decoder() -> None:
    """With mask tokens in the encoder, MAE's decoder gets each patch's token in the patch's own place."""
    model = build(vasomim_config(**MAE, backbone=SIMMIM['backbone'])).eval()
    frames, _ = batch()
    tokens = []
    model.neck.decoder_embed.register_forward_hook(lambda module, given, out: tokens.append(out))
    seen = []
    model.neck.decoder_blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        model(frames, None, mode='loss')
    torch.testing.assert_close(seen[0], tokens[0] + model.neck.decoder_pos_embed)


def test_a_second_decoder_takes_the_sizes_of_the_encoder() -> None:
    model = build(vasomim_config(backbone={**BACKBONE, 'patch_size': 8}))
    decoder = model.build_decoder({**NECK, 'predict_feature_dim': 1})
    tokens = torch.randn(2, 1 + 64, 24)
    assert decoder(tokens, torch.arange(64).expand(2, -1)).shape == (2, 64, 1)
    assert model.build_decoder(dict(type='PatchPredictor')).pixels.weight.shape == (3 * 8 * 8, 24)
    assert model.build_decoder(dict(type='PatchPredictor', patch_size=4)).pixels.out_features == 48  # Said, so kept.


def test_the_models_import_no_checkpoints() -> None:
    code = (
        'import sys, vasomim.models as models\n'
        "assert 'vasomim.checkpoints' not in sys.modules\n"
        "assert 'vasomim.engine' not in sys.modules\n"
        "models.UNeXt(weights='unext_s')\n"
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
