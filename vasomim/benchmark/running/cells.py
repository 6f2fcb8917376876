"""Carry out one job in a process of its own: pre-train, or fine-tune and test, and write the record."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import signal
import statistics
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vasomim import apis
from vasomim.benchmark.results.records import FAILED, FINISHED, Cell, Pretraining, StoreError, without_nan
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.results.tables import Scores
from vasomim.benchmark.running.claims import Claim
from vasomim.benchmark.running.environment import device_name, environment, now, peak_memory
from vasomim.benchmark.running.ranks import Ranks, rank_of
from vasomim.benchmark.scoring.measures import (
    BOXES,
    OPERATING_POINT,
    PREDICTIONS,
    Outcome,
    choose_operating_point,
    parse_operating_point,
    score,
)
from vasomim.benchmark.study.jobs import FINETUNE, Job, encoder_of, read_job
from vasomim.benchmark.study.plan import config_text
from vasomim.benchmark.study.resolve import file_sha256
from vasomim.errors import CheckpointError, ConfigError, StorageError, VasoMIMError, printable
from vasomim.files import read_json, read_regular, write_whole

# Exit statuses: the failure is recorded; nothing can be recorded; another process has the claim.
DONE, BROKEN, FULL, TAKEN = 0, 70, 74, 75
UNREADABLE = 65  # The job's own file is damaged.
HOOK = 'mmpretrain.PredictionHook'


def execute(path: str | Path) -> int:
    """Carry out a job unless its result is there or another process works on it.

    Args:
        path: What :meth:`Job.write` wrote.

    Returns:
        :data:`DONE`, :data:`BROKEN` (the failure is recorded), :data:`FULL`, :data:`TAKEN` or :data:`UNREADABLE`.
    """
    try:
        job = read_job(Path(path))
    except StoreError as error:  # Whoever started it records that it ended, and names the log.
        print(error, file=sys.stderr, flush=True)
        return UNREADABLE
    ranks = Ranks(job.processes)
    if ranks.rank > 0:
        return take_part(job, ranks)
    with Claim(job.claim) as claim:
        if claim is None or job.finished():  # Finished by another run, after this one had planned.
            verdict = TAKEN if claim is None else DONE
            with contextlib.suppress(RuntimeError):  # Whether or not the others still listen.
                ranks.tell(verdict)
            return verdict
        started = now()
        try:
            try:
                ranks.tell(None)
                result = run_cell(job) if job.kind == FINETUNE else pretrain(job)
            except Exception as error:
                traceback.print_exc()
                record_failure(job, ranks.failure() or describe(error), claim.seconds, started)
                return BROKEN
            try:
                if job.kind == FINETUNE:
                    write_cell(job, result, claim, started)
                else:
                    write_pretraining(job, result, claim, started)
            except StoreError as error:  # The record of its pre-training was damaged meanwhile.
                record_failure(job, describe(error), claim.seconds, started)
                return BROKEN
        except StorageError as error:  # As on a full disk.
            print(f'{error.where}: {error.what}', file=sys.stderr, flush=True)
            return FULL
    return DONE


def take_part(job: Job, ranks: Ranks) -> int:
    """Train as another process than the first of its job, which holds the claim and writes the record.

    Returns:
        As :func:`execute`: what the first process says, or how the training ended here.
    """
    verdict = ranks.hear()
    if verdict is not None:
        return verdict
    try:
        train(job)
    except Exception as error:
        traceback.print_exc()
        ranks.report(describe(error))
        return BROKEN
    return DONE


def call(name: str) -> Callable[[Job], Outcome]:
    """Return the function 'package.module:function' that computes a cell of a task of another kind.

    It takes the job, may keep what it likes in ``job.folder``, and returns an :class:`Outcome`.

    Raises:
        ConfigError: If there is no such function.
    """
    module, _, function = name.partition(':')
    try:
        found: Callable[[Job], Outcome] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f'task: {name}', f'there is no such function: {error}.', 'Install its package, or correct the name.'
        ) from error
    return found


def run_cell(job: Job) -> tuple[Outcome, dict[str, Outcome]]:
    """Fine-tune and test; return the outcome on the task's own test split and on others by name."""
    assert job.task is not None
    if ':' in job.task.task:
        return call(job.task.task)(job), {}
    assert job.data is not None
    train(job)
    if job.task.task == 'detection':
        find_operating_point(job)
    own = replace(test(job, job.task, job.data, job.config_file, 'test'), curve=curve(job.folder / 'train'))
    also = {
        name: test(job, other['task'], Path(other['data']), job.folder / f'also_{name}.py', f'also_{name}')
        for name, other in job.also.items()
    }
    return replace(own, weights=loaded(job)), also


