"""Segmentation models as ONNX: the same logits in onnxruntime, and what the file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.finetuned import write_checkpoint
from vasomim.cli import main
from vasomim.drawing.notice import NOTICE
from vasomim.errors import CheckpointError, StackError
from vasomim.inference import export
from vasomim.inference.predictor import Predictor

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')


@pytest.fixture(scope='module', params=['arcade_v/segmentation', 'arcade_vs/segmentation'])
def exported(request, tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp('export')
    checkpoint = write_checkpoint(root / 'model.pth', request.param)
    assert main('export', [str(checkpoint), str(root / 'model.onnx')]) == 0
    return checkpoint, root / 'model.onnx'


@pytest.mark.parametrize('batch', [1, 5])
def test_logits_are_those_of_the_model_from_the_grey_levels_on(exported, batch):
    checkpoint, path = exported
    predictor = Predictor(checkpoint, 'cpu')
    frames = np.random.RandomState(batch).randint(0, 256, (batch, 64, 64)).astype(np.uint8)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    found = session.run(None, {'frames': frames[:, None].astype(np.float32)})[0]
    # Independently of the exporter's own wrapper: as mmseg's preprocessor hands frames to the model.
    inputs = [torch.from_numpy(np.repeat(frame[None], 3, axis=0)) for frame in frames]
    packed = predictor.model.data_preprocessor({'inputs': inputs, 'data_samples': None})['inputs']
    with torch.no_grad():
        expected = predictor.model.encode_decode(packed, [dict(ori_shape=(64, 64), img_shape=(64, 64))] * batch)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)


def test_the_file_says_classes_size_normalization_and_the_notice(exported):
    checkpoint, path = exported
    facts = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert facts['notice'] == NOTICE
    assert (facts['height'], facts['width']) == ('64', '64')
    np.testing.assert_allclose(json.loads(facts['mean']), [123.675, 116.28, 103.53], rtol=1e-6)
    np.testing.assert_allclose(json.loads(facts['std']), [58.395, 57.12, 57.375], rtol=1e-6)
    assert json.loads(facts['classes']) == ['background', *Predictor(checkpoint, 'cpu').classes]


def test_masks_of_a_resized_frame_are_those_of_the_predictor(exported):
    checkpoint, path = exported
    frame = np.random.RandomState(3).randint(0, 256, (64, 64)).astype(np.uint8)
    frame = cv2.resize(frame, (96, 80))
    small = cv2.resize(frame, (64, 64))[None, None].astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    logits = torch.from_numpy(session.run(None, {'frames': small})[0])
    logits = torch.nn.functional.interpolate(logits, (80, 96), mode='bilinear', align_corners=False)[0]
    mask = (logits[0] > 0) if len(logits) == 1 else logits.argmax(dim=0)
    assert np.mean(mask.numpy() == Predictor(checkpoint, 'cpu')(frame).mask) > 0.999


def test_a_detection_is_refused(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / 'model.pth', 'arcade_s/detection')
    assert main('export', [str(checkpoint), str(tmp_path / 'model.onnx')]) == 2
    assert 'only segmentation models are exported' in capsys.readouterr().err
    assert not (tmp_path / 'model.onnx').exists()


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    checkpoint = write_checkpoint(tmp_path / 'model.pth')
    monkeypatch.setattr(export, 'TOLERANCE', -1.0)
    with pytest.raises(CheckpointError, match='differ from PyTorch'):
        export.export_onnx(checkpoint, tmp_path / 'model.onnx')
    assert [path.name for path in tmp_path.iterdir()] == ['model.pth']


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    real = export.importlib.util.find_spec
    monkeypatch.setattr(export.importlib.util, 'find_spec', lambda name: None if name == 'onnxruntime' else real(name))
    with pytest.raises(StackError, match=r'onnxruntime: it is not installed.*\n.*pip install .*\[export\]'):
        export.export_onnx('any.pth', tmp_path / 'model.onnx')
