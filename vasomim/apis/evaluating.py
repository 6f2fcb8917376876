"""Measure a fine-tuned checkpoint on a test split: metrics, a table of all images, and a picture of some."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from vasomim.apis.config_parts import evaluators, use_data
from vasomim.apis.configs import Options, load_config, parse_options
from vasomim.apis.training import build_runner, scope_of
from vasomim.checkpoints.loading import load_tensors
from vasomim.checkpoints.reading import trained_classes
from vasomim.checkpoints.runs import best_checkpoint
from vasomim.checkpoints.stored_model import build_model
from vasomim.drawing.notice import NOTICE, write_notice, write_png
from vasomim.drawing.overlays import contact_sheet
from vasomim.drawing.visualization import grey
from vasomim.engine.options import merge_options
from vasomim.engine.refusals import blamed_on
from vasomim.engine.workers import explained
from vasomim.errors import ConfigError, printable
from vasomim.evaluation.cases import cell, short_names
from vasomim.files import LOCK, locked, require_plain_name, write_json
from vasomim.frames.images import read_grey
from vasomim.inference.predictor import Prediction, as_prediction, fine_tuned
from vasomim.prepare.prepared import DESCRIPTION, SIDES, read_description

CASE_SCORE = {'mmseg': 'DSC', 'mmdet': 'F1'}
SCORE = 0.5  # Of the boxes that count.


@dataclass(frozen=True)
class Evaluated:
    """What a checkpoint reaches on a test split.

    Attributes:
        metrics: Figures by name; NaN where one is undefined, as for boxes where there are none to find.
        images: Number of images.
        checkpoint: The file that was measured.
        folder: Where ``metrics.json``, ``cases.csv`` (an image a row), ``cases.png`` and the notice lie.
    """

    metrics: dict[str, float]
    images: int
    checkpoint: Path
    folder: Path


def evaluate(
    config: str | Path,
    checkpoint: str | Path,
    *,
    data: str | Path | None = None,
    work_dir: str | Path | None = None,
    hd95: bool = False,
    score: float | None = None,
    num: int = 3,
    options: Options = None,
    trust_config: bool = False,
    tell: Callable[[str], Any] = print,
) -> Evaluated:
    """Measure a fine-tuned checkpoint on the test split of its task.

    Args:
        config: Of the task: data and metrics, named as in :func:`vasomim.apis.training.train`; the model comes from
            the checkpoint.
        checkpoint: A file, or the folder of a run: its best checkpoint, else its last.
        data: Prepared folder to read instead of that of the config.
        work_dir: Where the results go; None for ``test/`` beside the checkpoint.
        hd95: Whether the 95 % Hausdorff distance (pixels) is measured as well; segmentation only.
        score: Score in [0, 1] from which boxes count for F1 and are drawn; None for 0.5. Detection only.
        num: Best, median and worst cases to draw, each, at least 1.
        options: Changes of the config: a dict of dotted keys and values, or texts KEY=VALUE.
        trust_config: Build whatever the checkpoint's config says, be it code; for files whose source you trust.
        tell: Takes a line on what deserves attention before the figures are there.

    Raises:
        ConfigError: If the config or an argument is wrong, or of another task than the checkpoint.
        CheckpointError: If the checkpoint does not exist, or does not fit its own config.
        DatasetError: If the data are missing or damaged.
        StorageError: If the results cannot be written, or another evaluation writes there.
    """
    cfg = load_config(config, options)
    scope = cfg.get('default_scope')
    source = best_checkpoint(checkpoint)
    trained, tensors = fine_tuned(source, trust_config)
    if trained.default_scope != scope:
        raise ConfigError(
            config,
            f'it is a config of {scope}, and the checkpoint of {trained.default_scope}.',
            'Pass the config that the checkpoint was trained with.',
        )
    if not cfg.get('test_dataloader'):
        cure = 'Take a config of configs/downstream, or add test_dataloader, test_cfg and test_evaluator.'
        raise ConfigError(config, 'it has no test_dataloader, so no images to test on.', cure)
    if num < 1:
        raise ConfigError('--num', f'{num} is not positive.', 'Draw at least one case of each kind.')
    cfg.model = trained.model
    merge_options(cfg, {key: value for key, value in parse_options(options).items() if model_key(key)})
    if data is not None:
        use_data(cfg, data)
    folder = Path(work_dir) if work_dir is not None else source.parent / 'test'
    cfg.work_dir, cfg.resume, cfg.load_from = str(folder), False, None
    if scope == 'mmseg':
        measure_all(cfg, trained_classes(source), hd95)
    elif hd95:
        raise ConfigError('--hd95', 'boxes have no surface.', 'Leave it out for a detection.')
    if score is not None and (scope == 'mmseg' or not 0 <= score <= 1):
        what = 'masks have no score.' if scope == 'mmseg' else f'{score} is not in [0, 1].'
        raise ConfigError('--score', what, 'Leave it out.')
    least = SCORE if score is None else score
    keep_cases(cfg, folder / 'cases.csv', least)
    require_plain_name(folder)
    busy = 'another `vasomim test` writes here.'
    with locked(folder / LOCK, busy, 'Wait until it has ended, or pass --work-dir.', keep=False), scope_of(cfg):
        build_model(cfg.model, scope, tensors, source)  # Once by itself, for an error of the checkpoint's.
        with blamed_on(cfg):
            runner = build_runner(cfg)
        load_tensors(runner.model, tensors, str(source), least=1.0)
        dataset = runner.test_dataloader.dataset
        check_classes(trained_classes(source), dataset, str(source), tell)
        with explained('test_dataloader'):
            figures = {key: defined(key, value) for key, value in runner.test().items()}
        write_json(
            folder / 'metrics.json',
            {
                'notice': NOTICE,
                'config': printable(config),
                'checkpoint': printable(source),
                'data': printable(dataset.data_root),
                'metrics': {key: None if math.isnan(value) else value for key, value in figures.items()},
            },
        )
        draw(runner, folder, CASE_SCORE[cfg.default_scope], num, least)
        # A table that says so itself is no CSV that others can read.
        write_notice(folder, ['cases.csv: an image a row.'])
    return Evaluated(figures, len(dataset), source, folder)


def check_classes(trained: Sequence[str], dataset: Any, checkpoint: str, tell: Callable[[str], Any] = print) -> None:
    """Compare the classes that a model was trained on with those of the data: others would score 0 and say nothing.

    Args:
        trained: Without the background; empty where the checkpoint does not say.
        dataset: That is tested.
        checkpoint: For the message.
        tell: Takes a warning where the names differ.

    Raises:
        ConfigError: If their numbers differ. One of another name is pointed out: the same may have two names.
    """
    known = [str(name) for name in dataset.metainfo['classes']]
    known = known[1:] if known[:1] == ['background'] else known
    told = [', '.join(names) if len(names) <= 3 else f'{len(names)} classes' for names in (trained, known)]
    if trained and len(trained) != len(known):
        raise ConfigError(
            checkpoint,
            f'it was trained on {told[0]}, and the data have {told[1]}.',
            'Pass the config and the --data of the task that the checkpoint was trained for.',
        )
    if [name.casefold() for name in trained] != [name.casefold() for name in known] and trained:
        tell(f'warning: the model was trained on {told[0]}, and is tested on {told[1]}, as if both were the same.')


def model_key(key: str) -> bool:
    """Return whether an option changes the model."""
    return key.split('.')[0] == 'model'


def defined(key: str, value: Any) -> float:
    """Return a figure, a count as int; NaN for the -1 by which COCO's evaluation says that there is nothing to find."""
    if key.startswith('coco/') and value == -1:
        return math.nan
    return value if isinstance(value, int) else float(value)


