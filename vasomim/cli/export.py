"""``vasomim export``: a segmentation model as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.cli.shown import notice
from vasomim.cli.trust import add_trust
from vasomim.errors import printable

SUMMARY = 'Export a segmentation checkpoint as ONNX, checked in onnxruntime; for research only, not for diagnosis.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('checkpoint', help='checkpoint of a segmentation, or the folder of its run')
    parser.add_argument('target', type=Path, help='the .onnx file to write')
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Export; see :func:`vasomim.apis.exporting.export`."""
    done = apis.export(options.checkpoint, options.target, trust_config=options.trust_config)
    height, width = done.size
    print(
        f'{printable(done.path)}: frames of {height} x {width}; logits differ from PyTorch by {done.difference:.1g} at '
        f'most (allowed: {done.tolerance:g}). {notice()}'
    )
    return 0
