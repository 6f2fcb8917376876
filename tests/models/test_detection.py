"""The encoder in mmdet, its windows, the pyramid on it, and what each image's boxes are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from vasomim import compat

compat.prepare()

from mmdet.registry import MODELS  # noqa: E402
from mmpretrain.models.backbones import VisionTransformer  # noqa: E402

from tests.models.builders import ARCH  # noqa: E402
from vasomim.evaluation.detection_cases import iou, matches  # noqa: E402
from vasomim.models import detection  # noqa: E402, F401  registers
from vasomim.models.plain_vit import WindowedLayer  # noqa: E402


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    yield
    DefaultScope._instance_dict.clear()


def encoder(**options) -> torch.nn.Module:
    arch = {**ARCH, 'num_layers': 4}
    model = MODELS.build(dict(type='mmpretrain.PlainViT', arch=arch, img_size=64, **options))
    model.eval()  # Returns None in mmpretrain's backbones.
    return model


def test_features_with_global_layers_alone_are_those_of_mmpretrain() -> None:
    torch.manual_seed(0)
    theirs = VisionTransformer({**ARCH, 'num_layers': 4}, img_size=64, out_type='featmap')
    theirs.eval()
    theirs.init_weights()
    frames = torch.randn(1, 3, 96, 128)
    for options in (dict(), dict(window_size=2, global_layers=(0, 1, 2, 3)), dict(window_size=8, global_layers=(3,))):
        ours = encoder(**options)
        ours.load_state_dict(theirs.state_dict())
        with torch.no_grad():  # One window that holds the whole frame attends globally, too.
            torch.testing.assert_close(ours(frames)[-1], theirs(frames)[-1], atol=1e-5, rtol=0)


def test_windows_do_not_see_each_other() -> None:
    """With the class token's attention cut, a change in one window stays there until a global layer."""
    torch.manual_seed(0)
    frames = torch.randn(1, 3, 64, 64)
    changed = frames.clone()
    changed[..., :32, :32] += 1
    model = encoder(window_size=2, global_layers=(3,), out_indices=(0, 3))
    with torch.no_grad():
        before, after = model(frames), model(changed)
    moved = [(a - b).abs().amax(dim=1)[0] > 1e-6 for a, b in zip(before, after, strict=True)]
    assert moved[0][:2, :2].all() and not moved[0][2:].any() and not moved[0][:, 2:].any()
    assert moved[1].all()


def windowed_layer(drop_path_rate: float = 0.0) -> WindowedLayer:
    torch.manual_seed(0)
    model = encoder(window_size=2, global_layers=(3,), drop_path_rate=drop_path_rate)
    layer = model.layers[2]
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return layer


def test_a_windowed_layer_is_attention_window_by_window_and_the_rest_of_mmpretrain_s() -> None:
    layer = windowed_layer()
    tokens = torch.randn(2, 1 + 16, 24)
    field = torch.arange(16).reshape(4, 4) + 1
    mixed = torch.zeros_like(tokens)
    with torch.no_grad():
        for row in (0, 2):
            for column in (0, 2):
                places = [0, *field[row : row + 2, column : column + 2].flatten().tolist()]
                seen = layer.attn(layer.ln1(tokens[:, places]))
                mixed[:, places[1:]] = seen[:, 1:]
                mixed[:, 0] += seen[:, 0] / 4
        joined = tokens + mixed
        expected = layer.ffn(layer.ln2(joined), identity=joined)
        torch.testing.assert_close(layer(tokens, (4, 4), 2), expected, atol=1e-5, rtol=0)


def test_paths_are_dropped_for_whole_frames() -> None:
    layer = windowed_layer(drop_path_rate=0.9).train()
    for parameter in layer.ffn.parameters():
        torch.nn.init.zeros_(parameter)
    tokens = torch.randn(64, 1 + 16, 24)
    with torch.no_grad():
        changed = (layer(tokens, (4, 4), 2) != tokens).any(dim=-1)
    assert torch.equal(changed.any(dim=1), changed.all(dim=1))
    assert 0 < changed.all(dim=1).sum() < 64


def test_the_pyramid_has_strides_4_to_64() -> None:
    neck = MODELS.build(dict(type='SimpleFeaturePyramid', in_channels=24, out_channels=16))
    levels = neck((torch.zeros(1, 24, 1, 1), torch.randn(2, 24, 4, 6)))
    assert [tuple(level.shape) for level in levels] == [
        (2, 16, 16, 24),
        (2, 16, 8, 12),
        (2, 16, 4, 6),
        (2, 16, 2, 3),
        (2, 16, 1, 2),
    ]


def test_the_pyramid_follows_the_encoder(project_root) -> None:
    model = Config.fromfile(project_root / 'configs/_base_/detection_vit.py').model
    model.backbone.arch = ARCH
    DefaultScope.get_instance('detection', scope_name='mmdet')
    assert MODELS.build(model).neck.levels[2][0].in_channels == 24


def test_iou_by_hand() -> None:
    others = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [1, 1, 1, 1]], float)
    np.testing.assert_allclose(iou(np.array([0.0, 0, 4, 4]), others), [1, 8 / 24, 0, 0])


def test_a_true_box_is_found_once_and_by_its_class_only() -> None:
    true, labels = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float), np.array([0, 1])
    predicted = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], float)
    scores = np.array([0.9, 0.8, 0.7])
    assert matches(predicted, np.array([0, 0, 1]), scores, true, labels, 0.5) == 2
    assert matches(predicted[:2], np.array([0, 0]), scores[:2], true, labels, 0.5) == 1
    assert matches(predicted, np.array([0, 0, 0]), scores, true, labels, 0.5) == 1
    assert matches(predicted, np.array([0, 0, 1]), scores, np.zeros((0, 4)), np.zeros(0, int), 0.5) == 0
    assert matches(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), true, labels, 0.5) == 0
