"""``vasomim export``: a segmentation model as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim.cli.trust import add_trust
from vasomim.errors import printable
from vasomim.files import require_writable

SUMMARY = 'Export a segmentation checkpoint as ONNX, checked in onnxruntime; for research only, not for diagnosis.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('checkpoint', help='checkpoint of a segmentation, or the folder of its run')
    parser.add_argument('target', type=Path, help='the .onnx file to write')
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Export.

    Raises:
        StackError: If onnx or onnxruntime is not installed.
        CheckpointError: If the checkpoint is not of a segmentation, or its logits differ in onnxruntime.
        StorageError: If the file cannot be written.
    """
    require_writable(options.target)
    from vasomim.drawing.notice import NOTICE
    from vasomim.inference.export import TOLERANCE, export_onnx

    done = export_onnx(options.checkpoint, options.target, options.trust_config)
    height, width = done.size
    print(
        f'{printable(done.path)}: frames of {height} x {width}; logits differ from PyTorch by {done.difference:.1g} at '
        f'most (allowed: {TOLERANCE:g}). {NOTICE}'
    )
    return 0
