"""``vasomim extract-features``: embeddings of frames, and what they are worth by k-NN and a linear probe."""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vasomim.cli.arguments import seed
from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.files import LOCK, locked, read_json, read_regular, require_writable, write_whole

SUMMARY = 'Embed frames by a frozen encoder; with labels, judge it by k-NN and linear probing.'

SPLITS = ('train', 'val', 'test')
LEAST_SERIES = 10  # With fewer the bootstrap draws single frames: hardly anything varies between draws of so few.


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
    """Embed, and judge where there are labels; return 1 if files could not be read, which are listed.

    Raises:
        CheckpointError: If the checkpoint holds no plain ViT.
        DatasetError: If the source holds no frame that can be read, or the labels do not fit.
        ConfigError: If an option is wrong.
        StorageError: If the target cannot be written, or another run writes it.
    """
    if options.target.suffix != '.npz':
        raise ConfigError(options.target, 'only .npz files are written.', 'Name it with .npz.')
    if options.k < 1:
        raise ConfigError('--k', f'{options.k} is not positive.', 'Take 20.')
    lock = options.target.with_name(f'.{options.target.name}{LOCK}')
    require_writable(options.target)
    with locked(lock, f'another run writes {options.target.name} here.', 'Wait until it has ended.', keep=False):
        return extract(options)


def extract(options: argparse.Namespace) -> int:
    """Embed into a file that nobody else writes; see :func:`run`."""
    import numpy as np
    from rich.progress import track

    from vasomim import compat

    compat.prepare()
    from vasomim.drawing.notice import NOTICE
    from vasomim.frames.inputs import left_out, list_sources, read_sources, refuse_all_damaged, tell_damaged
    from vasomim.frames.layout import unread_line
    from vasomim.inference.features import FeatureExtractor, embed

    labels = None if options.labels is None else read_labels(options.labels)
    not_images: list[str] = []
    unread: list[str] = []
    root, files = list_sources(options.source, not_images=not_images, unread=unread)
    extractor = FeatureExtractor(options.checkpoint, options.pool, options.size, options.device)
    names: list[str] = []
    parts = []
    damaged: list[DatasetError] = []
    batches = embed(extractor, read_sources(root, files, damaged), options.batch_size)
    for frames, features in track(batches, description='batches', transient=True):
        names += [printable(frame.source if frame.index is None else frame.target) for frame in frames]
        parts.append(features)
    if not parts:
        refuse_all_damaged(root, len(files), damaged)
    features = np.concatenate(parts)
    buffer = io.BytesIO()
    np.savez(buffer, features=features, names=np.array(names), notice=np.array(NOTICE))
    write_whole(options.target, buffer.getvalue())
    facts: dict[str, Any] = {
        'notice': NOTICE,
        'checkpoint': printable(options.checkpoint),
        'pool': extractor.pool,
        'size': extractor.size,
        'frames': len(names),
        'width': int(features.shape[1]),
        'unreadable': [printable(error.where) for error in damaged],
    }
    if labels is not None:
        facts['probing'] = probe(names, features, labels, options)
    from vasomim.files import write_json

    write_json(options.target.with_suffix('.json'), facts)
    print(f'{printable(options.target)}: {len(names)} x {features.shape[1]} features. {NOTICE}')
    if not_images:
        print(left_out(not_images))
    if unread:
        print(unread_line(unread))
    return tell_damaged(damaged, len(files))


def read_labels(path: Path) -> dict[str, tuple[str, str]]:
    """Return label and split ('' where none is given) by the name of a frame without its ending.

    Raises:
        DatasetError: If the file cannot be read, lacks a column, or gives a frame two labels or an unknown split.
    """
    labels: dict[str, tuple[str, str]] = {}
    cure = 'Name a CSV file, or a sides.json.'
    if path.suffix == '.json':
        sides = read_json(path, DatasetError, cure)
        from vasomim.prepare.prepared import read_split, split_path

        split_of = {
            name: split
            for split in SPLITS
            if split_path(path.parent, split).is_file()
            for name in read_split(path.parent, split)
        }
        return {name: (str(side), split_of.get(name, '')) for name, side in sides.items()}
    try:
        text = read_regular(path, DatasetError, cure).decode('utf-8-sig')
        rows = list(csv.DictReader(io.StringIO(text, newline='')))
    except (ValueError, csv.Error) as error:
        raise DatasetError(path, f'cannot be read: {error}.', cure) from error
    if not rows or not {'name', 'label'} <= set(rows[0]):
        raise DatasetError(path, 'it lacks the columns name and label, or rows.', 'Write a header: name,label,split')
    for number, row in enumerate(rows, start=2):
        name, split = stem((row['name'] or '').strip()), (row.get('split') or '').strip()
        if not name or not (row['label'] or '').strip():
            raise DatasetError(f'{path}, line {number}', 'name or label is empty.', 'Fill it in, or remove the line.')
        if split not in ('', *SPLITS):
            raise DatasetError(f'{path}, line {number}', f"there is no split '{split}'.", f'Use {", ".join(SPLITS)}.')
        if name in labels:
            raise DatasetError(f'{path}, line {number}', f'{name} stands there twice.', 'Keep one of the lines.')
        labels[name] = (row['label'].strip(), split)
    return labels


