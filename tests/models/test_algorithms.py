from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from torch.utils._python_dispatch import TorchDispatchMode

from vasomim.errors import ConfigError
from vasomim.masking import uniform_mask
from vasomim.models import UNeXt
from vasomim.models.pretraining.evidence import Evidence
from vasomim.models.pretraining.masked import masked_share, training_progress
from vasomim.registry import MODELS

from .builders import BACKBONE, HEAD, NECK, batch, build, vasomim_config

MAE = dict(
    type='MaskedImageModeling', backbone=BACKBONE, neck=NECK, head=HEAD, masking=dict(type='UniformMasking', ratio=0.5)
)
SIMMIM = dict(
    type='MaskedImageModeling',
    backbone={**BACKBONE, 'type': 'MaskTokenViT'},
    neck=dict(type='PatchPredictor'),
    head=dict(type='ReconstructionHead', norm_pix=False, criterion='L1'),
    masking=dict(type='UniformMasking', ratio=0.5, unit=2),
)
V1 = dict(type='VesselGuidance', eta=1.0)
UNGUIDED = dict(guidance=None, masking=dict(type='UniformMasking', ratio=0.5))
METHODS = {
    'vasomim': vasomim_config(),
    'v1': vasomim_config(guidance=V1),
    'unguided': vasomim_config(**UNGUIDED),
    'inconsistent': vasomim_config(losses=None),
    'mae': MAE,
    'simmim': SIMMIM,
}


@pytest.fixture(scope='module')
def segmentor_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('weights') / 'segmentor.pth'
    torch.manual_seed(5)
    segmentor = UNeXt()
    torch.save(segmentor.state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    'init_cfg',
    [
        None,
        [
            dict(type='TruncNormal', layer='Linear', std=0.5),
            dict(type='Constant', layer=['LayerNorm', 'Conv2d', 'BatchNorm2d'], val=7.0),
        ],
    ],
)
def test_segmentor_is_bit_identical_after_build_and_initialization(segmentor_file: str, init_cfg: list | None) -> None:
    model = build(vasomim_config(segmentor=dict(type='UNeXt', weights=segmentor_file), init_cfg=init_cfg))
    stored = torch.load(segmentor_file, weights_only=True)
    assert len(stored) == 101
    for name, tensor in model.segmentor.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    if init_cfg:  # The trap is real: it did reach everything else.
        assert torch.all(model.backbone.ln1.weight == 7)


def test_segmentor_stays_frozen_and_in_evaluation_mode() -> None:
    model = build(vasomim_config())
    before = {name: tensor.clone() for name, tensor in model.segmentor.state_dict().items()}
    model.train()
    assert not any(module.training for module in model.segmentor.modules())
    frames, samples = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sum(value for name, value in model.loss(frames, samples).items() if 'loss' in name).backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in model.segmentor.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.segmentor.state_dict().items())
    assert model.neck.decoder_pred.weight.grad.abs().sum() > 0


def test_consistency_alone_reaches_the_encoder() -> None:
    model = build(vasomim_config()).train()
    frames, samples = batch()
    model.loss(frames, samples)['loss_cons'].backward()
    assert model.backbone.patch_embed.projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.segmentor.parameters())


@pytest.mark.parametrize('name', METHODS)
def test_each_method_gives_losses_features_and_pictures(name: str) -> None:
    model = build(METHODS[name])
    frames, samples = batch()
    losses = model(frames, samples, mode='loss')
    expected = {'loss_rec', 'vessel_masked'} | ({'loss_cons'} if name in ('vasomim', 'v1', 'unguided') else set())
    assert set(losses) == expected
    assert all(torch.isfinite(value) for value in losses.values())
    assert model(frames, samples, mode='tensor')[-1].shape == (3, 17, 24)
    picture = model.eval().reconstruct(frames, samples)
    assert torch.equal(
        picture.reconstruction[picture.mask.expand_as(frames) == 0], frames[picture.mask.expand_as(frames) == 0]
    )
    assert picture.mask.mean() == pytest.approx(0.5)
    assert (picture.guidance is not None) == (name in ('vasomim', 'v1', 'inconsistent'))


def test_guidance_hides_more_of_the_vessels() -> None:
    frames, samples = batch()
    for sample in samples:  # vessels in two of sixteen patches
        sample.anatomy.zero_()
        sample.anatomy[0, :16, :32] = 1
    model = build(vasomim_config(guidance=V1, masking=dict(type='AnatomyMasking', start=0.0, end=1.0)))
    assert model.loss(frames, samples)['vessel_masked'] == 1
    model.progress = 0.0
    shares = [float(model.loss(frames, samples)['vessel_masked']) for _ in range(200)]
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.08)


def test_without_guidance_and_consistency_it_is_mae_at_the_same_ratio() -> None:
    frames, samples = batch()
    ablation, baseline = build(vasomim_config(**UNGUIDED, losses=None)), build(MAE)
    for name, tensor in baseline.state_dict().items():
        ablation.state_dict()[name].copy_(tensor)
    torch.manual_seed(3)
    ours = ablation.loss(frames, samples)
    torch.manual_seed(3)
    theirs = baseline.loss(frames, samples)
    assert set(ours) == set(theirs)
    assert ours['loss_rec'] == theirs['loss_rec']


