"""The encoder in mmseg, the decoder around it, and the losses against slow computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from torch.nn import functional

from vasomim import compat

compat.prepare()

from mmpretrain.models.backbones import VisionTransformer  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from tests.models.builders import ARCH  # noqa: E402
from vasomim.errors import ConfigError  # noqa: E402
from vasomim.models import segmentation  # noqa: E402, F401  registers
from vasomim.models.plain_vit import in_windows, quarters  # noqa: E402
from vasomim.models.segmentation_losses import SoftCenterlineDiceLoss, SoftDiceLoss, soft_skeleton  # noqa: E402

WIDTHS = (32, 16, 8, 8, 8)


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    yield
    DefaultScope._instance_dict.clear()


def encoder(**options) -> torch.nn.Module:
    model = MODELS.build(dict(type='mmpretrain.PlainViT', **{'arch': ARCH, 'img_size': 64, **options}))
    model.eval()  # Returns None in mmpretrain's backbones.
    return model


def segmentor(classes: int = 2, **backbone) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='PlainViTSegmentor',
            backbone=dict(type='mmpretrain.PlainViT', **{'arch': ARCH, 'img_size': 64, **backbone}),
            decode_head=dict(type='PlainViTUNetHead', widths=WIDTHS, num_classes=classes),
            test_cfg=ConfigDict(mode='whole'),
        )
    )


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_features_are_those_of_mmpretrain(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    arch = {**ARCH, 'num_layers': 4}
    theirs = VisionTransformer(arch, img_size=64, out_indices=[0, 2, 3], out_type='featmap')
    theirs.eval()
    theirs.init_weights()
    ours = encoder(arch=arch, out_indices=(0, 2, 3))
    ours.load_state_dict(theirs.state_dict())
    frames = torch.randn(2, 3, *size)
    with torch.no_grad():
        for mine, reference in zip(ours(frames), theirs(frames), strict=True):
            assert mine.shape == (2, 24, size[0] // 16, size[1] // 16)
            torch.testing.assert_close(mine, reference, atol=1e-5, rtol=0)


def test_named_sizes_are_those_of_pretraining() -> None:
    with torch.device('meta'):
        built = MODELS.build(dict(type='mmpretrain.PlainViT', arch='tiny'))
        masked = MODELS.build(dict(type='mmpretrain.MaskedViT', arch='tiny'))
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (built, masked)]
    assert shapes[0] == shapes[1]
    assert built.out_indices == [2, 5, 8, 11]


def test_wrong_sizes_and_layers_are_errors() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        encoder(arch='smal')
    with pytest.raises(ConfigError, match=r'out_indices: \[7\] does not name layers of an encoder of 2'):
        encoder(out_indices=(7,))
    with pytest.raises(ValueError, match='do not divide into patches of 16'):
        encoder()(torch.zeros(1, 3, 60, 64))


def test_quarters_of_the_depth() -> None:
    assert quarters(12) == (2, 5, 8, 11)
    assert quarters(24) == (5, 11, 17, 23)
    assert quarters(2) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ('size', 'patch', 'classes', 'channels'), [((64, 96), 16, 2, 1), ((56, 70), 14, 2, 1), ((64, 64), 8, 5, 5)]
)
def test_logits_have_the_size_of_the_frame(size, patch, classes, channels) -> None:
    model = segmentor(classes, patch_size=patch, img_size=64 if patch != 14 else 56)
    assert model(torch.zeros(2, 3, *size)).shape == (2, channels, *size)


def test_every_layer_and_every_skip_learns() -> None:
    model = segmentor()
    sample = SegDataSample()
    truth = torch.zeros(1, 64, 64, dtype=torch.long)
    truth[:, 20:40, 10:50] = 1
    sample.set_data({'gt_sem_seg': PixelData(data=truth)})
    losses = model(torch.randn(1, 3, 64, 64), [sample], mode='loss')
    assert set(losses) == {'decode.loss_dice', 'decode.loss_bce'}
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_logit_above_zero_is_vessel() -> None:
    model = segmentor().eval()
    model.decode_head.conv_seg.weight.data.zero_()
    for bias, label in ((0.1, 1), (-0.1, 0)):
        model.decode_head.conv_seg.bias.data.fill_(bias)
        predicted = model(torch.zeros(1, 3, 64, 64), mode='predict')[0].pred_sem_seg.data
        assert predicted.unique().tolist() == [label]


def slow_dice(logits: np.ndarray, labels: np.ndarray, over_batch: bool) -> float:
    """Loops over frames, classes and pixels."""
    batch, classes, height, width = logits.shape
    sums: dict[tuple, list[float]] = {}
    for frame in range(batch):
        for row in range(height):
            for column in range(width):
                label = labels[frame, row, column]
                if label == 255:
                    continue
                scores = logits[frame, :, row, column]
                total = sum(math.exp(score) for score in scores)
                for index in range(1, max(2, classes)):
                    p = 1 / (1 + math.exp(-scores[0])) if classes == 1 else math.exp(scores[index]) / total
                    entry = sums.setdefault((None if over_batch else frame, index), [0.0, 0.0])
                    entry[0] += p * (label == index)
                    entry[1] += p + (label == index)
    return float(np.mean([1 - (2 * overlap + 1) / (total + 1) for overlap, total in sums.values()]))


@pytest.mark.parametrize('classes', [1, 3])
@pytest.mark.parametrize('over_batch', [True, False])
def test_dice_loss_is_that_of_loops_over_pixels(classes: int, over_batch: bool) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, classes, 5, 6, generator=generator)
    labels = torch.randint(0, max(2, classes), (2, 5, 6), generator=generator)
    labels[0, :2, 1] = 255
    expected = slow_dice(logits.numpy().astype(float), labels.numpy(), over_batch)
    assert SoftDiceLoss(over_batch=over_batch)(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_dice_loss_of_perfect_and_empty_predictions() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    assert SoftDiceLoss()(torch.full((1, 1, 8, 8), -50.0), labels).item() == pytest.approx(0, abs=1e-6)
    labels[:, 2:6] = 1
    assert SoftDiceLoss()(labels.unsqueeze(1) * 100.0 - 50, labels).item() == pytest.approx(0, abs=1e-6)
    assert SoftDiceLoss()(50 - labels.unsqueeze(1) * 100.0, labels).item() > 0.95


def test_soft_skeleton_of_a_bar_is_its_middle_row() -> None:
    bar = torch.zeros(1, 1, 13, 30)
    bar[..., 4:9, 3:27] = 1
    rows = soft_skeleton(bar, 4)[0, 0]
    assert rows[6, 6:24].min() == 1  # the middle of five rows, but for the bar's ends
    assert rows[[4, 5, 7, 8], 8:22].max() == 0


def test_centerline_loss_prefers_an_unbroken_thin_vessel_to_a_broken_wide_one() -> None:
    labels = torch.zeros(1, 21, 40, dtype=torch.long)
    labels[:, 8:13, 2:38] = 1
    thin, broken = (torch.zeros(1, 21, 40) for _ in range(2))
    thin[:, 10, 2:38] = 1
    broken[:, 8:13, 2:38] = 1
    broken[:, :, 12:28] = 0
    loss = SoftCenterlineDiceLoss(iterations=4)
    values = [loss(mask.unsqueeze(1) * 40 - 20, labels).item() for mask in (labels.float(), thin, broken)]
    assert values[0] == pytest.approx(0, abs=1e-3)
    assert values[1] < 0.1 < values[2]


def test_windows_are_cut_without_overlap_and_put_back() -> None:
    """A function that adds the mean of its window shows which tokens it saw together."""

    class AddMean(torch.nn.Module):
        def forward(self, x):
            return x + x[:, 1:].mean(dim=1, keepdim=True)

    height, width = 4, 6
    tokens = torch.cat((torch.zeros(1, 1, 1), torch.arange(24.0).reshape(1, 24, 1)), dim=1)
    out = in_windows(AddMean(), tokens, (height, width), 3)[0, 1:, 0].reshape(height, width)
    field = torch.arange(24.0).reshape(height, width)
    for row in (0, 2):  # windows of 2 x 3: sides as equal as can be, not 3 and 1
        for column in (0, 3):
            window = field[row : row + 2, column : column + 3]
            assert torch.equal(out[row : row + 2, column : column + 3], window + window.mean())


def test_windows_that_do_not_divide_the_grid_keep_its_size() -> None:
    tokens = torch.randn(2, 1 + 35, 8)
    assert torch.equal(in_windows(torch.nn.Identity(), tokens, (5, 7), 3)[:, 1:], tokens[:, 1:])


def test_losses_train_one_logit_towards_the_vessel() -> None:
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :4] = 1
    SoftDiceLoss()(logits, labels).backward()
    assert (logits.grad[0, 0, :4] < 0).all() and (logits.grad[0, 0, 4:] > 0).all()
    assert functional.relu(logits.grad).sum() > 0