def train(job: Job) -> None:
    """Train, from the last checkpoint of the folder where there is one."""
    from vasomim.checkpoints.runs import last_checkpoint

    work_dir = job.folder / 'train'
    if (work_dir / 'finished').is_file():
        return
    try:
        last = last_checkpoint(work_dir)
    except CheckpointError:
        last = None  # Killed between the checkpoint and its note: the epochs are computed again.
    apis.train(
        job.config_file,
        init=job.encoder if job.kind == FINETUNE else None,
        work_dir=work_dir,
        resume=last,
        overwrite=last is None,
        launcher='pytorch' if job.processes > 1 else 'none',
    )
    if rank_of(job.processes) == 0:
        (work_dir / 'finished').touch()


def test(job: Job, task: Any, data: Path, config: Path, name: str) -> Outcome:
    """Evaluate, and score the predictions that this leaves."""
    folder = job.folder / name
    threshold = None
    if task.task == 'detection':
        path = job.folder / OPERATING_POINT
        threshold = parse_operating_point(read_regular(path, StoreError), str(path))['score']
    apis.evaluate(config, job.folder / 'train', work_dir=folder, score=threshold, num=1)
    predictions = folder / PREDICTIONS
    if task.task == 'detection':
        shutil.copy(job.folder / OPERATING_POINT, predictions)

    return score(task, data, lambda file: read_regular(predictions / file, StoreError, 'Run the cell again.'))


def find_operating_point(job: Job) -> None:
    """Predict the validation images, and write the score from which a box counts for F1 into the job's folder."""
    assert job.data is not None
    cfg = apis.load_config(job.config_file)
    found: dict[str, Any] = {'score': 0.5, 'images': 0}
    if cfg.get('val_dataloader') is not None:
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        folder = job.folder / 'validation'
        folder.mkdir(exist_ok=True)
        (folder / 'config.py').write_text(config_text(cfg), encoding='utf-8')
        apis.evaluate(folder / 'config.py', job.folder / 'train', work_dir=folder, num=1)
        boxes = folder / PREDICTIONS / BOXES
        found = choose_operating_point(job.data, read_regular(boxes, StoreError), str(boxes))
    write_whole(job.folder / OPERATING_POINT, json.dumps(found) + '\n')


def pretrain(job: Job) -> str:
    """Pre-train, keep the encoder alone, and return the hash of its file."""
    from vasomim.benchmark.running.encoder import save_encoder

    train(job)
    encoder = encoder_of(job.folder)
    if not encoder.is_file():  # Else only its record was lost, and its checkpoints are gone.
        save_encoder(job.folder / 'train', encoder)
    return file_sha256(encoder)


def curve(work_dir: Path) -> list[dict[str, Any]]:
    """Return mean losses and validation figures by epoch, from the logs of a training and of its continuations."""
    logged: dict[int, dict[int, dict[str, float]]] = {}  # By epoch and iteration; a continuation repeats some.
    held_out: dict[int, dict[str, float]] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                row = json.loads(line)  # A loss may be NaN.
            except (ValueError, RecursionError):
                continue  # The last line of a killed run.
            if not isinstance(row, dict):
                continue
            values = {  # 'coco/bbox_mAP' loses its prefix; 'DSC/class/1/images' details 'DSC', and is left out.
                key.rpartition('/')[2]: value
                for key, value in row.items()
                if isinstance(value, (int, float)) and ('/' not in key or key.split('/')[0] not in row)
            }
            if 'epoch' in row:
                losses = {key: value for key, value in values.items() if 'loss' in key}
                logged.setdefault(int(row['epoch']), {})[int(row['step'])] = losses
            elif 'step' in row:
                skipped = ('time', 'data_time', 'step')
                held_out[int(row['step'])] = {key: value for key, value in values.items() if key not in skipped}
    rows = []
    for epoch in sorted(logged.keys() | held_out.keys()):
        steps = list(logged.get(epoch, {}).values())
        names = {key: None for step in steps for key in step}
        losses = {key: statistics.fmean(step[key] for step in steps if key in step) for key in names}
        figures = {key if key not in losses else f'val_{key}': v for key, v in held_out.get(epoch, {}).items()}
        rows.append({'epoch': epoch, **losses, **figures})
    return rows


