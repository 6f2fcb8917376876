"""From the measures of single images to the figures that are reported for a set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from vasomim.evaluation.cases import LOCAL, Case
from vasomim.evaluation.centerline import cl_dice_of_counts
from vasomim.evaluation.overlap import dice_of_counts, pooled_dice
from vasomim.evaluation.summary import summarize, terciles

GROUP_NAMES = {
    'width': ('thin', 'medium', 'wide'),
    'mean_width': ('thin', 'medium', 'wide'),
    'lesion_size': ('small', 'medium', 'large'),
}


def report(cases: Sequence[Case], class_names: Sequence[str], subgroups: Collection[str] = ()) -> dict[str, float]:
    """Summarize the measures of all images of a set.

    M stands for each of the measures that the cases hold.

    * ``images``, ``empty_truth``, ``empty_prediction``: numbers of images.
    * ``M``: mean over the images of :meth:`Case.value`; ``HD95/images`` of them count, ``HD95/undefined`` is the
      number of times that a class is in the truth or the prediction of an image only, which is left out.
    * ``DSC/pooled``: over all pixels of the set together; the mean over the classes that occur.
    * With several classes, ``M/class/NAME``: mean over the ``M/class/NAME/images`` images that hold the class in truth
      or prediction and define M; ``M/class_mean``: mean of these over the ``M/class_mean/classes`` classes that have
      one.
    * By subgroup, ``M/SUBGROUP/GROUP`` and the number of images that count, ``M/SUBGROUP/GROUP/images``:

      * ``mean_width``: images in thirds (thin, medium, wide) by the mean vessel width of the truth; those without
        vessels form the group ``no_vessel``.
      * ``side``: left, right, and ``unknown``.
      * ``width``: each image's pixels in three groups by the local vessel width of the truth (see
        ``vasomim.evaluation.local``), cut so that each has a third of the centerline of the set; mean over the images
        whose truth has a group, ``M/width/GROUP``, and over all pixels together, ``M/width/GROUP/pooled``. No HD95.
      * ``lesion_size``: the same with the lesions of the truth, a third of them small, medium and large by area.

      The cuts are ``SUBGROUP/low_cut`` and ``SUBGROUP/high_cut``; a value on a cut belongs to the lower group.

    A figure that nothing defines is NaN.

    Args:
        cases: At least one.
        class_names: Without the background, (C,).
        subgroups: Those with which the cases were measured.
    """
    counts = np.stack([case.counts for case in cases])
    figures: dict[str, float] = {
        'images': len(cases),
        'empty_truth': int((~counts[:, :, 2].any(axis=1)).sum()),
        'empty_prediction': int((~counts[:, :, 1].any(axis=1)).sum()),
    }
    measures = list(cases[0].scores)
    for measure in measures:
        overall = summarize(case.value(measure) for case in cases)
        figures[measure] = overall.mean
        if measure == 'DSC':
            figures['DSC/pooled'] = summarize(pooled_dice(counts)).mean
        if measure == 'HD95':
            figures['HD95/images'] = overall.count
            figures['HD95/undefined'] = sum(case.undefined(measure) for case in cases)
        if len(class_names) > 1:
            figures |= _by_class(measure, cases, class_names)
    for subgroup in subgroups:
        figures |= _by_part(subgroup, cases) if subgroup in LOCAL else _by_case(subgroup, cases)
    return figures


def _by_class(measure: str, cases: Sequence[Case], class_names: Sequence[str]) -> dict[str, float]:
    scores = np.stack([case.scores[measure] for case in cases])
    figures: dict[str, float] = {}
    means = []
    for name, column in zip(class_names, scores.T, strict=True):
        summary = summarize(column)
        means.append(summary.mean)
        figures[f'{measure}/class/{name}'] = summary.mean
        figures[f'{measure}/class/{name}/images'] = summary.count
    over_classes = summarize(means)
    return figures | {
        f'{measure}/class_mean': over_classes.mean,
        f'{measure}/class_mean/classes': over_classes.count,
    }


def _by_case(subgroup: str, cases: Sequence[Case]) -> dict[str, float]:
    figures: dict[str, float] = {}
    if subgroup == 'side':
        groups = [case.side or 'unknown' for case in cases]
        names: Iterable[str] = sorted({'left', 'right', *groups})
    else:
        widths = np.array([case.mean_width for case in cases])
        cuts = terciles(widths)
        figures |= {f'{subgroup}/low_cut': cuts.low, f'{subgroup}/high_cut': cuts.high}
        all_names = (*GROUP_NAMES[subgroup], 'no_vessel')  # Group -1, undefined, is the last one.
        groups = [all_names[index] for index in cuts.group(widths)]
        names = all_names if 'no_vessel' in groups else GROUP_NAMES[subgroup]
    for measure in cases[0].scores:
        for name in names:
            summary = summarize(case.value(measure) for case, group in zip(cases, groups, strict=True) if group == name)
            figures[f'{measure}/{subgroup}/{name}'] = summary.mean
            figures[f'{measure}/{subgroup}/{name}/images'] = summary.count
    return figures


def _by_part(subgroup: str, cases: Sequence[Case]) -> dict[str, float]:
    parts = [case.local[subgroup] for case in cases]
    cuts = terciles(np.concatenate([part.size for part in parts]), np.concatenate([part.weight for part in parts]))
    figures = {f'{subgroup}/low_cut': cuts.low, f'{subgroup}/high_cut': cuts.high}
    for group, name in enumerate(GROUP_NAMES[subgroup]):
        inside = [(part, cuts.group(part.size) == group) for part in parts]
        held = [(part, rows) for part, rows in inside if rows.any()]
        for measure in cases[0].scores:
            if measure == 'HD95':
                continue
            if measure == 'DSC':
                counts = np.array([part.overlap[rows].sum(axis=0) for part, rows in held]).reshape(-1, 3)
                of_counts = dice_of_counts
            else:
                counts = np.array([part.lines[rows].sum(axis=0) for part, rows in held]).reshape(-1, 4)
                of_counts = cl_dice_of_counts
            key = f'{measure}/{subgroup}/{name}'
            figures[key] = summarize(of_counts(counts)).mean
            figures[f'{key}/images'] = len(held)
            figures[f'{key}/pooled'] = float(of_counts(counts.sum(axis=0))) if held else float('nan')
    return figures
