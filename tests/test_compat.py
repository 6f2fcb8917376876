from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader

from vasomim import compat
from vasomim.errors import StackError

compat.prepare()

# Overlaps: boxes 0 and 1 share 50 of 100, boxes 2 and 3 share 90 of 100, the pairs are apart.
BOXES = [[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [20, 20, 30, 29]]
SCORES = [0.9, 0.8, 0.7, 0.95]


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    search = [*map(str, paths), str(Path(compat.__file__).parents[1]), os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, search))}
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ('threshold', 'offset', 'kept'),
    [
        (0.4, 0, [3, 0]),
        (0.5, 0, [3, 0, 1]),  # 50 of 100 does not exceed a half ...
        (0.5, 1, [3, 0]),  # ... but 66 of 121 does, where corners name pixels.
        (0.9, 0, [3, 0, 1, 2]),
    ],
)
def test_nms_keeps_what_pencil_and_paper_keep(threshold, offset, kept):
    from mmcv.ops import nms

    detections, indices = nms(torch.tensor(BOXES).float(), torch.tensor(SCORES), threshold, offset=offset)
    assert indices.tolist() == kept
    assert detections[:, :4].tolist() == [BOXES[i] for i in kept]
    assert detections[:, 4].tolist() == pytest.approx([SCORES[i] for i in kept])


def test_nms_of_the_stand_in_agrees_whatever_mmcv_is_installed():
    stand_in = compat.OperatorsStandIn()
    boxes, scores = torch.tensor(BOXES).float(), torch.tensor(SCORES)
    assert stand_in.nms(boxes, scores, iou_threshold=0.5, offset=1).tolist() == [3, 0]
    assert stand_in.nms(boxes[:0], scores[:0], iou_threshold=0.5, offset=0).tolist() == []


def test_the_focal_loss_of_the_stand_in_is_its_formula_and_its_derivative():
    stand_in, none = compat.OperatorsStandIn(), torch.empty(0)
    logits = torch.tensor([[0.3, -2.0], [4.0, 0.0], [-1.0, 1.5]], dtype=torch.float64)
    target = torch.tensor([0, 1, 2])  # 2, the number of classes, is the background.

    def slow(logit: float, positive: bool) -> float:
        probability = 1 / (1 + math.exp(-logit if positive else logit))
        return -(0.3 if positive else 0.7) * (1 - probability) ** 1.5 * math.log(probability)

    def table(function) -> torch.Tensor:
        rows = zip(logits.tolist(), target.tolist(), strict=True)
        return torch.tensor([[function(v, t == c) for c, v in enumerate(row)] for row, t in rows], dtype=torch.float64)

    loss, slope, step = torch.zeros_like(logits), torch.zeros_like(logits), 1e-6
    stand_in.sigmoid_focal_loss_forward(logits, target, none, loss, gamma=1.5, alpha=0.3)
    stand_in.sigmoid_focal_loss_backward(logits, target, none, slope, gamma=1.5, alpha=0.3)
    torch.testing.assert_close(loss, table(slow))
    expected = table(lambda value, positive: (slow(value + step, positive) - slow(value - step, positive)) / (2 * step))
    torch.testing.assert_close(slope, expected, atol=1e-8, rtol=0)
    with pytest.raises(StackError, match='weights of classes'):
        stand_in.sigmoid_focal_loss_forward(logits, target, torch.ones(2), loss, gamma=1.5, alpha=0.3)


def test_nms_honours_the_options_that_mmcv_adds():
    from mmcv.ops import nms

    boxes, scores = np.float32(BOXES), np.float32(SCORES)
    _, indices = nms(boxes, scores, 0.5, score_threshold=0.85)
    assert indices.tolist() == [3, 0]
    _, indices = nms(boxes, scores, 0.5, max_num=1)
    assert indices.tolist() == [3]


def test_batched_nms_compares_only_within_a_class():
    from mmcv.ops import batched_nms

    boxes, scores = torch.tensor(BOXES).float(), torch.tensor(SCORES)
    classes = torch.tensor([0, 0, 1, 0])
    _, kept = batched_nms(boxes, scores, classes, {'type': 'nms', 'iou_threshold': 0.4})
    assert kept.tolist() == [3, 0, 2]
    _, kept = batched_nms(boxes, scores, classes, {'type': 'nms', 'iou_threshold': 0.4, 'class_agnostic': True})
    assert kept.tolist() == [3, 0]