def measure_all(cfg: Config, classes: Sequence[str], hd95: bool) -> None:
    """Let the evaluator of a segmentation report by all subgroups that suit its classes, unless the config chooses.

    Args:
        cfg: The config, changed in place.
        classes: Of the checkpoint, without the background; they count where the data do not say theirs.
        hd95: Whether HD95 is measured as well.
    """
    root = Path(str(cfg.test_dataloader.dataset.get('data_root'))).expanduser()
    if (root / DESCRIPTION).is_file():
        classes = read_description(root)['classes']
    # Lesions are divided by their size, vessels by their width: pixel by pixel where there is one class only.
    if list(classes) == ['stenosis']:
        subgroups = ['lesion_size']
    else:
        subgroups = ['width', 'mean_width'] if len(classes) == 1 else ['mean_width']
    if (root / SIDES).is_file():
        subgroups.append('side')
    for evaluator in segmentation_metrics(cfg):
        if hd95 and 'HD95' not in evaluator.get('measures', ()):
            evaluator.measures = [*evaluator.get('measures', ('DSC',)), 'HD95']
        if evaluator.get('subgroups') is None:
            evaluator.subgroups = subgroups


def segmentation_metrics(cfg: Config) -> list[Any]:
    """Return the configs of this project's metric of masks among those that test."""
    return [each for each in evaluators(cfg, 'test') if each['type'].rpartition('.')[2] == 'SegmentationMetric']


