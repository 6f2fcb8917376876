"""A segmentation model as ONNX, checked against PyTorch before it is kept."""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vasomim.drawing.notice import NOTICE
from vasomim.errors import CheckpointError, ConfigError, StackError
from vasomim.files import in_one_step
from vasomim.inference.predictor import Predictor

OPSET = 18
TOLERANCE = 1e-4  # Largest difference of logits between onnxruntime and PyTorch.
BATCHES = (1, 2, 3)
INSTALL = "pip install 'vasomim-openmmlab[export]'"


class LogitsOfFrames(nn.Module):
    """Grey levels in, logits out: the normalization belongs to the exported graph.

    Args:
        model: A segmentor of mmseg.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        for name in ('mean', 'std'):
            value = getattr(model.data_preprocessor, name).detach().clone().reshape(1, -1, 1, 1)
            self.register_buffer(name, value)

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits (B, C, H, W) of grey levels 0-255, float (B, 1, H, W)."""
        inputs = (frames.expand(-1, 3, -1, -1) - self.mean) / self.std
        return self.model.decode_head(self.model.extract_feat(inputs))


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        size: Height and width of its input, pixels.
        difference: The largest one of its logits from PyTorch's.
        tolerance: The largest one that is allowed.
    """

    path: Path
    size: tuple[int, int]
    difference: float
    tolerance: float


def export_onnx(checkpoint: str | Path, path: str | Path, trust_config: bool = False) -> Exported:
    """Write the segmentation model of a checkpoint as ONNX.

    Its input ``frames`` is float32 (batch, 1, height, width): grey levels 0-255, resized bilinearly to the fixed size
    in the metadata; the batch is free. Its output ``logits`` is (batch, classes, height, width); with one channel, a
    pixel is foreground where the logit is above 0, else the class is the largest channel. Metadata: ``notice``,
    ``classes`` (JSON, background first), ``height``, ``width``, ``mean`` and ``std`` (which the graph applies itself).

    Args:
        checkpoint: As in :class:`vasomim.inference.predictor.Predictor`.
        path: The .onnx file; written only if onnxruntime agrees with PyTorch.
        trust_config: As in :class:`vasomim.inference.predictor.Predictor`.

    Raises:
        StackError: If onnx or onnxruntime is not installed.
        ConfigError: If ``path`` is not named .onnx.
        CheckpointError: If the checkpoint is not of a segmentation, or onnxruntime's logits differ.
    """
    for package in ('onnx', 'onnxruntime'):
        if importlib.util.find_spec(package) is None:
            raise StackError(package, 'it is not installed, and the export needs it.', INSTALL)
    path = Path(path)
    if path.suffix != '.onnx':
        raise ConfigError(path, 'only ONNX files are written.', 'Name it with .onnx.')
    predictor = Predictor(checkpoint, 'cpu', trust_config=trust_config)
    if predictor.task != 'segmentation':
        cure = 'Take a checkpoint of a segmentation; boxes come from `vasomim predict`.'
        raise CheckpointError(checkpoint, 'it detects boxes; only segmentation models are exported.', cure)
    size = input_size(predictor.cfg)
    model = LogitsOfFrames(predictor.model).eval()
    with in_one_step(path) as unfinished:
        trace(model, size, unfinished)
        describe(unfinished, predictor, model, size)
        difference = largest_difference(model, unfinished, size)
        if not difference <= TOLERANCE:
            what = f'its logits in onnxruntime differ from PyTorch by {difference:.2g}, more than {TOLERANCE:g}.'
            raise CheckpointError(checkpoint, what, 'Report this with the versions that `vasomim doctor` prints.')
    return Exported(path, size, difference, TOLERANCE)


def input_size(cfg: Any) -> tuple[int, int]:
    """Return height and width to which the test pipeline of a config resizes.

    Raises:
        ConfigError: If it does not resize to one size.
    """
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'].rpartition('.')[2] == 'Resize' and not step.get('keep_ratio', False) and step.get('scale'):
            scale = step['scale']
            width, height = (scale, scale) if isinstance(scale, int) else scale
            return int(height), int(width)
    raise ConfigError('test_dataloader.dataset.pipeline', 'it resizes to no fixed size.', 'Use Resize with a scale.')


def trace(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write the graph, with a free batch.

    The exporter by tracing is in every release from 2.6 on and needs no further package.
    """
    frames = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) * 255
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')  # On shapes read while tracing: they are fixed here, but for the batch.
        torch.onnx.export(
            model,
            (frames,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=['frames'],
            output_names=['logits'],
            dynamic_axes={'frames': {0: 'batch'}, 'logits': {0: 'batch'}},
        )


def describe(path: Path, predictor: Predictor, model: LogitsOfFrames, size: tuple[int, int]) -> None:
    """Write the metadata into the file, and check that it is valid ONNX."""
    import onnx

    graph = onnx.load(path)
    classes = ['background', *predictor.classes]
    facts = {
        'notice': NOTICE,
        'classes': json.dumps(classes),
        'height': str(size[0]),
        'width': str(size[1]),
        'mean': json.dumps(model.mean.flatten().tolist()),
        'std': json.dumps(model.std.flatten().tolist()),
        'input': 'grey levels 0-255, resized bilinearly to height x width; the graph normalizes them by mean and std',
        'output': 'logits; one channel: foreground above 0; several: the class is the largest',
    }
    onnx.helper.set_model_props(graph, facts)
    graph.doc_string = NOTICE
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def largest_difference(model: nn.Module, path: Path, size: tuple[int, int]) -> float:
    """Return the largest difference of logits between onnxruntime and PyTorch on batches of several sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=['CPUExecutionProvider'])
    generator = torch.Generator().manual_seed(1)
    differences = []
    for batch in BATCHES:
        frames = torch.randint(0, 256, (batch, 1, *size), generator=generator).float()
        with torch.no_grad():
            expected = model(frames).numpy()
        found = session.run(None, {'frames': frames.numpy()})[0]
        differences.append(float(np.abs(found - expected).max()) if found.shape == expected.shape else float('nan'))
    return max(differences, key=lambda value: (np.isnan(value), value))
