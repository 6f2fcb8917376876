"""From results on disk to one table object, which every page of the leaderboard is written from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.results.records import FAILED, FINISHED, Cell, Place
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.schema import STRICT, Number, Text, checked
from vasomim.benchmark.statistics import comparisons as statistics
from vasomim.benchmark.statistics.paired import Paired
from vasomim.benchmark.study.entries import Entries, Protocol, Task, command_of
from vasomim.benchmark.study.entry_files import read_yaml
from vasomim.benchmark.study.jobs import SCRATCH, weights_input
from vasomim.errors import ConfigError

COCO = {'mAP': 'bbox_mAP', 'mAP50': 'bbox_mAP_50', 'mAP75': 'bbox_mAP_75'}  # Names in a detector's curve.
SMALLER_IS_BETTER = {'HD95'}
POWER = 0.8
DRAWS = 4000


@STRICT
class Figure(TypedDict):
    """A figure of a paper."""

    method: Text
    task: Text
    metric: Text
    value: Number
    setting: Text
    source: Text


@STRICT
class Reported(TypedDict):
    """The file of the papers' figures."""

    reported: list[Figure]


REPORTED = TypeAdapter(Reported)


@dataclass(frozen=True)
class Leaderboard:
    """All that the pages show; JSON can hold it, None stands for missing.

    Attributes:
        title: Of the study.
        protocol: Its name.
        smoke: Whether the figures mean nothing.
        family: ``baseline`` and ``alpha``.
        methods: ``name``, ``title``, ``reference``.
        tasks: ``name``, ``title``, ``metrics``, ``primary``, ``compared`` (metric of the tests, per image), ``images``,
            ``planned`` (comparisons in the family of the task, with all labels).
        seeds: Planned.
        fractions: Planned shares of the labels.
        results: For each task, method and share that the study plans: ``status`` (finished, incomplete, missing,
            failed), ``seeds`` found, ``errors``, ``metrics`` (mean, deviation, low, high, by seed), costs, ``command``.
        comparisons: For each task and share of the labels, all methods against the baseline.
        ties: For each task: ``order``, ``means`` and ``groups``.
        ranks: For each method that the study plans on all tasks: ``rank``, ``borda``, their intervals, and the tasks
            that are ``missing``.
        subgroups: By task, subgroup, group, method.
        cross: Trained on one set, tested on another.
        convergence: Curves of pre-training and of fine-tuning.
        reported: The papers' figures.
        notes: What a reader has to know.
    """

    title: str
    protocol: str
    smoke: bool
    family: dict[str, Any]
    methods: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    seeds: list[int]
    fractions: list[float]
    results: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    ties: list[dict[str, Any]] = field(default_factory=list)
    ranks: list[dict[str, Any]] = field(default_factory=list)
    subgroups: list[dict[str, Any]] = field(default_factory=list)
    cross: list[dict[str, Any]] = field(default_factory=list)
    convergence: list[dict[str, Any]] = field(default_factory=list)
    reported: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def result(self, task: str, method: str, fraction: float | None = None) -> dict[str, Any]:
        """Return the result of a method on a task, by default with the largest share of the labels.

        Raises:
            KeyError: If the study does not plan it.
        """
        fraction = max(self.fractions) if fraction is None else fraction
        rows = {(row['task'], row['method'], row['fraction']): row for row in self.results}
        return rows[task, method, fraction]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def plain(value: Any) -> Any:
    """Return a nested value with None for NaN and numbers rounded to what every machine agrees on."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def read_reported(path: Path) -> list[dict[str, Any]]:
    """Return the papers' figures; none without the file.

    Raises:
        ConfigError: If a figure lacks something.
    """
    if not path.is_file():
        return []
    content = checked(REPORTED, read_yaml(path), path, ConfigError, 'Correct it.', {'reported': Figure.__annotations__})
    return list(content['reported'])


def build(store: Store, protocol: Protocol, entries: Entries, reported: Sequence[Any] = ()) -> Leaderboard:
    """Build the table of a study.

    Args:
        store: The results; of them the cells that the study's last run planned.
        protocol: The study.
        entries: Titles and metrics of its tasks and methods.
        reported: The papers' figures.

    Raises:
        StoreError: If a result is damaged, or its scores are not the means of its table.
    """
    names, planned = store.study(protocol.name), set(protocol.planned())
    chosen = {
        cell.place: cell
        for cell in store.cells(None)
        if names.get(cell.place) == cell.cell and cell.place[:3] in planned and cell.seed in protocol.seeds
    }
    for cell in chosen.values():
        if cell.task in entries.averaged:
            store.check_scores(cell)
    tasks = [entries.task(name) for name in protocol.tasks]
    methods = [entries.method(name) for name in protocol.methods]
    baseline = protocol.family.get('baseline')
    alpha = float(protocol.family.get('alpha', 0.05))
    table = Leaderboard(
        title=protocol.title,
        protocol=protocol.name,
        smoke=protocol.smoke or any(cell.smoke for cell in chosen.values()),
        family={'baseline': baseline, 'alpha': alpha},
        methods=[{'name': m.name, 'title': m.title, 'kind': m.kind, 'reference': m.reference} for m in methods],
        tasks=[],
        seeds=list(protocol.seeds),
        fractions=list(protocol.label_fractions),
        reported=list(reported),
        notes=notes(protocol, chosen, {item.name: item.title for item in methods}),
    )
    draws: list[np.ndarray] = []
    means: list[list[float]] = []
    for task in tasks:
        add_task(table, store, protocol, task, chosen, draws, means)
    add_ranks(table, protocol, draws, means)
    curves: dict[str, list[dict[str, Any]]] = {}  # Of the first seed of those whose encoders are shown.
    used = {cell.inputs.get('weights') for cell in chosen.values()}
    for item in store.pretrainings():
        if item.method in protocol.methods and weights_input(item.inputs) in used:
            curves.setdefault(item.method, item.curve)
    for method, curve in curves.items():
        table.convergence.append({'kind': 'pre-training', 'method': method, 'task': None, 'curve': curve})
    return table


def notes(protocol: Protocol, chosen: Mapping[Place, Cell], titles: Mapping[str, str]) -> list[str]:
    """Return what a reader has to know."""
    found = [
        'The unit of every test is the image. Images of one patient are not independent, and no test takes patients '
        'into account: intervals and p-values are too optimistic to an unknown degree.',
        'A difference is called significant where it is found over images, by a permutation test, and over images and '
        'seeds together, after correction for all comparisons of the family. Intervals are not corrected.',
    ]
    if protocol.whole is not None:
        found.insert(
            0, 'A part of the study is shown. Corrections count its whole plan; ranks are those among what is shown.'
        )
    if len(protocol.seeds) == 1:
        found.append('One seed was planned: the intervals cover images, and nothing of what other seeds would give.')
    if protocol.smoke:
        found.insert(0, 'A smoke run on simulated data: the figures show that everything works, and nothing else.')
    shared = [title for name, title in titles.items() if one_encoder(chosen, name)]
    if shared:
        found.append(
            f'All seeds of {", ".join(shared)} start from one encoder each: deviations, intervals and tests cover the '
            'seed of the fine-tuning, not that of the pre-training.'
        )
    again = pretrained_again(chosen, protocol.tasks)
    for changed in dict.fromkeys(again.values()):
        methods = ', '.join(titles[name] for name in protocol.methods if again.get(name) == changed)
        found.append(
            f'{methods}: pre-trained again for {", ".join(changed)}. Within a task all seeds start from the encoders '
            'of one pre-training; ranks over tasks mix them.'
        )
    for task in protocol.tasks:
        if not same_data(chosen, task):
            found.append(f'{task}: results come from different versions of the data. They are not compared.')
    return found


def same_data(chosen: Mapping[Place, Cell], task: str) -> bool:
    """Return whether all results of a task come from one version of its data."""
    return len({cell.inputs.get('data') for cell in chosen.values() if cell.task == task}) <= 1


def pretrained_again(chosen: Mapping[Place, Cell], tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the tasks, by method, whose cells start from other encoders than those of the first task with results."""
    encoders: dict[str, dict[str, set[Any]]] = {}
    for cell in chosen.values():
        used = encoders.setdefault(cell.method, {}).setdefault(cell.task, set())
        used.add((cell.inputs.get('weights'), cell.seed))
    found = {}
    for method, by_task in encoders.items():
        first = next(by_task[task] for task in tasks if task in by_task)
        seeds = {seed: hashed for hashed, seed in first}
        changed = tuple(
            task for task in tasks if any(seeds.get(seed, hashed) != hashed for hashed, seed in by_task.get(task, ()))
        )
        if changed:
            found[method] = changed
    return found


