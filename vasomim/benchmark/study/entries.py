"""Tasks, methods and protocols: what an entry says, which pydantic checks when it is read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, JsonValue
from typing_extensions import TypedDict

from vasomim.benchmark.schema import (
    STRICT,
    Count,
    Name,
    Names,
    Number,
    Seeds,
    Share,
    Shares,
    Text,
    Texts,
    listed,
    of_kind,
    shortened,
)
from vasomim.errors import ConfigError, did_you_mean

SMOKE = 'smoke'  # The study of `--smoke`, on simulated data.
KINDS = ('pretrain', 'checkpoint', 'scratch')
TASKS = ('segmentation', 'detection')
BOX_METRICS = ('mAP', 'mAP50', 'mAP75', 'F1')
Entry = TypeVar('Entry', 'Task', 'Method', 'Protocol')
Options = dict[str, JsonValue]  # Changes of a config by dotted key.


@STRICT
class PretrainingOptions(TypedDict, total=False):
    """What a study says of its pre-trainings."""

    data: Text | None
    options: dict[str, Options]
    per_seed: bool


@STRICT
class FinetuningOptions(TypedDict, total=False):
    """What a study says of its fine-tunings."""

    options: dict[str, Options]
    few_labels: dict[Share, Options]


@STRICT
class Family(TypedDict, total=False):
    """The comparisons that a study plans."""

    baseline: Name | None
    alpha: Annotated[float, Field(gt=0, lt=1)]


@STRICT
class Simulated(TypedDict, total=False):
    """What a smoke run simulates."""

    frames: dict[str, Annotated[int, Field(ge=1)]]
    size: Annotated[int, Field(ge=1)]


@STRICT
class LeftOut(TypedDict, total=False):
    """A part of the grid that a study does not plan."""

    task: list[str]
    method: list[str]
    label_fraction: list[Number]


@dataclass(frozen=True)
class Task:
    """A data set and what is predicted on it.

    Attributes:
        name: Its name in results.
        title: Its name in tables.
        dataset: Name of the data set, which several tasks may share.
        task: 'segmentation' or 'detection'; or 'package.module:function', which computes a cell in its own way, see
            :func:`vasomim.benchmark.running.cells.call`.
        config: Downstream config; None for a function.
        data: Folder of the prepared set; ``data/...`` moves with ``--data``.
        metrics: Segmentation: DSC, clDice, HD95; detection: mAP, mAP50, mAP75, F1.
        primary: The metric that ranks.
        subgroups: Of ``SegmentationMetric``: width, mean_width, side, lesion_size.
        also_test: Other tasks on whose test split the model is tested as well.
        options: Changes of the config, by dotted key.
        version: Raised when the meaning of the task changes.
        origin: File of the entry.
    """

    name: Name
    title: Text
    dataset: Text
    task: Text
    data: Text | None = None
    config: Text | None = None
    metrics: Texts = ('DSC',)
    primary: Text = 'DSC'
    subgroups: Texts = ()
    also_test: Names = ()
    options: Annotated[dict[str, Any], of_kind(Options)] = field(default_factory=dict)
    version: Count = 1
    origin: str = ''

    @property
    def is_function(self) -> bool:
        """Whether a function computes its cells."""
        return ':' in self.task


@dataclass(frozen=True)
class Method:
    """Where the encoder comes from.

    Attributes:
        name: Its name in results.
        title: Its name in tables.
        kind: 'pretrain' (by ``config``), 'checkpoint' (a file of a ViT) or 'scratch'.
        config: Pre-training config.
        checkpoint: File of the encoder; relative to the entry's own folder unless it exists from here.
        data: Folder of frames that this method alone pre-trains on; None: that of the protocol.
        options: Changes of the pre-training config, by dotted key.
        finetune_options: Changes of the downstream configs, by dotted key.
        reference: What to cite.
        origin: File of the entry.
    """

    name: Name
    title: Text
    kind: Text
    config: Text | None = None
    checkpoint: Text | None = None
    data: Text | None = None
    options: Annotated[dict[str, Any], of_kind(Options)] = field(default_factory=dict)
    finetune_options: Annotated[dict[str, Any], of_kind(Options)] = field(default_factory=dict)
    reference: Text = ''
    origin: str = ''


@dataclass(frozen=True)
class Protocol:
    """A study: which cells, under which budget, and which comparisons were planned.

    Attributes:
        name: Its name.
        title: Its name in tables.
        tasks: Names of tasks.
        methods: Names of methods.
        seeds: Seeds of the fine-tuning; a number N in the file means 0 to N - 1.
        label_fractions: Shares of the training labels, in (0, 1].
        left_out: Parts of the grid of tasks, methods and shares that are not planned: each names lists under ``task``,
            ``method`` and ``label_fraction``, and means their combinations.
        pretraining: ``data`` (folder of frames for all methods; None: that of each config); ``options``: changes by
            dotted key, under 'all' and under names of methods; ``per_seed``: whether each seed has a pre-training of
            its own, with that seed, instead of one with seed 0 for all (default: false).
        finetuning: ``options`` under 'all', 'segmentation', 'detection' and under names of tasks; ``few_labels``:
            options by share of the labels, such as more epochs where an epoch is shorter.
        family: The comparisons written down beforehand: ``baseline`` and ``alpha``.
        synthetic: What to simulate for a smoke run, see :mod:`vasomim.benchmark.study.smoke`.
        smoke: Whether the results mean nothing but that everything works.
        origin: File of the entry.
        whole: The study of which this is a selection; None for a whole one.
        changes: The words of the command that gave it other seeds or shares of labels.
    """

    name: Name
    title: Text
    tasks: Names
    methods: Names
    seeds: Seeds = (0, 1, 2)
    label_fractions: Shares = (1.0,)
    left_out: Annotated[tuple[dict[str, list], ...], BeforeValidator(listed), of_kind(tuple[LeftOut, ...])] = ()
    pretraining: Annotated[dict[str, Any], of_kind(PretrainingOptions)] = field(default_factory=dict)
    finetuning: Annotated[dict[str, Any], of_kind(FinetuningOptions)] = field(default_factory=dict)
    family: Annotated[dict[str, Any], of_kind(Family)] = field(default_factory=dict)
    synthetic: Annotated[dict[str, Any], of_kind(Simulated)] = field(default_factory=dict)
    smoke: bool = False
    origin: str = ''
    whole: Protocol | None = None
    changes: tuple[str, ...] = ()

    @property
    def per_seed(self) -> bool:
        """Whether each seed has a pre-training of its own."""
        return bool(self.pretraining.get('per_seed', False))

    def plans(self, task: str, method: str, label_fraction: float) -> bool:
        """Return whether the study has cells of this combination."""
        place = {'task': task, 'method': method, 'label_fraction': label_fraction}
        return not any(all(place[axis] in values for axis, values in part.items()) for part in self.left_out)

    def planned(self) -> list[tuple[str, str, float]]:
        """Return all combinations of task, method and share of the labels that the study has cells of."""
        grid = itertools.product(self.tasks, self.methods, self.label_fractions)
        return [place for place in grid if self.plans(*place)]


@dataclass(frozen=True)
class Entries:
    """All entries by name."""

    tasks: dict[str, Task]
    methods: dict[str, Method]
    protocols: dict[str, Protocol]

    @property
    def averaged(self) -> set[str]:
        """Names of the tasks whose scores are the means of their tables; what a function returns may be otherwise."""
        return {name for name, task in self.tasks.items() if not task.is_function}

    def task(self, name: str) -> Task:
        """Return a task.

        Raises:
            ConfigError: If there is none of that name; names the one that resembles it.
        """
        return chosen('task', name, self.tasks)

    def method(self, name: str) -> Method:
        """Return a method; otherwise as :meth:`task`."""
        return chosen('method', name, self.methods)

    def protocol(self, name: str) -> Protocol:
        """Return a protocol whose tasks and methods exist; otherwise as :meth:`task`."""
        protocol = chosen('protocol', name, self.protocols)
        for task in protocol.tasks:
            for other in self.task(task).also_test:
                check_further_test(self.task(task), self.task(other))
        for kind, entries in (
            ('tasks', [self.task(name) for name in protocol.tasks]),
            ('methods', [self.method(name) for name in protocol.methods]),
        ):
            titles = [entry.title for entry in entries]
            twice = next((title for title in titles if titles.count(title) > 1), None)
            if twice is not None:  # Nobody could tell them apart in a table.
                what = f"two have the title '{shortened(twice, quoted=False)}'."
                raise ConfigError(f'{protocol.origin}: {kind}', what, 'Give one of them another title.')
        baseline = protocol.family.get('baseline')
        if baseline is not None and baseline not in protocol.methods:
            raise ConfigError(
                f'{protocol.origin}: family.baseline',
                f"'{baseline}' is no method of the protocol.{did_you_mean(str(baseline), protocol.methods)}",
                f'Choose one of {", ".join(protocol.methods)}.',
            )
        return protocol


def command_of(protocol: str) -> list[str]:
    """Return the words of the command that runs a whole study."""
    return ['vasomim', 'benchmark', 'run', *(['--smoke'] if protocol == SMOKE else ['--protocol', protocol])]


def chosen(kind: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    """Return an entry by its name.

    Raises:
        ConfigError: If there is none; names the one that resembles it.
    """
    if name not in entries:
        raise ConfigError(
            f"{kind} '{name}'",
            f'there is no such {kind}.{did_you_mean(name, entries)}',
            f'Choose from {", ".join(sorted(entries)) or "none"}, or add it by --entries FILE.',
        )
    return entries[name]


def check_further_test(task: Task, other: Task) -> None:
    """Check that the models of a task can be tested on another one.

    Raises:
        ConfigError: If one of them is computed by a function, or they are of different kinds.
    """
    if task.task not in TASKS or task.task != other.task:
        raise ConfigError(
            f'{task.origin}: task {task.name}: also_test',
            f"'{other.name}' is {other.task}, and '{task.name}' {task.task}.",
            f'Both have to be {" or both ".join(TASKS)}.',
        )
