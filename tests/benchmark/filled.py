"""A store of made-up results: methods, seeds, tasks, a missing and a failed cell, label shares, tests on other sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vasomim.benchmark.results.records import Cell, Pretraining, name_of
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.results.tables import Scores
from vasomim.benchmark.study.entries import Entries, Method, Protocol, Task
from vasomim.benchmark.study.jobs import SCRATCH, weights_input

METHODS = ('vasomim', 'mae', 'mae_again', 'scratch')
GAINS = {'vasomim': 0.06, 'mae': 0.0, 'mae_again': 0.0, 'scratch': -0.08}
IMAGES = 60
TASKS = {
    'arcade_v': Task('arcade_v', 'ARCADE-V', 'arcade_v', 'segmentation', metrics=('DSC', 'clDice')),
    'xcav': Task('xcav', 'XCAV', 'xcav', 'segmentation'),
    'stenosis': Task('stenosis', 'Stenosis', 'stenosis', 'detection', metrics=('mAP', 'F1'), primary='mAP'),
}
ENTRIES = Entries(TASKS, {name: Method(name, name.upper(), 'scratch') for name in METHODS}, {})
PROTOCOL = Protocol(
    'study', 'A made-up study', tuple(TASKS), METHODS, (0, 1, 2), (0.1, 1.0), family={'baseline': 'mae', 'alpha': 0.05}
)
FAILED, MISSING = ('xcav', 'scratch', 1, 1.0), ('stenosis', 'vasomim', 2, 1.0)


def fill(folder: Path, command: str = 'vasomim benchmark run --protocol study') -> Store:
    """Write the results."""
    store = Store(folder)
    for task in TASKS.values():
        for method in METHODS:
            for fraction in PROTOCOL.label_fractions:
                for seed in PROTOCOL.seeds:
                    if (task.name, method, seed, fraction) != MISSING:
                        write(store, task, method, seed, fraction, command)
    store.write_study(PROTOCOL.name, {cell.place: cell.cell for cell in store.cells(None)})
    for seed in PROTOCOL.seeds:
        curve = [{'epoch': epoch, 'loss_rec': 1 / (epoch + seed)} for epoch in (1, 2, 3)]
        for method in METHODS[:2]:
            inputs = pretraining_of(method, seed)
            store.write_pretraining(Pretraining(name_of(inputs), inputs, 'finished', curve, command=command))
    return store


def pretraining_of(method: str, seed: int) -> dict:
    """What an encoder depends on: VasoMIM is pre-trained once, MAE for each seed."""
    return {'method': method, 'seed': 0 if method == 'vasomim' else seed}


def write(store: Store, task: Task, method: str, seed: int, fraction: float, command: str) -> None:
    """Write one cell; images share their difficulty between methods, and a method has noise of its own."""
    inputs = {'task': task.name, 'method': method, 'seed': seed, 'label_fraction': fraction, 'data': 'd'}
    inputs['weights'] = weights_input(pretraining_of(method, seed)) if method in METHODS[:2] else SCRATCH
    own = {'vasomim': 1, 'mae': 2, 'mae_again': 2, 'scratch': 3}[method]  # MAE under another name is exactly MAE.
    rng = np.random.default_rng([len(task.name), own, seed])
    difficulty = np.random.default_rng(len(task.name)).normal(0, 0.1, IMAGES)
    base = 0.6 + GAINS[method] + 0.1 * np.log10(fraction) + difficulty
    values = {
        metric: np.clip(base + rng.normal(0, 0.02, IMAGES), 0, 1)
        for metric in task.metrics
        if not metric.startswith('mAP')
    }
    scores: dict[str, float | None] = {metric: float(array.mean()) for metric, array in values.items()}
    if 'mAP' in task.metrics:
        scores['mAP'] = 0.4 + GAINS[method] + 0.001 * seed
    common: dict = {
        'command': f'{command} --only task={task.name} method={method} seed={seed}',
        'finished': '2026-01-01T00:00:00Z',
        'cost': {'seconds': 360.0, 'devices': 1, 'device': 'cpu', 'peak_memory_gb': 1.5},
    }
    if inputs['weights'] != SCRATCH:
        common['cost']['pretraining_seconds'] = 720.0
    if (task.name, method, seed, fraction) == FAILED:
        error = {'kind': 'OutOfMemory', 'message': 'too <large> & too & many', 'log': 'log.txt'}
        store.write_cell(Cell(name_of(inputs), inputs, 'failed', error=error, **common))
        return
    cases = tuple(f'image{number}' for number in range(IMAGES))
    sides = tuple('left' if number % 3 else 'right' for number in range(IMAGES))
    cell = Cell(
        name_of(inputs),
        inputs,
        'finished',
        scores,
        {'width': {'thin': {'DSC': 0.5, 'images': 60}, 'wide': {'DSC': None, 'images': 0}}} if 'DSC' in values else {},
        IMAGES,
        {'caxf': {'scores': {'DSC': 0.4}, 'cases': 9}} if task.name == 'arcade_v' else {},
        [{'epoch': epoch, 'DSC': 0.1 * epoch, 'loss': 1 / epoch} for epoch in (1, 2, 3)],
        **common,
    )
    store.write_cell(cell, {'': Scores(cases, values, {'side': sides} if task.name == 'arcade_v' else {})})
