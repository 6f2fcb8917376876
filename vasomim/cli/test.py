"""``vasomim test``: metrics of a fine-tuned checkpoint on a test split, per image and as a contact sheet."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasomim.cli.predict import write_json
from vasomim.cli.train import build_runner, evaluators, load_config, parse_options, use_data
from vasomim.cli.trust import add_trust
from vasomim.errors import ConfigError, printable
from vasomim.files import LOCK, locked, require_plain_name

if TYPE_CHECKING:
    from mmengine.config import Config

SUMMARY = 'Evaluate a fine-tuned checkpoint: metrics, a table of all images, and pictures of best, median and worst.'

CASE_SCORE = {'mmseg': 'DSC', 'mmdet': 'F1'}
SCORE = 0.5  # Of the boxes that count.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = f'{parser.prog} CONFIG CHECKPOINT [options]'
    parser.add_argument(
        'config', metavar='CONFIG', help='config of the task: data and metrics; the model comes from the checkpoint'
    )
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='checkpoint of the task, or the folder of its run (its best checkpoint)',
    )
    parser.add_argument('--data', metavar='FOLDER', help='prepared data to read instead of that of the config')
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='where metrics.json, cases.csv and cases.png go (default: test/ by the checkpoint)',
    )
    parser.add_argument('--hd95', action='store_true', help='the 95 %% Hausdorff distance as well; segmentation only')
    parser.add_argument(
        '--score',
        type=float,
        metavar='S',
        help=f'score from which boxes count for F1 and are drawn (default: {SCORE}); detection only',
    )
    parser.add_argument(
        '--num', type=int, default=3, help='best, median and worst cases to draw (default: %(default)s)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config, as in `vasomim train`'
    )
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Evaluate.

    Raises:
        ConfigError: If the config or an option is wrong, or of another task than the checkpoint.
        CheckpointError: If the checkpoint does not fit its own config.
        StorageError: If the results cannot be written, or another test writes there.
    """
    from vasomim import compat

    compat.prepare()
    from vasomim.checkpoints.reading import trained_classes
    from vasomim.checkpoints.runs import best_checkpoint
    from vasomim.drawing.notice import NOTICE_FILE
    from vasomim.engine.options import merge_options
    from vasomim.inference.predictor import fine_tuned

    cfg = load_config(options.config, options.cfg_options)
    scope = cfg.get('default_scope')
    checkpoint = best_checkpoint(options.checkpoint)
    trained, tensors = fine_tuned(checkpoint, options.trust_config)
    if trained.default_scope != scope:
        raise ConfigError(
            options.config,
            f'it is a config of {scope}, and the checkpoint of {trained.default_scope}.',
            'Pass the config that the checkpoint was trained with.',
        )
    if not cfg.get('test_dataloader'):
        cure = 'Take a config of configs/downstream, or add test_dataloader, test_cfg and test_evaluator.'
        raise ConfigError(options.config, 'it has no test_dataloader, so no images to test on.', cure)
    if options.num < 1:
        raise ConfigError('--num', f'{options.num} is not positive.', 'Draw at least one case of each kind.')
    cfg.model = trained.model
    merge_options(cfg, {key: value for key, value in parse_options(options.cfg_options).items() if model_key(key)})
    if options.data is not None:
        use_data(cfg, options.data)
    folder = options.work_dir or checkpoint.parent / 'test'
    cfg.work_dir, cfg.resume, cfg.load_from = str(folder), False, None
    if scope == 'mmseg':
        measure_all(cfg, trained_classes(checkpoint), options.hd95)
    elif options.hd95:
        raise ConfigError('--hd95', 'boxes have no surface.', 'Leave it out for a detection.')
    if options.score is not None and (scope == 'mmseg' or not 0 <= options.score <= 1):
        what = 'masks have no score.' if scope == 'mmseg' else f'{options.score} is not in [0, 1].'
        raise ConfigError('--score', what, 'Leave it out.')
    score = SCORE if options.score is None else options.score
    keep_cases(cfg, folder / 'cases.csv', score)
    require_plain_name(folder)
    with locked(
        folder / LOCK, 'another `vasomim test` writes here.', 'Wait until it has ended, or pass --work-dir.', keep=False
    ):
        measure(cfg, tensors, checkpoint, options, score)
    print(f'metrics.json, cases.csv, cases.png and {NOTICE_FILE} in {printable(folder)}')
    return 0