def one_encoder(chosen: Mapping[Place, Cell], method: str) -> bool:
    """Return whether several seeds of a method start from the same trained encoder."""
    found = [(cell.inputs.get('weights'), cell.seed) for cell in chosen.values() if cell.method == method]
    weights = {hashed for hashed, _ in found if hashed not in (None, SCRATCH)}
    return len({seed for hashed, seed in found if hashed in weights}) > len(weights) > 0


def add_task(
    table: Leaderboard,
    store: Store,
    protocol: Protocol,
    task: Task,
    chosen: Mapping[Place, Cell],
    draws: list[np.ndarray],
    means: list[list[float]],
) -> None:
    """Add all that is about one task."""
    fraction = max(protocol.label_fractions)
    per_share: dict[float, dict[str, dict[str, np.ndarray]]] = {share: {} for share in protocol.label_fractions}
    names: set[tuple[str, ...]] = set()
    groups: dict[str, tuple[str, ...]] = {}
    by_seed = {method: [math.nan] * len(protocol.seeds) for method in protocol.methods}  # With all labels.
    for share in protocol.label_fractions:
        for method in (name for name in protocol.methods if protocol.plans(task.name, name, share)):
            found = {seed: chosen.get((task.name, method, share, seed)) for seed in protocol.seeds}
            finished = [cell for cell in found.values() if cell is not None and cell.status == FINISHED]
            scores = [store.scores(cell) for cell in finished]
            arrays: dict[str, np.ndarray] = {}
            if len(finished) == len(protocol.seeds) and len({item.cases for item in scores}) == 1:
                shared_by_all = [key for key in scores[0].values if all(key in item.values for item in scores)]
                arrays = {key: np.stack([item.values[key] for item in scores]) for key in shared_by_all}
                names.add(scores[0].cases)
                per_share[share][method], groups = arrays, scores[0].groups
            table.results.append(result(task, method, share, found, arrays, groups.get('side'), protocol))
            if share == fraction:
                by_seed[method] = table.results[-1]['metrics'][task.primary]['by_seed']
            if share == fraction and len(finished) == len(protocol.seeds):
                add_details(table, task, method, finished)
    comparable = same_data(chosen, task.name) and len(names) == 1
    available = [set(arrays) for per_case in per_share.values() for arrays in per_case.values()]
    shared = set.intersection(*available) if available else set()
    compared = next((metric for metric in (task.primary, *task.metrics) if metric in shared), None)
    images = len(next(iter(names))) if len(names) == 1 else None
    table.tasks.append(
        {
            'name': task.name,
            'title': task.title,
            'metrics': list(task.metrics),
            'primary': task.primary,
            'compared': compared,
            'images': images,
            'planned': family_size(protocol, task.name, fraction),
        }
    )
    sign = -1.0 if task.primary in SMALLER_IS_BETTER else 1.0
    of_seeds = np.array(list(by_seed.values()))
    means.append(list(sign * of_seeds.mean(axis=1)))
    if compared is not None and comparable:
        for share, per_case in per_share.items():
            scores_of = {method: arrays[compared] for method, arrays in per_case.items()}
            size = family_size(protocol, task.name, share)
            add_comparisons(table, task, share, compared, scores_of, size)
    per_case = per_share[fraction]
    seeds, strata = len(protocol.seeds), None
    if compared == task.primary and comparable:
        strata = groups.get('side')
        values: np.ndarray = np.full((len(protocol.methods), seeds, images or 0), np.nan)
        for index, method in enumerate(protocol.methods):
            if method in per_case:
                values[index] = per_case[method][task.primary]
    else:  # A score of the whole set: only seeds can be drawn, if there are several.
        values = of_seeds[..., None] if seeds > 1 else np.full((len(protocol.methods), 1, 1), np.nan)
    draws.append(sign * statistics.bootstrap_means(values, strata, DRAWS, seed=len(draws), shared_seeds=True))


