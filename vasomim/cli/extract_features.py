"""``vasomim extract-features``: embeddings of frames, and what they are worth by k-NN and a linear probe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vasomim import apis
from vasomim.cli.arguments import seed
from vasomim.cli.shown import notice, show_files
from vasomim.errors import printable

if TYPE_CHECKING:
    from vasomim.apis.probing import Probed

SUMMARY = 'Embed frames by a frozen encoder; with labels, judge it by k-NN and linear probing.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f'{SUMMARY} The exit status is 1 if files could not be read; the others are embedded.'
    add = parser.add_argument
    add('checkpoint', help='any checkpoint with a plain ViT: of a pre-training, fine-tuned, or of another project')
    add('source', type=Path, help='an image, a DICOM file, or a folder of them')
    add('target', type=Path, help='the .npz file: features (N, C) and names (N,); a .json of its name says the rest')
    add(
        '--pool',
        choices=('mean', 'class'),
        default='mean',
        help='mean: of the patch tokens; class: the class token (default: %(default)s)',
    )
    add('--size', type=int, help='side to which frames are resized (default: that of the encoder)')
    add('--batch-size', type=int, default=32, help='frames at once (default: %(default)s)')
    add('--device', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    add(
        '--labels',
        type=Path,
        metavar='FILE',
        help='CSV with the columns name, label and, if you like, split (train, val, test); or the sides.json of a '
        'prepared set, whose splits are then used',
    )
    add('--k', type=int, default=20, help='neighbors of k-NN (default: %(default)s)')
    add('--seed', type=seed, default=0, help='of splits by series, where none are given, and of the bootstrap')


def run(options: argparse.Namespace) -> int:
    """Embed; return 1 if files could not be read. See :func:`vasomim.apis.embedding.extract_features`."""
    done = apis.extract_features(
        options.checkpoint,
        options.source,
        options.target,
        pool=options.pool,
        size=options.size,
        batch_size=options.batch_size,
        device=options.device,
        labels=options.labels,
        k=options.k,
        seed=options.seed,
        progress=True,
    )
    if done.probing is not None:
        show(done.probing)
    print(f'{printable(done.target)}: {len(done.names)} x {done.features.shape[1]} features. {notice()}')
    return show_files(done.files)


def show(probed: Probed) -> None:
    """Print what embeddings are worth, with 95 % intervals, as a table."""
    import rich
    from rich.table import Table

    results = probed.results
    left_out = f'{probed.frames_without_label} frames without a label left out'
    print(f'{", ".join(probed.classes)}; {left_out}; splits {probed.splits}')
    table = Table()
    table.add_column('measure')
    for name in results:
        table.add_column(name)
    rows = {'accuracy': 'accuracy', 'balanced accuracy': 'balanced_accuracy', 'AUC': 'auc'}
    for measure, key in rows.items():
        figures = [getattr(result, key) for result in results.values()]
        table.add_row(measure, *(f'{each.value:.3f} \\[{each.low:.3f}, {each.high:.3f}]' for each in figures))
    table.add_row('n', *(str(result.n) for result in results.values()))
    settings = [', '.join(f'{key} = {value:g}' for key, value in result.setting.items()) for result in results.values()]
    table.add_row('setting', *settings)
    rich.print(table)
    print(f'95 % intervals: bootstrap over {probed.drawn}')