def test_mae_equals_that_of_mmpretrain() -> None:
    frames, _ = batch()
    ours = build(MAE)
    theirs = MODELS.build(
        dict(
            type='MAE',
            backbone=dict(type='MAEViT', arch=BACKBONE['arch'], img_size=64, mask_ratio=0.5),
            neck=dict(NECK, embed_dim=24, num_patches=16),
            head=dict(type='MAEPretrainHead', norm_pix=True, loss=dict(type='PixelReconstructionLoss', criterion='L2')),
        )
    )
    theirs.load_state_dict(ours.state_dict())
    plan = uniform_mask(3, 16, 0.5, torch.Generator().manual_seed(8))
    noise = plan.ids_restore.float()  # argsort of this is the order of the plan

    def random_masking(tokens: torch.Tensor, _ratio: float) -> tuple:
        order = noise.argsort(dim=1)[:, :8]
        return tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, 24)), plan.mask, plan.ids_restore

    theirs.backbone.random_masking = random_masking
    assert ours.losses(frames, Evidence(), plan)['loss_rec'] == theirs.loss(frames, [])['loss']


def test_simmim_sees_no_masked_pixel() -> None:
    model = build(SIMMIM).eval()
    frames, _ = batch()
    plan = uniform_mask(3, 16, 0.5, torch.Generator().manual_seed(8))
    changed = torch.where(model.pixels(plan.mask) > 0, torch.randn_like(frames), frames)
    with torch.no_grad():
        assert torch.equal(model.predict_patches(frames, plan), model.predict_patches(changed, plan))


def test_version_one_and_ablations_ask_the_segmentor_only_where_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(UNeXt, 'logits', lambda self, frames: calls.append(1) or frames[:, :1])
    frames, samples = batch()
    for changes, expected in (
        ({}, 2),
        (dict(guidance=V1, losses=None), 0),
        (dict(losses=None), 1),
        (dict(**UNGUIDED, losses=dict(cons=None)), 0),
        (UNGUIDED, 2),
    ):
        calls.clear()
        build(vasomim_config(**changes)).loss(frames, samples)
        assert len(calls) == expected, changes


class ReadBacks(TorchDispatchMode):
    """Counts the operations that make the host wait for a value of the device."""

    NAMES = ('_local_scalar_dense', 'nonzero', 'masked_select', 'equal', 'unique', 'is_nonzero')

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split('::')[-1].split('.')[0]
        if name in self.NAMES:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('name', METHODS)
def test_forward_and_loss_never_read_back_to_the_host(name: str) -> None:
    model = build(METHODS[name]).train()
    frames, samples = batch()
    with ReadBacks() as count:
        losses = model.loss(frames, samples)
        sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert count.found == []
    with ReadBacks() as count:
        losses['loss_rec'].item()
    assert count.found == ['_local_scalar_dense']


def test_held_out_masks_depend_on_the_frame_alone() -> None:
    model = build(MAE).eval()
    frames, samples = batch(4)
    with torch.no_grad():
        together = [float(sample.loss_rec) for sample in model(frames, samples, mode='predict')]
        alone = [
            float(model(frames[index : index + 1], samples[index : index + 1], mode='predict')[0].loss_rec)
            for index in (3, 1, 0, 2)
        ]
    assert [alone[2], alone[1], alone[3], alone[0]] == pytest.approx(together, rel=1e-5)
    assert len(set(together)) == 4


def test_masked_share() -> None:
    anatomy, mask = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    assert masked_share(anatomy, mask) == 0
    anatomy[0, 0, 0] = 1
    mask[:, :, :, 0] = 1
    assert masked_share(anatomy, mask) == pytest.approx(1 / 4)


def test_progress_follows_the_running_training() -> None:
    hub = MessageHub.get_instance('progress-test')
    current = MessageHub.get_current_instance()
    assert current is hub
    assert training_progress() is None
    hub.update_info_dict(dict(epoch=2, max_epochs=10, iter=5, max_iters=100))
    assert training_progress() == pytest.approx(0.3)
    hub.update_info_dict(dict(epoch=0, max_epochs=1))
    assert training_progress() == pytest.approx(0.06)


def test_bad_options_name_their_key() -> None:
    with pytest.raises(ConfigError, match=r'model\.guidance\.eta'):
        MODELS.build(vasomim_config(guidance=dict(type='VesselGuidance', eta=1.2)))
    with pytest.raises(ConfigError, match="Did you mean 'base'"):
        MODELS.build(ConfigDict(vasomim_config(backbone=dict(type='MaskedViT', arch='bese'))))
    frames, samples = batch()
    del samples[1].anatomy
    with pytest.raises(ValueError, match=r'frame_1\.png carries no anatomy'):
        build(vasomim_config()).loss(frames, samples)