def test_roi_align_of_a_ramp_is_the_ramp_at_the_bin_centers():
    from mmcv.ops import RoIAlign

    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing='ij')
    ramp = (columns + 10 * rows)[None, None]
    # Corner 1 to 5 in two bins: centers 2 and 4, in pixel coordinates 1.5 and 3.5.
    pooled = RoIAlign(2, sampling_ratio=2)(ramp, torch.tensor([[0.0, 1, 1, 5, 5]]))
    assert pooled[0, 0].tolist() == [[16.5, 18.5], [36.5, 38.5]]


def slow_roi_align(features, rois, size, scale, samples, aligned):
    """Average bilinear samples one by one."""
    shift = 0.5 if aligned else 0.0

    def pixel(plane, y, x):
        height, width = plane.shape
        if y < -1 or y > height or x < -1 or x > width:
            return plane.new_zeros(())
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = math.floor(y), math.floor(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        down, across = y - top, x - left
        upper = plane[top, left] * (1 - across) + plane[top, right] * across
        lower = plane[bottom, left] * (1 - across) + plane[bottom, right] * across
        return upper * (1 - down) + lower * down

    planes = []
    for roi in rois.tolist():
        image = features[int(roi[0])]
        x1, y1, x2, y2 = (corner * scale - shift for corner in roi[1:])
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        down = samples or math.ceil(height / size)
        across = samples or math.ceil(width / size)
        for plane in image:
            for row in range(size):
                for column in range(size):
                    values = [
                        pixel(
                            plane,
                            y1 + height / size * (row + (i + 0.5) / down),
                            x1 + width / size * (column + (j + 0.5) / across),
                        )
                        for i in range(down)
                        for j in range(across)
                    ]
                    planes.append(torch.stack(values).mean())
    return torch.stack(planes).view(len(rois), features.shape[1], size, size)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('samples', [0, 2])
def test_roi_align_and_its_gradient_match_a_loop_over_samples(samples, aligned):
    from mmcv.ops import RoIAlign

    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 9, 12, generator=generator, dtype=torch.float64)
    # Inside, over the border, and thinner than a pixel.
    rois = torch.tensor([[0, 3, 2, 17, 15], [1, -6, -4, 30, 25], [1, 8.0, 6.0, 8.6, 6.4]], dtype=torch.float64)
    weights = torch.rand(3, 3, 3, 3, generator=generator, dtype=torch.float64)

    ours, slow = features.clone().requires_grad_(), features.clone().requires_grad_()
    pooled = RoIAlign(3, spatial_scale=0.5, sampling_ratio=samples, aligned=aligned)(ours, rois)
    expected = slow_roi_align(slow, rois, 3, 0.5, samples, aligned)
    torch.testing.assert_close(pooled, expected)

    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, slow.grad)


def test_any_other_operator_names_itself_and_the_cure():
    with pytest.raises(StackError, match=r'(?s)softnms.*Install mmcv with its operators compiled'):
        compat.OperatorsStandIn().softnms(torch.zeros(1, 4), torch.zeros(1), iou_threshold=0.5)
    assert not hasattr(compat.OperatorsStandIn(), '__path__')


@pytest.mark.skipif(compat.has_compiled_operators(), reason='mmcv has its compiled operators here.')
def test_without_operators_maximum_pooling_ends_in_the_error_and_not_in_an_average():
    from mmcv.ops import RoIAlign

    with pytest.raises(StackError, match='roi_align_forward'):
        RoIAlign(2, pool_mode='max')(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 4, 4]]))


def test_preparing_twice_changes_nothing():
    process = python(
        'import importlib.util, sys, torch\n'
        'from vasomim import compat\n'
        'compat.prepare()\n'
        'from mmcv.ops import RoIAlign\n'
        'from mmengine.runner import CheckpointLoader\n'
        'def state():\n'
        "    operators = sys.modules['mmcv._ext']\n"
        '    return operators, RoIAlign.__init__, dict(CheckpointLoader._schemes)\n'
        'before = state()\n'
        'compat.prepare()\n'
        'assert state() == before\n'
        "assert importlib.util.find_spec('mmcv._ext') is not None\n"
    )
    assert process.returncode == 0, process.stderr