def result(
    task: Task,
    method: str,
    share: float,
    found: dict[int, Cell | None],
    arrays: dict[str, np.ndarray],
    strata: Sequence[str] | None,
    protocol: Protocol,
) -> dict[str, Any]:
    """Return the row of a method on a task."""
    there = [cell for cell in found.values() if cell is not None]
    finished = [cell for cell in there if cell.status == FINISHED]
    failed = [cell for cell in there if cell.status == FAILED]
    status = 'finished' if len(finished) == len(found) else 'failed' if failed else 'incomplete' if there else 'missing'
    metrics = {}
    for metric in task.metrics:
        by_seed = [
            float('nan') if cell is None or cell.scores.get(metric) is None else float(cell.scores[metric] or 0.0)
            for cell in found.values()
        ]
        mean, deviation = statistics.mean_and_deviation(np.array(by_seed))
        low = high = float('nan')
        if metric in arrays and math.isclose(arrays[metric].mean(), mean, abs_tol=1e-6):  # The same figure.
            low, high = statistics.bootstrap_interval(arrays[metric], strata, draws=DRAWS)
            low, high = max(low, 0.0), high if metric in SMALLER_IS_BETTER else min(high, 1.0)  # No score lies beyond.
        metrics[metric] = {'mean': mean, 'deviation': deviation, 'low': low, 'high': high, 'by_seed': by_seed}
    hours = [cell.cost.get('seconds', 0.0) * cell.cost.get('devices', 1) / 3600 for cell in there]
    spent = {  # Cells that share an encoder share its cost.
        cell.inputs.get('weights'): cell.cost['pretraining_seconds']
        for cell in there
        if cell.cost.get('pretraining_seconds') is not None
    }
    predicted = [cell.cost.get('predicted_seconds') for cell in finished]
    return {
        'task': task.name,
        'method': method,
        'fraction': share,
        'status': status,
        'seeds': len(finished),
        'errors': [
            f'seed {cell.seed}: {error.get("kind")}: {error.get("message")}'
            for cell in failed
            for error in [cell.error or {}]
        ],
        'metrics': metrics,
        'hours': sum(hours) if there else None,
        'pretraining_hours': sum(spent.values()) / 3600 if spent else None,
        'predicted_hours': None if not predicted or None in predicted else sum(p or 0.0 for p in predicted) / 3600,
        'devices': sorted({str(cell.cost.get('device', 'unknown')) for cell in there}),
        'memory_gb': max((cell.cost.get('peak_memory_gb') or 0.0 for cell in there), default=None),
        'command': ' '.join(
            [
                *(*command_of(protocol.name), *protocol.changes),
                *('--only', f'task={task.name}', f'method={method}', f'label_fraction={share}'),
            ]
        ),
    }