def loaded(job: Job) -> dict[str, Any] | None:
    """Return what was loaded into the encoder: numbers of tensors and the hash of the file."""
    report = job.folder / 'train' / 'encoder_init.json'
    if job.encoder is None or not report.is_file():
        return None
    content = read_json(report, StoreError, 'Run the cell again.')
    numbers = {key: len(content[key]) for key in ('matched', 'missing', 'unexpected', 'mismatched')}
    return {'file_sha256': file_sha256(job.encoder), 'share': content['share'], **numbers}


def write_cell(job: Job, outcomes: Any, claim: Claim, started: str) -> None:
    """Write a finished cell, then drop what only a continuation needs."""
    own: Outcome
    also: dict[str, Outcome]
    own, also = outcomes
    tables: dict[str, Scores] = {'': own.table, **{name: outcome.table for name, outcome in also.items()}}
    pretraining = Store(job.results).pretraining(job.pretraining) if job.pretraining is not None else None
    spent = pretraining.cost if pretraining is not None else {}
    cell = Cell(
        cell=job.name,
        inputs=job.inputs,
        status=FINISHED,
        scores=without_nan(own.scores),
        subgroups=without_nan(own.subgroups),
        cases=len(own.table.cases),
        also={
            name: {
                'scores': without_nan(outcome.scores),
                'cases': len(outcome.table.cases),
                'data': job.also[name]['fingerprint'],
            }
            for name, outcome in also.items()
        },
        curve=without_nan(own.curve),
        weights=own.weights,
        score_threshold=own.score_threshold,
        **common(job, claim.seconds, started),
    )
    cell.cost['pretraining_seconds'] = spent['seconds'] * spent.get('devices', 1) if 'seconds' in spent else None
    Store(job.results).write_cell(cell, tables)
    for checkpoint in (job.folder / 'train').glob('epoch_*.pth'):
        if list((job.folder / 'train').glob('best_*.pth')):
            checkpoint.unlink()


def write_pretraining(job: Job, sha256: Any, claim: Claim, started: str) -> None:
    """Write a finished pre-training."""
    record = Pretraining(
        pretraining=job.name,
        inputs=job.inputs,
        status=FINISHED,
        curve=without_nan(curve(job.folder / 'train')),
        weights={'file_sha256': sha256},
        **common(job, claim.seconds, started),
    )
    Store(job.results).write_pretraining(record)
    for checkpoint in (job.folder / 'train').glob('epoch_*.pth'):
        checkpoint.unlink()


def record_failure(job: Job, error: dict[str, Any], seconds: float, started: str) -> None:
    """Write a failed cell or pre-training."""
    values: dict[str, Any] = {'inputs': job.inputs, 'status': FAILED, 'error': error, **common(job, seconds, started)}
    if job.kind == FINETUNE:
        Store(job.results).write_cell(Cell(cell=job.name, **values))
    else:
        Store(job.results).write_pretraining(Pretraining(pretraining=job.name, **values))


def describe(error: BaseException) -> dict[str, Any]:
    """Return kind and message of an error; all ways to run out of memory are one kind."""
    message = str(error) or type(error).__name__
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == 'OutOfMemoryError' or "can't allocate memory" in message:
        kind = 'OutOfMemory'
    if isinstance(error, VasoMIMError):
        message = f'{error.where}: {error.what} {error.cure}'
    return {'kind': kind, 'message': printable(message[:2000], lines=True), 'log': 'log.txt'}


def death(status: int, reason: str | None = None) -> dict[str, Any]:
    """Return kind and message for a process that ended without a word.

    Args:
        status: Its exit status, negative for a signal.
        reason: What its cluster says, None where there is none.
    """
    if reason is not None:
        kind = 'OutOfMemory' if 'OUT_OF_MEMORY' in reason else 'Crashed'
        return {'kind': kind, 'message': reason, 'log': 'log.txt'}
    if status < 0 and -status == signal.SIGKILL:
        message = 'The process was killed (SIGKILL), as the system does when memory runs out.'
        return {'kind': 'Killed', 'message': message, 'log': 'log.txt'}
    name = signal.Signals(-status).name if status < 0 else f'exit status {status}'
    return {'kind': 'Crashed', 'message': f'The process ended by {name}.', 'log': 'log.txt'}


def common(job: Job, seconds: float, started: str) -> dict[str, Any]:
    """Return the fields that all records share."""
    return {
        'cost': {
            'seconds': round(seconds, 3),
            'predicted_seconds': None if job.predicted is None else round(job.predicted, 1),
            'device': device_name(),
            'devices': job.processes,
            'peak_memory_gb': round(peak_memory(), 3),
        },
        'environment': environment(),
        'command': job.command,
        'started': started,
        'finished': now(),
        'smoke': job.smoke,
    }
