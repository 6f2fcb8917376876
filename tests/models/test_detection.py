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
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from mmpretrain.models.backbones import VisionTransformer  # noqa: E402

from tests.models.builders import ARCH  # noqa: E402
from vasomim.evaluation.detection_cases import iou  # noqa: E402
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


@pytest.fixture
def detector(project_root) -> torch.nn.Module:
    """The detector of the config, narrow, with weights as at the start of a training, in evaluation."""
    model = Config.fromfile(project_root / 'configs/_base_/detection_vit.py').model
    model.backbone.update(arch=ARCH, img_size=256)
    model.neck.out_channels = 16
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16)
    model.test_cfg.rpn.update(nms_pre=300, max_per_img=200)
    model.train_cfg.rpn_proposal.update(nms_pre=300, max_per_img=200)
    model.test_cfg.rcnn.score_thr = 0.0
    DefaultScope.get_instance('detection', scope_name='mmdet')
    torch.manual_seed(0)
    built = MODELS.build(model)
    built.init_weights()
    return built.eval()


def sample(boxes: list[list[float]], size: int = 256) -> DetDataSample:
    meta = dict(img_shape=(size, size), pad_shape=(size, size), batch_input_shape=(size, size), scale_factor=(1.0, 1.0))
    truth = InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.zeros(len(boxes), dtype=torch.long))
    return DetDataSample(metainfo=meta, gt_instances=truth)


def test_boxes_are_decoded_exactly_under_mixed_precision(detector, monkeypatch) -> None:
    """Each proposal is, to 0.01 px, what an anchor's deltas say in float64; bfloat16 errs by up to 1 px at 256 px."""
    seen = {}
    by_feat = detector.rpn_head.predict_by_feat

    def spy(scores, deltas, **options):
        seen['deltas'], seen['proposals'] = deltas, by_feat(scores, deltas, **options)
        return seen['proposals']

    monkeypatch.setattr(detector.rpn_head, 'predict_by_feat', spy)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        detector.predict(torch.randn(1, 3, 256, 256), [sample([])])
    deltas = [level[0].permute(1, 2, 0).reshape(-1, 4).double() for level in seen['deltas']]
    sizes = [level.shape[-2:] for level in seen['deltas']]
    anchors = torch.cat(detector.rpn_head.prior_generator.grid_priors(sizes, device='cpu')).double()
    dx, dy, dw, dh = torch.cat(deltas).unbind(dim=1)
    left, top, right, bottom = anchors.unbind(dim=1)
    width, height = right - left, bottom - top
    x, y = (left + right) / 2 + dx * width, (top + bottom) / 2 + dy * height
    half_width, half_height = width * dw.exp() / 2, height * dh.exp() / 2
    exact = torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=1).clamp(0, 256)
    proposals = seen['proposals'][0]
    assert len(proposals) == 200
    apart = torch.cdist(proposals.bboxes.double(), exact, p=torch.inf).amin(dim=1)
    assert apart.amax() < 0.01
    assert len(proposals.scores.unique()) > 190


def test_both_stages_compute_in_float32_under_mixed_precision(detector, monkeypatch) -> None:
    """Losses and predictions are those of the float32 heads on the same maps."""
    frames, boxes = torch.randn(1, 3, 256, 256), [[100.0, 120.0, 150.0, 180.0]]
    with torch.no_grad():
        with torch.autocast('cpu', dtype=torch.bfloat16):
            maps = detector.extract_feat(frames)
            (cast,) = detector.predict(frames, [sample([])])
            torch.manual_seed(1)
            losses = detector.loss(frames, [sample(boxes)])
        assert {level.dtype for level in maps} == {torch.float32}
        proposals = detector.rpn_head.predict(maps, [sample([])])
        (plain,) = detector.roi_head.predict(maps, proposals, [sample([])])
        torch.manual_seed(1)
        monkeypatch.setattr(detector, 'extract_feat', lambda _: maps)
        expected = detector.loss(frames, [sample(boxes)])
    assert torch.equal(cast.pred_instances.bboxes, plain.bboxes)
    assert torch.equal(cast.pred_instances.scores, plain.scores)
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_the_first_stage_weighs_all_anchors_and_begins_at_one_percent(detector) -> None:
    maps = tuple(torch.randn(1, 16, 64 // step, 64 // step) for step in (1, 2, 4, 8, 16))
    boxes = [[100.0, 120.0, 150.0, 180.0], [30.0, 20.0, 90.0, 70.0]]
    with torch.no_grad():
        scores, deltas = detector.rpn_head(maps)
        losses = detector.rpn_head.loss_by_feat(scores, deltas, [sample(boxes).gt_instances], [sample([]).metainfo])
    probabilities = torch.cat([level.flatten() for level in scores]).sigmoid()
    assert probabilities.mean() == pytest.approx(0.01, rel=0.1)
    anchors = torch.cat(detector.rpn_head.prior_generator.grid_priors([s.shape[-2:] for s in scores], device='cpu'))
    best = torch.from_numpy(np.stack([iou(np.float64(box), anchors.double().numpy()) for box in boxes])).amax(dim=0)
    flat = torch.cat([level[0].permute(1, 2, 0).flatten() for level in scores]).double()
    positive, negative = flat[best >= 0.5], flat[best < 0.3]
    assert len(positive) > 10
    focal = -0.25 * ((1 - positive.sigmoid()) ** 2 * positive.sigmoid().log()).sum()
    focal -= 0.75 * (negative.sigmoid() ** 2 * (1 - negative.sigmoid()).log()).sum()
    assert float(sum(losses['loss_rpn_cls'])) == pytest.approx(float(focal) / len(positive), rel=1e-4)


def test_iou_by_hand() -> None:
    others = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [1, 1, 1, 1]], float)
    np.testing.assert_allclose(iou(np.array([0.0, 0, 4, 4]), others), [1, 8 / 24, 0, 0])
