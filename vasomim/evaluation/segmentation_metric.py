"""The metric that mmseg's validation and test loops report: per image, at the resolution of the annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vasomim import compat

compat.prepare()

from mmengine.dist import all_gather_object, is_main_process  # noqa: E402
from mmengine.evaluator import BaseMetric  # noqa: E402
from mmseg.registry import METRICS  # noqa: E402

from vasomim.errors import ConfigError, DatasetError, TrainingError, did_you_mean  # noqa: E402
from vasomim.evaluation.cases import AGREEMENT_ON_NOTHING, LOCAL, SUBGROUPS, Case, measure_case, write_cases  # noqa: E402
from vasomim.evaluation.report import report  # noqa: E402


@METRICS.register_module()
class SegmentationMetric(BaseMetric):
    """DSC, clDice and HD95 of vessels, stenoses or vessel segments, averaged per image.

    The classes are those of the data set; the first is the background. Predictions are compared at the resolution of
    the annotation: where a model's prediction has another size, its logits or probabilities are interpolated first.
    Keys and definitions: :func:`vasomim.evaluation.report.report`.

    Args:
        measures: Among 'DSC', 'clDice' and 'HD95'.
        subgroups: Among 'width' (thin, medium and wide vessels), 'lesion_size' (both for one class), 'mean_width' and
            'side' (meta key ``side`` of the samples: 'left' or 'right').
        per_case_file: Gets the values of every image, '.csv' or '.json'; the last evaluation stays.
        spacing: Size of a pixel of the annotation, or its height and width, for HD95: 1 measures in pixels.
        threshold: Probability above which a pixel is vessel, in (0, 1); used only where a prediction of one channel has
            to be interpolated, as the model's own threshold has been applied otherwise.
        prefix: Of the keys, for a second metric beside this one.

    Raises:
        ConfigError: If an argument leaves its choices.
    """

    def __init__(
        self,
        measures: Sequence[str] = ('DSC',),
        subgroups: Sequence[str] = (),
        per_case_file: str | None = None,
        spacing: float | tuple[float, float] = 1.0,
        threshold: float = 0.5,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.measures = _checked('measures', measures, AGREEMENT_ON_NOTHING)
        self.subgroups = _checked('subgroups', subgroups, SUBGROUPS)
        if per_case_file is not None and Path(per_case_file).suffix not in ('.csv', '.json'):
            raise ConfigError(
                'SegmentationMetric.per_case_file',
                f"'{per_case_file}' is neither a .csv nor a .json file.",
                'Give it one of these endings.',
            )
        if not (np.asarray(spacing, dtype=float) > 0).all() or np.size(spacing) > 2:
            raise ConfigError(
                'SegmentationMetric.spacing', f'{spacing} is no size of a pixel.', 'Give one or two numbers above 0.'
            )
        if not 0 < threshold < 1:
            raise ConfigError(
                'SegmentationMetric.threshold', f'{threshold} is no probability.', 'Choose it between 0 and 1.'
            )
        self.per_case_file = per_case_file
        self.spacing = spacing
        self.threshold = threshold

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the data set without the background.

        Raises:
            ConfigError: If the data set names fewer than two classes, or several where subgroups need one.
        """
        classes = tuple((self.dataset_meta or {}).get('classes') or ())
        if len(classes) < 2:
            raise ConfigError(
                'SegmentationMetric',
                f'the data set names the classes {list(classes)}; a background and at least one class are needed.',
                "Set the data set's metainfo, such as metainfo=dict(classes=('background', 'vessel')).",
            )
        if len(classes) > 2 and (local := sorted(set(self.subgroups) & set(LOCAL))):
            raise ConfigError(
                'SegmentationMetric.subgroups',
                f"'{local[0]}' divides the pixels of one class, and the data set has {len(classes) - 1}.",
                "Use 'mean_width' or 'side', which divide the images.",
            )
        return classes[1:]

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Measure the predictions of a batch.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_sem_seg``, ``seg_logits`` and ``gt_sem_seg``, each of which holds ``data``
                (C, H, W), and their metainfo.

        Raises:
            DatasetError: If an annotation is missing, does not fit its image or holds other values than class indices.
            TrainingError: If a model's output is not finite.
            ConfigError: If the model has other classes than the data set, or samples lack their ``img_path``.
        """
        num_classes = len(self.class_names)
        for sample in data_samples:
            if 'img_path' not in sample:
                raise ConfigError(
                    'PackSegInputs.meta_keys', 'img_path is missing, by which images are told apart.', 'Add it.'
                )
            truth = _truth(sample, num_classes)
            self.results.append(
                measure_case(
                    str(sample['img_path']),
                    _prediction(sample, truth.shape, num_classes, self.threshold),
                    truth,
                    num_classes,
                    self.measures,
                    self.subgroups,
                    sample.get('side'),
                    self.spacing,
                )
            )

    def evaluate(self, size: int) -> dict[str, float]:
        """Bring the images of all processes together, each once, and report on them.

        Samplers hand some images to two processes so that all have equally many. Which ones depends on the sampler;
        here they are recognized by their path.

        Args:
            size: Number of images in the data set.

        Raises:
            DatasetError: If another number of images than that was evaluated.
        """
        gathered = {case.name: case for part in all_gather_object(self.results) for case in part}
        self.results.clear()
        if len(gathered) != size or not size:
            raise DatasetError(
                'SegmentationMetric',
                f'{len(gathered)} different images were evaluated, but the data set has {size}.',
                'List each image once, and let the sampler reach all of them (DefaultSampler, shuffle=False).',
            )
        figures = self.compute_metrics([gathered[name] for name in sorted(gathered)])
        return {f'{self.prefix}/{key}': value for key, value in figures.items()} if self.prefix else figures

    def compute_metrics(self, results: list[Case]) -> dict[str, float]:
        """Report on the images of the set and, in the main process, write ``per_case_file``."""
        figures = report(results, self.class_names, self.subgroups)
        if self.per_case_file and is_main_process():
            write_cases(self.per_case_file, results, self.class_names, figures)
        return figures


def _checked(argument: str, names: Sequence[str], choices: Sequence[str] | Mapping[str, float]) -> tuple[str, ...]:
    where = f'SegmentationMetric.{argument}'
    if isinstance(names, str):
        raise ConfigError(where, f"'{names}' is a name, not a list of names.", f"Write ['{names}'].")
    for name in names:
        if name not in choices:
            raise ConfigError(
                where, f"there is no '{name}'.{did_you_mean(name, choices)}", f'Choose among {", ".join(choices)}.'
            )
    if argument == 'measures' and not names:
        raise ConfigError(where, 'it is empty.', f'Choose among {", ".join(choices)}.')
    return tuple(dict.fromkeys(names))


def _truth(sample: Mapping[str, Any], num_classes: int) -> np.ndarray:
    """Return the annotation, class indices (H, W), or say what is wrong with it."""
    where = sample.get('seg_map_path') or sample['img_path']
    if 'gt_sem_seg' not in sample:
        raise DatasetError(
            where, 'no annotation reached the metric.', 'Put LoadAnnotations into the pipeline of the evaluation.'
        )
    truth = sample['gt_sem_seg']['data'].cpu().numpy()
    truth = truth.reshape(truth.shape[-2:])
    shape = tuple(sample.get('ori_shape', truth.shape))[:2]
    if truth.shape != shape:
        raise DatasetError(
            where,
            f'the annotation is {_size(truth.shape)}, its image {_size(shape)}.',
            'If the files agree, put LoadAnnotations behind Resize in the pipeline of the evaluation; '
            'else save the annotation at the size of the image.',
        )
    if truth.min() >= 0 and truth.max() <= num_classes:
        return truth.astype(np.int64)
    values = np.unique(truth)
    unknown = ', '.join(str(value) for value in values if not 0 <= value <= num_classes)
    if set(values) <= {0, 255}:
        cure = 'This is a mask of 0 and 255: divide it by 255, or prepare the data set anew, which does so.'
    else:
        cure = f'Save class indices: 0 for the background, 1 to {num_classes} for the classes.'
    raise DatasetError(where, f'the annotation holds {unknown}; class indices are 0 to {num_classes}.', cure)


def _prediction(sample: Mapping[str, Any], shape: tuple[int, ...], num_classes: int, threshold: float) -> np.ndarray:
    """Return the predicted class indices at the size ``shape`` of the annotation, (H, W)."""
    where = sample['img_path']
    scores = sample['seg_logits']['data'] if 'seg_logits' in sample else None
    if scores is not None and not bool(torch.isfinite(scores).all()):
        raise TrainingError(
            where, "the model's output is NaN or infinite.", 'Take an earlier checkpoint; check the learning rate.'
        )
    labels = sample['pred_sem_seg']['data'].reshape(sample['pred_sem_seg']['data'].shape[-2:])
    if labels.shape != shape and scores is not None:
        scores = functional.interpolate(scores[None].float(), size=shape, mode='bilinear', align_corners=False)[0]
        # mmseg applies the sigmoid before it stores the output of a model with a single channel.
        labels = scores.argmax(dim=0) if len(scores) > 1 else scores[0] > threshold
    elif labels.shape != shape:
        labels = functional.interpolate(labels[None, None].float(), size=shape, mode='nearest-exact')[0, 0]
    predicted = labels.cpu().numpy().astype(np.int64)
    if predicted.max() > num_classes:
        raise ConfigError(
            'model.decode_head.num_classes',
            f'the model predicts class {predicted.max()}, the data set has 0 to {num_classes}.',
            f'Set it to {num_classes + 1}, and load a checkpoint that was trained on this data set.',
        )
    return predicted


def _size(shape: Sequence[int]) -> str:
    return ' x '.join(str(length) for length in shape)
