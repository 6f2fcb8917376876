"""``vasomim visualize``: what a checkpoint makes of the frames in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.cli.arguments import seed
from vasomim.cli.shown import show_files
from vasomim.cli.trust import add_trust
from vasomim.errors import printable
from vasomim.frames.layout import ANATOMY_SUFFIX

SUMMARY = 'Draw original, guidance, mask and reconstruction of some frames with a pre-trained checkpoint.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('checkpoint', help='checkpoint of a pre-training; its config is in it')
    parser.add_argument('source', type=Path, help='folder of frames, or one frame')
    parser.add_argument('target', type=Path, help='NAME.png for one picture, or a folder for a picture per frame')
    parser.add_argument('--num', type=int, default=8, help='frames to draw, chosen at random (default: %(default)s)')
    parser.add_argument('--seed', type=seed, default=0, help='seed of the choice and the masks (default: %(default)s)')
    parser.add_argument(
        '--anatomy-root',
        type=Path,
        help=f'folder with the anatomy maps (default: SOURCE{ANATOMY_SUFFIX} where it exists, else from the frames)',
    )
    parser.add_argument(
        '--progress',
        type=float,
        default=1.0,
        help='how far the training is thought to be, 0 to 1: how strongly vessels are masked (default: 1.0, its end)',
    )
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Draw; return 1 if frames could not be read. See :func:`vasomim.apis.visualizing.visualize`."""
    done = apis.visualize(
        options.checkpoint,
        options.source,
        options.target,
        num=options.num,
        seed=options.seed,
        anatomy_root=options.anatomy_root,
        progress=options.progress,
        trust_config=options.trust_config,
    )
    pictures = '' if options.target.suffix.lower() == '.png' else 'pictures of '
    print(f'{printable(options.target)}: {pictures}{len(done.frames)} of {done.among} frames')
    return show_files(done.files)