def add_details(table: Leaderboard, task: Task, method: str, cells: list[Cell]) -> None:
    """Add subgroups, tests on other sets and the curve of a method with all its seeds."""
    for subgroup, parts in cells[0].subgroups.items():
        for group in parts:
            for metric in task.metrics:
                values = [cell.subgroups.get(subgroup, {}).get(group, {}).get(metric) for cell in cells]
                mean, deviation = statistics.mean_and_deviation(np.array(values, dtype=float))
                row = {'task': task.name, 'subgroup': subgroup, 'group': group, 'method': method, 'metric': metric}
                images = parts[group].get('images')
                table.subgroups.append({**row, 'images': images, 'mean': mean, 'deviation': deviation})
    for other in cells[0].also:
        for metric in cells[0].also[other]['scores']:
            values = [cell.also.get(other, {}).get('scores', {}).get(metric) for cell in cells]
            mean, deviation = statistics.mean_and_deviation(np.array(values, dtype=float))
            row = {'trained': task.name, 'tested': other, 'method': method, 'metric': metric}
            table.cross.append({**row, 'mean': mean, 'deviation': deviation})
    measured = COCO.get(task.primary, task.primary)
    curve = [{'epoch': point['epoch'], task.primary: point.get(measured)} for point in cells[0].curve]
    table.convergence.append({'kind': 'fine-tuning', 'method': method, 'task': task.name, 'curve': curve})


def family_size(protocol: Protocol, task: str, share: float) -> int:
    """Return the number of planned comparisons with the baseline on a task with a share of its labels.

    It is that of the whole study: what is selected to be shown changes no p-value.
    """
    study = protocol.whole or protocol
    return max(0, sum(study.plans(task, method, share) for method in study.methods) - 1)