def stem(name: str) -> str:
    """Return a frame's name without the ending of an image or a DICOM file."""
    from vasomim.frames.inputs import DICOM_SUFFIXES
    from vasomim.frames.layout import IMAGE_SUFFIXES

    start, ending = os.path.splitext(name)
    return start if ending.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES) else name


def probe(names: list[str], features: Any, labels: dict[str, tuple[str, str]], options: argparse.Namespace) -> dict:
    """Judge features by their labels, print a table and return what it says.

    Raises:
        DatasetError: If the labels name frames that are not there, or a split lacks what it needs.
    """
    import numpy as np

    from vasomim.evaluation.probing import judge, knn_probabilities, linear_probabilities
    from vasomim.frames.names import other_spellings
    from vasomim.prepare.grouping import series, split_by_group

    own = [stem(name) for name in names]
    spelled = other_spellings(set(own).difference(labels), set(labels).difference(own))  # Accents: NFC or NFD.
    own = [spelled.get(name, name) for name in own]
    absent = sorted(set(labels) - set(own))
    if absent:
        count = f'{len(absent)} of {len(labels)} labelled frames'
        what = f'{count} are not in {options.source}, or unreadable (first: {absent[0]}).'
        raise DatasetError(
            options.labels, what, 'Names are relative to that folder; correct them, or remove the lines.'
        )
    used = [place for place, name in enumerate(own) if name in labels]
    groups = series([own[place] for place in used])
    given = [labels[own[place]][1] for place in used]
    if not any(given):
        split_of = split_by_group(groups, {'test': 0.2, 'val': 0.2}, options.seed)
        splits = np.array([split_of[own[place]] for place in used])
        rule = f'by series, seed {options.seed}: the labels give none'
    elif all(given):
        splits, rule = np.array(given), 'as given'
    else:
        what = f'{given.count("")} of {len(given)} labelled frames have no split, the others have one.'
        raise DatasetError(options.labels, what, 'Give all of them a split, or none.')
    classes = sorted({labels[own[place]][0] for place in used})
    truth = np.array([classes.index(labels[own[place]][0]) for place in used])
    chosen = features[used]
    part = {split: splits == split for split in SPLITS}
    for split in SPLITS:
        present = set(truth[part[split]].tolist())
        lacking = [name for number, name in enumerate(classes) if number not in present]
        if len(classes) < 2 or not present or (split == 'train' and lacking):
            what = f'{split} holds {int(part[split].sum())} frames of {len(present)} of {len(classes)} classes.'
            cure = 'Two classes are needed at least, frames in train, val and test, and all classes in train.'
            raise DatasetError(options.labels, what, cure)
    train, val = ((chosen[part[split]], truth[part[split]]) for split in ('train', 'val'))
    queries, answers = chosen[part['test']], truth[part['test']]
    of_test: list[str] | None = [groups[own[place]] for place, here in zip(used, part['test'], strict=True) if here]
    drawn = 'series'
    if len(set(of_test or ())) < LEAST_SERIES:  # As of frames that are numbered through, or of too few patients.
        of_test, drawn = None, 'frames, which is too narrow if several show one patient'
    neighbors = knn_probabilities(*train, queries, len(classes), options.k)
    linear, strength = linear_probabilities(train, val, queries, len(classes))
    results = {
        'k-NN': judge(answers, neighbors, {'k': min(options.k, len(train[0]))}, of_test, seed=options.seed),
        'linear': judge(answers, linear, {'C': strength}, of_test, seed=options.seed),
    }
    counts = {split: dict(Counter(classes[label] for label in truth[part[split]])) for split in SPLITS}
    left_out = len(names) - len(used)
    show(results, f'{", ".join(classes)}; {left_out} frames without a label left out; splits {rule}')
    print(f'95 % intervals: bootstrap over {drawn}')
    return {
        'classes': classes,
        'counts': counts,
        'splits': rule,
        'frames_without_label': left_out,
        'interval': f'95 % percentile bootstrap over {drawn}',
        **{name: defined(asdict(result)) for name, result in results.items()},
    }


def show(results: dict[str, Any], title: str) -> None:
    """Print results, with their 95 % intervals, as a table below a title."""
    import rich
    from rich.table import Table

    print(title)
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


def defined(content: Any) -> Any:
    """Return nested figures with None for NaN, as JSON has none."""
    if isinstance(content, dict):
        return {key: defined(value) for key, value in content.items()}
    return None if isinstance(content, float) and content != content else content
