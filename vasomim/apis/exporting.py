"""Export a segmentation model as ONNX."""

from __future__ import annotations

from pathlib import Path

from vasomim.files import require_writable
from vasomim.inference.export import Exported, export_onnx


def export(checkpoint: str | Path, target: str | Path, *, trust_config: bool = False) -> Exported:
    """Write the segmentation model of a checkpoint as ONNX, checked in onnxruntime; for research only.

    What goes into the graph and comes out of it is described at :func:`vasomim.inference.export.export_onnx`.

    Args:
        checkpoint: Of a segmentation: a file, or the folder of a run.
        target: The .onnx file to write.
        trust_config: Build whatever the checkpoint's config says, be it code; for files whose source you trust.

    Returns:
        The file, the size of its input in pixels, and the largest difference of logits from PyTorch.

    Raises:
        StackError: If onnx or onnxruntime is not installed.
        ConfigError: If the target is not named .onnx.
        CheckpointError: If the checkpoint is not of a segmentation, or its logits differ in onnxruntime.
        StorageError: If the file cannot be written.
    """
    require_writable(target)
    return export_onnx(checkpoint, target, trust_config)