def keep_cases(cfg: Config, path: Path, score: float) -> None:
    """Let the evaluators of a config write a table of all images; what writes one joins them where it is missing.

    Args:
        cfg: The config, changed in place.
        path: The table.
        score: From which boxes count.
    """
    own = segmentation_metrics(cfg)
    if own:
        own[0].per_case_file = str(path)
        return
    kind: dict[str, Any] = {'type': 'SegmentationMetric'}
    if cfg.default_scope == 'mmdet':
        kind = {'type': 'DetectionCases', 'score': score}
    cfg.test_evaluator = [*evaluators(cfg, 'test'), dict(**kind, per_case_file=str(path))]


def pick(scores: Sequence[float], number: int) -> dict[int, str]:
    """Return the places of the best, the median and the worst scores, best first, each once, and which it is.

    Args:
        scores: One per case; NaN is never picked.
        number: Cases of each kind.
    """
    order = sorted((place for place, score in enumerate(scores) if not math.isnan(score)), key=lambda i: -scores[i])
    middle = max(0, (len(order) - number) // 2)
    chosen: dict[int, str] = {}
    for kind, places in (
        ('best', order[:number]),
        ('median', order[middle : middle + number]),
        ('worst', order[-number:]),
    ):
        for place in places:
            chosen.setdefault(place, kind)
    return chosen


def draw(runner: Any, folder: Path, column: str, number: int, score: float) -> None:
    """Draw best, median and worst cases: frame, truth and prediction.

    Args:
        runner: That has tested.
        folder: Where the table is, and the picture goes.
        column: Of the table, by which cases are picked.
        number: Cases of each kind.
        score: From which boxes are drawn.
    """
    with open(folder / 'cases.csv', encoding='utf-8', newline='') as file:
        cases = list(csv.DictReader(file))
    values = [float(case[column]) if case[column] else math.nan for case in cases]
    dataset = runner.test_dataloader.dataset
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    places = {cell(name): index for index, name in enumerate(short_names(paths))}
    rows, captions = [], []
    for chosen, kind in pick(values, number).items():
        index = places[cases[chosen]['image']]
        path = paths[index]
        with torch.no_grad():
            sample = runner.model.eval().test_step(pseudo_collate([dataset[index]]))[0]
        frame = read_grey(path)
        rows.append([grey(frame), truth(frame, sample).overlay(), as_prediction(frame, sample, score).overlay()])
        captions.append(f'{kind}: {Path(path).name}  {column} {values[chosen]:.3f}')
    write_png(folder / 'cases.png', contact_sheet(rows, ['image', 'truth', 'prediction'], captions, NOTICE))


def truth(frame: Any, sample: Any) -> Any:
    """Return the annotation of a sample as if it were predicted."""
    if 'gt_sem_seg' in sample:
        return Prediction(frame, mask=sample.gt_sem_seg.data[0].cpu().numpy().astype(np.uint8))
    from vasomim.evaluation.detection_cases import as_array  # With mmdet, which a segmentation does not need.

    boxes, labels = (as_array(sample.gt_instances[key]) for key in ('bboxes', 'labels'))
    return Prediction(frame, boxes=boxes, labels=labels + 1)
