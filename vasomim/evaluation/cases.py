"""What is measured on one image, and the file that keeps it for every image."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from vasomim.errors import printable
from vasomim.evaluation.centerline import centerline, cl_dice_of_centerlines, vessel_width
from vasomim.evaluation.local import LocalCounts, counts_by_lesion, counts_by_width
from vasomim.evaluation.overlap import class_counts, dice_of_counts
from vasomim.evaluation.surface import hausdorff95
from vasomim.files import write_whole

AGREEMENT_ON_NOTHING = {'DSC': 1.0, 'clDice': 1.0, 'HD95': 0.0}
"""The measures, and what each is for an image whose truth and prediction are both empty."""

LOCAL = {'width': counts_by_width, 'lesion_size': counts_by_lesion}
"""Subgroups that divide the pixels of an image; for one class only."""

SUBGROUPS = (*LOCAL, 'mean_width', 'side')
"""All subgroups; the last two divide the images."""


@dataclass(frozen=True)
class Case:
    """Measures of one image.

    Attributes:
        name: Path of the image.
        counts: |P and T|, |P| and |T| of each class, (C, 3).
        scores: For each measure its value by class, (C,); NaN where the class is absent in both masks or, HD95, in one.
        side: Of the coronary tree, 'left' or 'right'; None where it is not known.
        mean_width: Of the vessels along the true centerline, in pixels; NaN where there are none or nobody asked.
        local: Counts for the subgroups that divide the pixels.
    """

    name: str
    counts: np.ndarray
    scores: Mapping[str, np.ndarray]
    side: str | None
    mean_width: float
    local: Mapping[str, LocalCounts]

    @property
    def present(self) -> np.ndarray:
        """Classes in truth or prediction, (C,) bool."""
        return np.any(self.counts[:, 1:], axis=1)

    def value(self, measure: str) -> float:
        """Mean of a measure over the classes in truth or prediction of this image.

        Returns:
            The value; 1 (HD95: 0) where truth and prediction hold no class at all. NaN if HD95 is undefined for every
            class; where it is for some, they are left out here and counted by :meth:`undefined`.
        """
        if not self.present.any():
            return AGREEMENT_ON_NOTHING[measure]
        scores = self.scores[measure][self.present]
        defined = scores[~np.isnan(scores)]
        return float(defined.mean()) if defined.size else float('nan')

    def undefined(self, measure: str) -> int:
        """Number of classes in truth or prediction for which a measure is undefined."""
        return int(np.isnan(self.scores[measure][self.present]).sum())


def measure_case(
    name: str,
    prediction: np.ndarray,
    truth: np.ndarray,
    num_classes: int = 1,
    measures: Collection[str] = ('DSC',),
    subgroups: Collection[str] = (),
    side: str | None = None,
    spacing: float | tuple[float, float] = 1.0,
) -> Case:
    """Measure the prediction for one image.

    Args:
        name: Path of the image.
        prediction: Class indices, (H, W): 0 is the background, 1 to ``num_classes`` are the classes.
        truth: Class indices, (H, W).
        num_classes: Number of classes without the background.
        measures: Among 'DSC', 'clDice' and 'HD95'.
        subgroups: Among :data:`SUBGROUPS`.
        side: Of the coronary tree, if it is known.
        spacing: Size of a pixel, for HD95.

    Raises:
        ValueError: If the shapes differ, an index leaves its range, or pixels of several classes are to be divided.
    """
    if num_classes > 1 and (local := sorted(set(subgroups) & set(LOCAL))):
        raise ValueError(f'Subgroup {local[0]} divides the pixels of one class; there are {num_classes}.')
    counts = class_counts(prediction, truth, num_classes)
    present = 1 + np.flatnonzero(counts[:, 1:].any(axis=1))
    scores = {measure: np.full(num_classes, np.nan) for measure in measures}
    lines: dict[int, np.ndarray] = {}
    if 'DSC' in scores:
        scores['DSC'] = dice_of_counts(counts)
    for index in present:
        predicted, true = prediction == index, truth == index
        if 'clDice' in scores:
            lines[index] = centerline(predicted)
            scores['clDice'][index - 1] = cl_dice_of_centerlines(predicted, true, lines[index], centerline(true))
        if 'HD95' in scores:
            scores['HD95'][index - 1] = hausdorff95(predicted, true, spacing)
    widths = vessel_width(truth) if 'mean_width' in subgroups else np.zeros(0)
    return Case(
        name=name,
        counts=counts,
        scores=scores,
        side=side,
        mean_width=float(widths.mean()) if widths.size else float('nan'),
        local={kind: LOCAL[kind](prediction, truth, lines.get(1)) for kind in LOCAL if kind in subgroups},
    )


def write_cases(
    path: str | Path, cases: Sequence[Case], class_names: Sequence[str], summary: Mapping[str, float]
) -> None:
    """Write the values of every image, all at once or not at all.

    Args:
        path: Ends in '.csv', a table with a row for each image and empty cells for what is undefined, whose names are
            texts for spreadsheets too; or in '.json', an object with ``summary`` and the list ``cases``, null for what
            is undefined.
        cases: In the order of the rows, in which images are named below the folder that holds them all.
        class_names: Without the background, (C,); with more than one, values of each class are written too.
        summary: Goes into a JSON file only.

    Raises:
        ValueError: If the path has another ending.
    """
    path = Path(path)
    names = short_names([case.name for case in cases])
    rows = [_row(case, name, class_names) for case, name in zip(cases, names, strict=True)]
    if path.suffix == '.csv':
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(rows[0]) if rows else ['image'], lineterminator='\n')
        writer.writeheader()
        writer.writerows({**row, 'image': cell(str(row['image']))} for row in rows)
        text = buffer.getvalue()
    elif path.suffix == '.json':
        content = {'summary': {key: _known(value) for key, value in summary.items()}, 'cases': rows}
        text = json.dumps(content, indent=1, allow_nan=False) + '\n'
    else:
        raise ValueError(f'{path}: cases are written as .csv or .json.')
    write_whole(path, text)


def short_names(paths: Sequence[str]) -> list[str]:
    """Return paths below the folder that holds them all: a table of images is the same wherever they lie.

    Args:
        paths: Of files, all absolute or all relative.

    Returns:
        Names that can be written as UTF-8, as :func:`vasomim.errors.printable` does it.
    """
    folders = [PurePath(path).parent for path in paths]
    shared = os.path.commonpath(folders) if folders else ''
    return [printable(PurePath(path).relative_to(shared).as_posix()) for path in paths]


def cell(name: str) -> str:
    """Return a name for a table, with a quote before what spreadsheets take for a formula."""
    return f"'{name}" if name.startswith(('=', '+', '-', '@')) else name


def _row(case: Case, name: str, class_names: Sequence[str]) -> dict[str, str | float | None]:
    row: dict[str, str | float | None] = {
        'image': name,
        'side': case.side,
        'mean_width': _known(case.mean_width),
        'predicted_pixels': int(case.counts[:, 1].sum()),
        'true_pixels': int(case.counts[:, 2].sum()),
    }
    row |= {measure: _known(case.value(measure)) for measure in case.scores}
    if len(class_names) > 1:
        for measure, scores in case.scores.items():
            row |= {
                f'{measure}/class/{name}': _known(float(value)) for name, value in zip(class_names, scores, strict=True)
            }
    return row


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