def test_compiled_operators_are_left_alone(tmp_path):
    (tmp_path / 'mmcv' / 'ops').mkdir(parents=True)
    (tmp_path / 'mmcv' / '__init__.py').write_text('')
    (tmp_path / 'mmpretrain.py').write_text('')
    (tmp_path / 'mmcv' / '_ext.py').write_text('def nms(): return "compiled"\n')
    (tmp_path / 'mmcv' / 'ops' / '__init__.py').write_text('class RoIAlign:\n    pool_mode = "avg"\n')
    process = python(
        'from vasomim import compat\n'
        'compat.prepare()\n'
        'import mmcv._ext, mmcv.ops\n'
        'assert compat.has_compiled_operators()\n'
        'assert mmcv._ext.nms() == "compiled"\n'
        'assert not hasattr(mmcv.ops.RoIAlign(), "use_torchvision")\n',
        tmp_path,
    )
    assert process.returncode == 0, process.stderr


MMENGINE_CHECKPOINT = """
import sys, numpy as np, torch
from mmengine.logging import MessageHub
hub = MessageHub.get_instance('test')
for value in (0.5, 0.25):
    hub.update_scalar('train/loss', value)
hub.update_info('best_score', np.float32(0.75))
hub.update_info('mean_score', np.float64(0.5))
hub.update_info('step', np.int64(7))
torch.save({'state_dict': {'weight': torch.ones(2)}, 'message_hub': hub.state_dict()}, sys.argv[-1])
"""


def test_mmengine_reads_its_own_checkpoints_once_prepared(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    process = python(f'import sys; sys.argv.append({str(path)!r})' + MMENGINE_CHECKPOINT)
    assert process.returncode == 0, process.stderr
    for core in (b'numpy.core', b'numpy._core'):  # As written by NumPy 1 and by NumPy 2.
        checkpoint = CheckpointLoader.load_checkpoint(str(name_numpy(path, core)))
        hub = checkpoint['message_hub']
        assert hub['log_scalars']['train/loss'].data[0].tolist() == [0.5, 0.25]
        assert (hub['runtime_info']['best_score'], hub['runtime_info']['step']) == (0.75, 7)


def test_what_others_load_with_torch_is_their_own_matter():
    """Nothing joins the list of what torch calls for a file."""
    process = python(
        'import torch\nfrom vasomim import compat\ncompat.prepare()\n'
        'listed = str(torch.serialization.get_safe_globals())\n'
        "assert not any(name in listed for name in ('getattr', 'numpy', 'HistoryBuffer')), listed\n"
    )
    assert process.returncode == 0, process.stderr


def test_the_text_of_a_config_does_not_reach_a_runner(tmp_path):
    torch.save({'meta': {'config': 'import os', 'epoch': 3}, 'state_dict': {}}, tmp_path / 'epoch_3.pth')
    assert CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_3.pth'))['meta'] == {'epoch': 3}


def name_numpy(checkpoint: Path, core: bytes) -> Path:
    """Copy a checkpoint, with NumPy's functions in the module of that name."""
    renamed = checkpoint.with_name(f'{core.decode()}.pth')
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(renamed, 'w') as target:
        for name in source.namelist():
            target.writestr(name, re.sub(rb'numpy\._?core(?=\.multiarray\n)', core, source.read(name)))
    return renamed


def test_mmpretrain_is_imported_beside_a_transformers_that_is_too_new_for_it(tmp_path):
    """As pip leaves it, but for the content: mmpretrain looks at the version, then imports names that are gone."""
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers/__init__.py').write_text("__version__ = '5.0.0'\n")
    (tmp_path / 'transformers-5.0.0.dist-info').mkdir()
    metadata = 'Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n'
    (tmp_path / 'transformers-5.0.0.dist-info/METADATA').write_text(metadata)
    control = 'compat.multimodal_works = lambda: True\n'
    for line, error in (('', None), (control, "from 'transformers'")):
        process = python(
            f'from vasomim import compat\n{line}compat.prepare()\n'
            'import transformers, mmpretrain.models\nassert transformers.__version__ == "5.0.0"\n',
            tmp_path,
        )
        assert (process.returncode == 0) == (error is None), process.stderr
        assert error is None or error in process.stderr


def test_messages_for_debugging_are_not_printed():
    process = python(
        'from vasomim import compat\ncompat.prepare()\ncompat.prepare()\nimport mmdet.datasets, mmseg.datasets\n'
        "from mmengine.logging import print_log\nprint_log('shown')\n"
    )
    assert process.stdout == 'shown\n', process.stderr