def add_comparisons(
    table: Leaderboard,
    task: Task,
    share: float,
    metric: str,
    scores: dict[str, np.ndarray],
    size: int,
) -> None:
    """Compare each method with the baseline, and all with each other for the groups of ties.

    Args:
        table: Gets the rows.
        task: The task.
        share: Share of the labels; ties are looked for with all of them.
        metric: What is compared.
        scores: For each complete method, seeds x cases, (S, N).
        size: Planned comparisons with the baseline.
    """
    sign = -1.0 if metric in SMALLER_IS_BETTER else 1.0
    alpha, baseline = table.family['alpha'], table.family['baseline']
    # A measure that is undefined for an image (HD95) cannot be compared there, and the image is not left out.
    whole = {m: sign * values for m, values in scores.items() if not np.isnan(values).any()}
    order = sorted(whole, key=lambda method: (-whole[method].mean(), method))
    pairs = [(a, b) for index, a in enumerate(order) for b in order[index + 1 :]]
    if not pairs:
        return
    # Found over images, and over images and seeds: a seed gives all methods the same order of images and decoder.
    permuted = statistics.sign_flip(np.stack([(whole[a] - whole[b]).mean(axis=0) for a, b in pairs]))
    raw = np.maximum(permuted, [Paired.of(whole[a] - whole[b]).p_value() for a, b in pairs])
    p_of = {frozenset(pair): p for pair, p in zip(pairs, raw, strict=True)}
    different = np.zeros((len(order), len(order)), dtype=bool)
    planned = size + 1  # Pairs of methods that are not finished yet count, or ties would change as results arrive.
    for (a, b), p in zip(pairs, statistics.holm(raw, planned * (planned - 1) // 2), strict=True):
        if p <= alpha:
            i, j = order.index(a), order.index(b)
            different[i, j] = different[j, i] = True
    if share == max(table.fractions):
        groups = statistics.tie_groups(order, different)
        means = [sign * whole[m].mean() for m in order]
        table.ties.append({'task': task.name, 'metric': metric, 'order': order, 'means': means, 'groups': groups})
    if baseline not in whole:
        return
    others = [method['name'] for method in table.methods if method['name'] in whole and method['name'] != baseline]
    if not others:
        return
    p_values = np.array([p_of[frozenset((method, baseline))] for method in others])
    differences = {method: whole[method] - whole[baseline] for method in others}
    ranked = np.array([statistics.wilcoxon(differences[method].mean(axis=0)) for method in others])
    for index, (method, adjusted, signed) in enumerate(
        zip(others, statistics.holm(p_values, size), statistics.holm(ranked, size), strict=True)
    ):
        paired = Paired.of(sign * differences[method])
        low, high = paired.interval()
        table.comparisons.append(
            {
                'task': task.name,
                'fraction': share,
                'metric': metric,
                'method': method,
                'baseline': baseline,
                'images': paired.cases,
                'difference': paired.mean,
                'low': low,
                'high': high,
                'p': p_values[index],
                'p_holm': adjusted,
                'wilcoxon': ranked[index],
                'wilcoxon_holm': signed,
                'significant': bool(adjusted <= alpha),
                'detectable': paired.detectable(alpha / max(1, size), POWER),
            }
        )


def add_ranks(table: Leaderboard, protocol: Protocol, draws: list[np.ndarray], means: list[list[float]]) -> None:
    """Add mean rank and Borda count, with their intervals, of the methods that the study plans on all tasks.

    There are none until all of them have all of these tasks.
    """
    if not means:
        return
    share = max(protocol.label_fractions)
    everywhere = [
        index
        for index, method in enumerate(protocol.methods)
        if all(protocol.plans(task, method, share) for task in protocol.tasks)
    ]
    scores = np.array(means)[:, everywhere]
    missing = {
        method: [task['name'] for task, score in zip(table.tasks, column, strict=True) if np.isnan(score)]
        for method, column in zip(everywhere, scores.T, strict=True)
    }
    drawn = np.stack(draws, axis=1)[..., everywhere]  # (B, T, M)
    if np.isnan(scores).any():  # A method that failed would lift the ranks of all others.
        scores[:], drawn[:] = np.nan, np.nan
    rank, count = statistics.mean_rank(scores), statistics.borda(scores)
    drawn_ranks, drawn_counts = statistics.mean_rank(drawn), statistics.borda(drawn)
    for index, place in enumerate(everywhere):
        low, high = statistics.interval(drawn_ranks[:, index])
        borda_low, borda_high = statistics.interval(drawn_counts[:, index])
        table.ranks.append(
            {
                'method': table.methods[place]['name'],
                'rank': rank[index],
                'low': low,
                'high': high,
                'borda': count[index],
                'borda_low': borda_low,
                'borda_high': borda_high,
                'missing': missing[place],
            }
        )
