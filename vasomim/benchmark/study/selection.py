"""Select a part of a study, or give it other seeds and shares of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vasomim.benchmark.schema import MOST_SEEDS
from vasomim.benchmark.study.checks import check_size
from vasomim.benchmark.study.entries import Protocol
from vasomim.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    pass


AXES = ('task', 'method', 'seed', 'label_fraction')


def select(protocol: Protocol, only: Sequence[str], seeds: int | None, fractions: str | None) -> Protocol:
    """Return a protocol with some of its cells, or with other seeds and shares of labels.

    Args:
        protocol: What is selected from.
        only: KEY=VALUE[,VALUE...] with task, method, seed or label_fraction.
        seeds: Number of seeds.
        fractions: Shares of labels, separated by commas.

    Raises:
        ConfigError: If a key or a value does not exist.
    """
    if seeds is not None:
        if not 1 <= seeds <= MOST_SEEDS:
            raise ConfigError('--seeds', f'{seeds} is no number from 1 to {MOST_SEEDS}.', 'Take another number.')
        protocol = replace(protocol, seeds=tuple(range(seeds)), changes=('--seeds', str(seeds)))
    if fractions is not None:
        values = tuple(number('--label-fraction', text, float) for text in fractions.split(','))
        for value in values:
            if not 0 < value <= 1:
                raise ConfigError('--label-fraction', f'{value} is no part of the labels.', 'Use numbers in (0, 1].')
        if len(set(values)) < len(values):
            raise ConfigError('--label-fraction', 'a share stands twice.', 'Leave one of them out.')
        changes = (*protocol.changes, '--label-fraction', fractions)
        protocol = replace(protocol, label_fractions=values, changes=changes)
    check_size(protocol, f"protocol '{protocol.name}'")
    study = protocol
    wanted: dict[str, list[Any]] = {}
    for item in only:
        key, equals, text = item.partition('=')
        if not equals or key not in AXES:
            raise ConfigError(
                f'--only {item}', f'it does not name cells.{did_you_mean(key, AXES)}', 'Write task=NAME or method=NAME.'
            )
        kind = {'seed': int, 'label_fraction': float}.get(key, str)
        wanted.setdefault(key, []).extend(number(f'--only {item}', value, kind) for value in text.split(','))
    for key, chosen in wanted.items():
        name = {'task': 'tasks', 'method': 'methods', 'seed': 'seeds', 'label_fraction': 'label_fractions'}[key]
        there = getattr(protocol, name)
        for value in chosen:
            if value not in there:
                raise ConfigError(
                    f'--only {key}={value}',
                    f"protocol '{protocol.name}' has none.{did_you_mean(str(value), map(str, there))}",
                    f'It has: {", ".join(map(str, there))}.',
                )
        kept: dict[str, Any] = {name: tuple(value for value in there if value in chosen)}
        protocol = replace(protocol, **kept)
    if not protocol.planned():
        raise ConfigError('--only', f"protocol '{protocol.name}' leaves all of this out.", 'Choose other cells.')
    return protocol if protocol == study else replace(protocol, whole=study)


def number(where: str, text: str, kind: Callable[[str], Any]) -> Any:
    """Return a value of an option.

    Raises:
        ConfigError: If it is no number where one belongs.
    """
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(where, f"'{text}' is no number.", 'Correct it.') from error
