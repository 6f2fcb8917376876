"""What entries may say: checks of one entry, beyond the types of its fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vasomim.benchmark.study.entries import BOX_METRICS, KINDS, TASKS, Method, Protocol, Task
from vasomim.errors import ConfigError, did_you_mean

MOST_CELLS = 100_000  # Of a study.


def check_task(task: Task, where: str) -> None:
    """Check what a task says of itself.

    Raises:
        ConfigError: If it cannot be.
    """
    own = task.is_function
    if not own and task.task not in TASKS:
        raise ConfigError(
            f'{where}: task',
            f"'{task.task}' is no kind of task.{did_you_mean(task.task, TASKS)}",
            f'Choose from {", ".join(TASKS)}, or name a function: package.module:function.',
        )
    if not own and (task.config is None or task.data is None):
        raise ConfigError(where, 'it lacks its config or its data.', 'Add both.')
    for key, known in () if own else measured_by(task.task):
        for name in getattr(task, key):
            if name not in known:
                raise ConfigError(
                    f'{where}: {key}',
                    f"'{name}' is none for {task.task}.{did_you_mean(name, known)}",
                    f'It has {", ".join(known) or "none"}.',
                )
    if task.primary not in task.metrics:
        raise ConfigError(
            f'{where}: primary',
            f"'{task.primary}' is not among the metrics.",
            f'Choose from {", ".join(task.metrics)}.',
        )


def measured_by(kind: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the metrics and the subgroups that a kind of task has."""
    from vasomim.evaluation.cases import AGREEMENT_ON_NOTHING, SUBGROUPS

    if kind == 'detection':
        return [('metrics', BOX_METRICS), ('subgroups', ())]
    return [('metrics', tuple(AGREEMENT_ON_NOTHING)), ('subgroups', SUBGROUPS)]


def check_method(method: Method, where: str) -> None:
    """Check what a method says of itself.

    Raises:
        ConfigError: If it cannot be.
    """
    if method.kind not in KINDS:
        raise ConfigError(
            f'{where}: kind', f"'{method.kind}' is none.{did_you_mean(method.kind, KINDS)}", f'Use {", ".join(KINDS)}.'
        )
    needed = {'pretrain': 'config', 'checkpoint': 'checkpoint', 'scratch': None}[method.kind]
    for key in ('config', 'checkpoint'):
        if (getattr(method, key) is not None) != (key == needed):
            verb = 'needs' if key == needed else 'takes no'
            raise ConfigError(where, f'a method of kind {method.kind} {verb} {key}.', 'Correct the entry.')


def check_protocol(protocol: Protocol, where: str) -> None:
    """Check what a protocol says of itself.

    Raises:
        ConfigError: If it cannot be.
    """
    if not protocol.tasks or not protocol.methods or not protocol.seeds or not protocol.label_fractions:
        raise ConfigError(where, 'it has no cells.', 'Name tasks, methods, seeds and label_fractions.')
    check_size(protocol, where)
    check_left_out(protocol, f'{where}: left_out')
    check_options(protocol.pretraining, 'options', ('all', *protocol.methods), f'{where}: pretraining')
    check_options(protocol.finetuning, 'options', ('all', *TASKS, *protocol.tasks), f'{where}: finetuning')
    check_options(protocol.finetuning, 'few_labels', protocol.label_fractions, f'{where}: finetuning')


def check_size(protocol: Protocol, where: str) -> None:
    """Check that a study is small enough to be planned.

    Raises:
        ConfigError: If it is not.
    """
    axes = (protocol.tasks, protocol.methods, protocol.label_fractions, protocol.seeds)
    cells = math.prod(len(axis) for axis in axes)
    if cells > MOST_CELLS:
        what = f'it has {cells:,} cells, and at most {MOST_CELLS:,} are planned.'
        raise ConfigError(where, what, 'Divide it into several studies.')


def check_options(section: Mapping[str, Any], key: str, known: Sequence[Any], where: str) -> None:
    """Check that the options of a study stand under names of what they hold for.

    Raises:
        ConfigError: If they stand elsewhere.
    """
    for part in section.get(key, {}):
        if part not in known:
            what = f"'{part}' is none of them.{did_you_mean(str(part), map(str, known))}"
            raise ConfigError(f'{where}.{key}', what, f'Options stand under {", ".join(map(str, known))}.')


def check_left_out(protocol: Protocol, where: str) -> None:
    """Check that what is left out of a study is a part of it.

    Raises:
        ConfigError: If it is not, or nothing remains.
    """
    axes: dict[str, tuple] = {
        'task': protocol.tasks,
        'method': protocol.methods,
        'label_fraction': protocol.label_fractions,
    }
    for part in protocol.left_out:
        for axis, values in part.items():
            wrong = [value for value in values if value not in axes[axis]]
            if wrong:
                what = f'{wrong[0]!r} is none of those of the study.{did_you_mean(str(wrong[0]), map(str, axes[axis]))}'
                raise ConfigError(f'{where}.{axis}', what, f'It has: {", ".join(map(str, axes[axis]))}.')
    if not protocol.planned():
        raise ConfigError(where, 'nothing remains.', 'Leave less out.')


CHECKS: dict[str, Any] = {'tasks': check_task, 'methods': check_method, 'protocols': check_protocol}