def measure(cfg: Config, tensors: dict[str, Any], checkpoint: Path, options: argparse.Namespace, score: float) -> None:
    """Test a model, and write what came of it into the work directory.

    Args:
        cfg: Of data, model and evaluators.
        tensors: The model's.
        checkpoint: Where they are from.
        options: The config's name and the number of cases.
        score: From which boxes count.
    """
    from vasomim.checkpoints.loading import load_tensors
    from vasomim.checkpoints.reading import trained_classes
    from vasomim.checkpoints.stored_model import build_model
    from vasomim.drawing.notice import NOTICE, write_notice
    from vasomim.engine.refusals import blamed_on
    from vasomim.engine.workers import explained

    build_model(cfg.model, cfg.default_scope, tensors, checkpoint)  # Once by itself, for an error of the checkpoint's.
    with blamed_on(cfg):
        runner = build_runner(cfg)
    load_tensors(runner.model, tensors, str(checkpoint), least=1.0)
    check_classes(trained_classes(checkpoint), runner.test_dataloader.dataset, str(checkpoint))
    with explained('test_dataloader'):
        figures = {key: defined(key, value) for key, value in runner.test().items()}
    folder = Path(cfg.work_dir)
    show(figures, f'{checkpoint.name} on {len(runner.test_dataloader.dataset)} images')
    write_json(
        folder / 'metrics.json',
        {
            'notice': NOTICE,
            'config': printable(options.config),
            'checkpoint': printable(checkpoint),
            'data': printable(runner.test_dataloader.dataset.data_root),
            'metrics': {key: None if math.isnan(value) else value for key, value in figures.items()},
        },
    )
    draw(runner, folder, CASE_SCORE[cfg.default_scope], options.num, score)
    write_notice(folder, ['cases.csv: an image a row.'])  # A table that says so itself is no CSV that others can read.


def check_classes(trained: Sequence[str], dataset: Any, checkpoint: str) -> None:
    """Compare the classes that a model was trained on with those of the data: others would score 0 and say nothing.

    Args:
        trained: Without the background; empty where the checkpoint does not say.
        dataset: That is tested.
        checkpoint: For the message.

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
        print(f'warning: the model was trained on {told[0]}, and is tested on {told[1]}, as if both were the same.')


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
    from vasomim.prepare.prepared import DESCRIPTION, SIDES, read_description

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


def show(figures: dict[str, float], title: str) -> None:
    """Print metrics as a table below a title, and a warning where a model predicts hardly anything."""
    import rich
    from rich.table import Table

    print(printable(title))
    table = Table()
    table.add_column('metric')
    table.add_column('value', justify='right')
    for key, value in figures.items():
        text = f'{value:,}' if isinstance(value, int) else 'undefined' if math.isnan(value) else f'{value:.4f}'
        table.add_row(key, text)
    rich.print(table)
    if figures.get('cases/predicted_boxes') == 0:
        print('warning: no box reaches the score from which they count; lower it by --score.')
    empty, images = figures.get('empty_prediction', 0), figures.get('images', 0)
    if empty - figures.get('empty_truth', 0) > images / 2:
        print(f'warning: the prediction is empty for {empty} of {images} images; the training may have been too short.')


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
    import torch
    from mmengine.dataset import pseudo_collate

    from vasomim.drawing.notice import NOTICE, write_png
    from vasomim.drawing.overlays import contact_sheet
    from vasomim.drawing.visualization import grey
    from vasomim.evaluation.cases import cell, short_names
    from vasomim.frames.images import read_grey
    from vasomim.inference.predictor import as_prediction

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
    import numpy as np

    from vasomim.inference.predictor import Prediction

    if 'gt_sem_seg' in sample:
        return Prediction(frame, mask=sample.gt_sem_seg.data[0].cpu().numpy().astype(np.uint8))
    from vasomim.evaluation.detection_cases import as_array

    boxes, labels = (as_array(sample.gt_instances[key]) for key in ('bboxes', 'labels'))
    return Prediction(frame, boxes=boxes, labels=labels + 1)
