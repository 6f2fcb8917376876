"""``vasomim predict``: masks, overlays and boxes for images, DICOM cines, or folders of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from vasomim import apis
from vasomim.cli.shown import notice, show_files
from vasomim.cli.trust import add_trust
from vasomim.errors import printable

SUMMARY = 'Predict masks or boxes for frames with a fine-tuned checkpoint; for research only, not for diagnosis.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f'{SUMMARY} The exit status is 1 if files could not be read; the others are predicted.'
    parser.add_argument('checkpoint', help='checkpoint of a downstream task, or the folder of its run')
    parser.add_argument('source', type=Path, help='an image, a DICOM file, or a folder of them')
    parser.add_argument('target', type=Path, help='folder for masks/, overlays/ and, from detection, boxes.json (COCO)')
    parser.add_argument(
        '--score', type=float, default=0.3, help='leave out boxes below this score (default: %(default)s)'
    )
    parser.add_argument('--device', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Predict; return 1 if files could not be read or predicted. See :func:`vasomim.apis.predicting.predict`."""
    done = apis.predict(
        options.checkpoint,
        options.source,
        options.target,
        score=options.score,
        device=options.device,
        trust_config=options.trust_config,
        progress=True,
    )
    frames = f'{done.frames} {"frame" if done.frames == 1 else "frames"}'
    print(f'{printable(done.target)}: {done.task} of {frames} of {done.files.count} files. {notice()}')
    return show_files(done.files)
