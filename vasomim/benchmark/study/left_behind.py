"""Which finished cells of a study a plan computes anew, and why."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vasomim.benchmark.results.records import FINISHED, StoreError
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.study.jobs import weights_input
from vasomim.benchmark.study.plan import Plan

if TYPE_CHECKING:
    pass


# What the inputs of a cell or a pre-training are called where they are not named by a word of their own.
INPUTS = {
    'config': 'settings',
    'weights': 'encoder',
    'code': 'version of vasomim',
    'task_version': 'version of the task',
}


def left_behind(plan: Plan, store: Store) -> str | None:
    """Say how many finished cells of a study a plan computes anew because their inputs are others, and which inputs.

    Args:
        plan: Of the whole study.
        store: The results.

    Returns:
        A sentence; None where no cell is left behind.
    """
    jobs = {job.place: job for job in plan.cells}
    pretrainings = {job.name: job.inputs for job in plan.pretrainings}
    try:
        names = store.study(plan.protocol.name)
        theirs = {weights_input(item.inputs): item.inputs for item in store.pretrainings(None)}
    except StoreError:  # What is damaged is named elsewhere.
        return None
    reasons: Counter[str] = Counter()
    cells = 0
    for place, name in names.items():
        job, cell = jobs.get(place), None
        with contextlib.suppress(StoreError):
            cell = store.cell(name)
        if job is None or job.name == name or cell is None or cell.status != FINISHED:
            continue
        cells += 1
        before, after = theirs.get(cell.inputs['weights']), pretrainings.get(job.pretraining or '')
        for key in differing(cell.inputs, job.inputs):
            if key == 'weights' and before is not None and after is not None:
                reasons.update(f'{INPUTS.get(part, part)} of the pre-training' for part in differing(before, after))
            else:
                reasons[INPUTS.get(key, key)] += 1
    if not cells:
        return None
    listed = ', '.join(f'{reason} ({count})' for reason, count in reasons.most_common())
    return (
        f'{cells} finished cells were computed from other inputs than are here, and a run makes others in their place '
        f'part of the study: {listed}. To keep them, run with what they were computed from, '
        'or name another folder by --results.'
    )


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
