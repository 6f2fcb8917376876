"""Tasks, methods and protocols as data: YAML files of the project, of a user, or of another package.

A file holds lists under ``tasks``, ``methods`` and ``protocols``, or a single entry, known by its folder. Another
package adds its own by an entry point of the group ``vasomim.benchmark``: a path, or a list of paths.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, JsonValue
from typing_extensions import TypedDict

import vasomim
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
    adapter_of,
    checked,
    listed,
    of_kind,
    shortened,
)
from vasomim.benchmark.study.entry_files import read_yaml
from vasomim.errors import ConfigError, did_you_mean

GROUP = 'vasomim.benchmark'
SMOKE = 'smoke'  # The study of `--smoke`, on simulated data.
KINDS = ('pretrain', 'checkpoint', 'scratch')
TASKS = ('segmentation', 'detection')
NOT_WRITTEN = ('origin', 'whole', 'changes')  # What an entry's file does not say.
BOX_METRICS = ('mAP', 'mAP50', 'mAP75', 'F1')
MOST_CELLS = 100_000  # Of a study.
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


FOLDERS: dict[str, Any] = {'tasks': Task, 'methods': Method, 'protocols': Protocol}


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


def benchmark_folder() -> Path:
    """Return the folder of results and of the leaderboard: ``benchmark`` of a checkout, else of the present folder."""
    checkout = Path(vasomim.__file__).parents[1] / 'benchmark'
    return checkout if (checkout / 'tasks').is_dir() else Path('benchmark')


def shipped_entries() -> Path:
    """Return the folder of the project's own entries: that of a checkout, else the package's copy."""
    folder = benchmark_folder()
    return folder if (folder / 'tasks').is_dir() else Path(vasomim.__file__).parent / '.mim' / 'benchmark'


def load_entries(sources: Iterable[str | Path] = (), own: Path | None = None) -> Entries:
    """Read the project's entries, those of installed packages, and a user's own.

    Args:
        sources: Further files, or folders that hold ``tasks``, ``methods`` and ``protocols``.
        own: Folder of the project's entries; None finds it.

    Raises:
        ConfigError: If a file or an entry is wrong, or two entries share a name.
    """
    found: dict[str, dict[str, Any]] = {kind: {} for kind in FOLDERS}
    own = shipped_entries() if own is None else own
    installed = [Path(path) for point in importlib.metadata.entry_points(group=GROUP) for path in as_list(point.load())]
    places = [*([own] if own.is_dir() else []), *installed, *(Path(source) for source in sources)]
    for file, kind in (pair for place in places for pair in files_of(place)):
        for section, content in entries_of(file, kind):
            entry = parse(section, content, file)
            if entry.name in found[section]:
                other = found[section][entry.name].origin
                raise ConfigError(
                    file, f"the {section[:-1]} '{entry.name}' is in {other} already.", 'Give it another name.'
                )
            found[section][entry.name] = entry
    return Entries(**found)


def as_list(value: Any) -> list[Any]:
    """Return a list, or one thing as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def files_of(place: Path) -> list[tuple[Path, str | None]]:
    """Return YAML files with what their entries are where a folder says it.

    Raises:
        ConfigError: If there is no such file or folder.
    """
    if place.is_dir():
        return [(file, kind) for kind in FOLDERS for file in sorted((place / kind).glob('*.yaml'))]
    if not place.is_file():
        raise ConfigError(
            place, 'there is no such file of entries.', 'Pass a YAML file, or a folder with tasks/ in it.'
        )
    return [(place, None)]


def entries_of(file: Path, kind: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the raw entries of a file with their sections.

    Raises:
        ConfigError: If the file is no YAML, names a key twice, or holds something else than entries.
    """
    content = read_yaml(file)
    if kind is not None and isinstance(content, Mapping) and 'name' in content:
        return [(kind, content)]
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(file, 'it holds no entries.', f'Write lists under {", ".join(FOLDERS)}.')
    for key, value in content.items():
        if key not in FOLDERS:
            raise ConfigError(
                f'{file}: {key}', f'no such section.{did_you_mean(str(key), FOLDERS)}', f'Use {", ".join(FOLDERS)}.'
            )
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise ConfigError(f'{file}: {key}', 'it is no list of entries.', 'Begin each entry with "- name: ...".')
    return [(section, item) for section, items in content.items() for item in items]


ADAPTERS = {section: adapter_of(kind, NOT_WRITTEN) for section, kind in FOLDERS.items()}
KNOWN: dict[str, Any] = {  # Keys by section of an entry and of the parts in it.
    section: {'': [item.name for item in fields(kind) if item.name not in NOT_WRITTEN]}
    for section, kind in FOLDERS.items()
}
KNOWN['protocols'] |= {
    'pretraining': list(PretrainingOptions.__annotations__),
    'finetuning': list(FinetuningOptions.__annotations__),
    'family': list(Family.__annotations__),
    'synthetic': list(Simulated.__annotations__),
    'left_out': list(LeftOut.__annotations__),
}


def parse(section: str, content: Mapping[str, Any], file: Path) -> Any:
    """Build an entry from what YAML gave.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of another type.
    """
    name = content.get('name')
    where = f'{file}: {section[:-1]} {"without a name" if name is None else shortened(name, quoted=False)}'
    values = checked(ADAPTERS[section], dict(content), where, ConfigError, 'Correct it.', KNOWN[section])
    entry = FOLDERS[section](**values, origin=str(file))
    CHECKS[section](entry, where)
    return entry


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
