"""``vasomim train``: train whatever an OpenMMLab config describes."""

from __future__ import annotations

import argparse
import os

from vasomim import apis
from vasomim.cli.arguments import seed
from vasomim.frames.layout import ANATOMY_SUFFIX

SUMMARY = 'Train from a config: pre-training, the vessel segmentor, or a downstream task.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = f'{parser.prog} CONFIG [options]'
    parser.add_argument(
        'config',
        metavar='CONFIG',
        help='config file, or vasomim::FOLDER/NAME.py for one that came with the package; it comes first, as --resume '
        'and --cfg-options would take it for their value',
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='data to read instead of that of the config. Pre-training: XA-170K as published, with your own sources '
        'beside its, what `vasomim pack` wrote, or any folder of images (anatomy maps are read from '
        f'FOLDER{ANATOMY_SUFFIX} where that exists, else extracted while loading); '
        'downstream tasks: a folder that `vasomim prepare` wrote (your own labels: vasomim::downstream/folder/...)',
    )
    parser.add_argument(
        '--init',
        metavar='CHECKPOINT',
        help='pre-trained encoder to start a downstream task or a further pre-training from, whatever method it comes '
        'from (default: scratch)',
    )
    parser.add_argument('--work-dir', help='where logs, figures and checkpoints go (default: work_dirs/NAME)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint, or the last whole one of a directory; without a value, of the work directory',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='delete the checkpoints of an earlier run in the work directory; without it they are an error',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16, or float16 with loss scaling on GPUs without it'
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        default='none',
        help='how the processes were started: torchrun is pytorch (default: none, one process)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change the config: model.masking.ratio=0.6 train_cfg.max_epochs=100',
    )
    parser.add_argument('--seed', type=seed, help='seed of all random numbers (default: that of the config)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher, not by hand')


def run(options: argparse.Namespace) -> int:
    """Train; see :func:`vasomim.apis.training.train`."""
    os.environ.setdefault('LOCAL_RANK', str(options.local_rank))
    apis.train(
        options.config,
        data=options.data,
        init=options.init,
        work_dir=options.work_dir,
        options=options.cfg_options,
        seed=options.seed,
        amp=options.amp,
        resume=options.resume,
        overwrite=options.overwrite,
        launcher=options.launcher,
        tell=tell,
    )
    return 0


def tell(line: str) -> None:
    """Print a line at once, as the lines of the training follow it."""
    print(line, flush=True)
