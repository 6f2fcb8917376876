"""What embeddings are worth: k-NN and a linear probe on the labels of a file."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vasomim.errors import DatasetError
from vasomim.evaluation.probing import ProbeResult, judge, knn_probabilities, linear_probabilities
from vasomim.files import read_json, read_regular
from vasomim.frames.inputs import DICOM_SUFFIXES
from vasomim.frames.layout import IMAGE_SUFFIXES
from vasomim.frames.names import other_spellings
from vasomim.prepare.grouping import series, split_by_group
from vasomim.prepare.prepared import read_split, split_path

SPLITS = ('train', 'val', 'test')
LEAST_SERIES = 10  # With fewer the bootstrap draws single frames: hardly anything varies between draws of so few.


@dataclass(frozen=True)
class Probed:
    """How well labels are read off embeddings.

    Attributes:
        results: Of 'k-NN' and 'linear', on the test frames.
        classes: Their names, sorted.
        counts: Number of frames by split and class.
        splits: Where the splits are from.
        frames_without_label: Number of frames that have none, and were left out.
        drawn: What the bootstrap of the 95 % intervals draws.
    """

    results: dict[str, ProbeResult]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    splits: str
    frames_without_label: int
    drawn: str

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it, with None for what is undefined."""
        return {
            'classes': list(self.classes),
            'counts': self.counts,
            'splits': self.splits,
            'frames_without_label': self.frames_without_label,
            'interval': f'95 % percentile bootstrap over {self.drawn}',
            **{name: nan_as_none(asdict(result)) for name, result in self.results.items()},
        }


def probe(
    names: Sequence[str],
    features: np.ndarray,
    labels: dict[str, tuple[str, str]],
    labels_file: str | Path,
    source: str | Path,
    k: int = 20,
    seed: int = 0,
) -> Probed:
    """Judge embeddings by the labels of their frames.

    Args:
        names: Of the frames, relative to their source, (N,).
        features: (N, C).
        labels: As :func:`read_labels` returns them.
        labels_file: Where they are from, for errors.
        source: Where the frames are from, for errors.
        k: Neighbors of k-NN, at least 1.
        seed: Of splits by series, where none are given, and of the bootstrap.

    Raises:
        DatasetError: If the labels name frames that are not there, or a split lacks what it needs.
    """
    own = [stem(name) for name in names]
    spelled = other_spellings(set(own).difference(labels), set(labels).difference(own))  # Accents: NFC or NFD.
    own = [spelled.get(name, name) for name in own]
    absent = sorted(set(labels) - set(own))
    if absent:
        count = f'{len(absent)} of {len(labels)} labelled frames'
        what = f'{count} are not in {source}, or unreadable (first: {absent[0]}).'
        raise DatasetError(labels_file, what, 'Names are relative to that folder; correct them, or remove the lines.')
    used = [place for place, name in enumerate(own) if name in labels]
    groups = series([own[place] for place in used])
    given = [labels[own[place]][1] for place in used]
    if not any(given):
        split_of = split_by_group(groups, {'test': 0.2, 'val': 0.2}, seed)
        splits = np.array([split_of[own[place]] for place in used])
        rule = f'by series, seed {seed}: the labels give none'
    elif all(given):
        splits, rule = np.array(given), 'as given'
    else:
        what = f'{given.count("")} of {len(given)} labelled frames have no split, the others have one.'
        raise DatasetError(labels_file, what, 'Give all of them a split, or none.')
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
            raise DatasetError(labels_file, what, cure)
    train, val = ((chosen[part[split]], truth[part[split]]) for split in ('train', 'val'))
    queries, answers = chosen[part['test']], truth[part['test']]
    of_test: list[str] | None = [groups[own[place]] for place, here in zip(used, part['test'], strict=True) if here]
    drawn = 'series'
    if len(set(of_test or ())) < LEAST_SERIES:  # As of frames that are numbered through, or of too few patients.
        of_test, drawn = None, 'frames, which is too narrow if several show one patient'
    neighbors = knn_probabilities(*train, queries, len(classes), k)
    linear, strength = linear_probabilities(train, val, queries, len(classes))
    results = {
        'k-NN': judge(answers, neighbors, {'k': min(k, len(train[0]))}, of_test, seed=seed),
        'linear': judge(answers, linear, {'C': strength}, of_test, seed=seed),
    }
    counts = {split: dict(Counter(classes[label] for label in truth[part[split]])) for split in SPLITS}
    return Probed(results, tuple(classes), counts, rule, len(names) - len(used), drawn)


def read_labels(path: Path) -> dict[str, tuple[str, str]]:
    """Return label and split ('' where none is given) by the name of a frame without its ending.

    Raises:
        DatasetError: If the file cannot be read, lacks a column, or gives a frame two labels or an unknown split.
    """
    labels: dict[str, tuple[str, str]] = {}
    cure = 'Name a CSV file, or a sides.json.'
    if path.suffix == '.json':
        sides = read_json(path, DatasetError, cure)
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
    start, ending = os.path.splitext(name)
    return start if ending.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES) else name


def nan_as_none(content: Any) -> Any:
    """Return nested figures with None for NaN, as JSON has none."""
    if isinstance(content, dict):
        return {key: nan_as_none(value) for key, value in content.items()}
    return None if isinstance(content, float) and content != content else content
