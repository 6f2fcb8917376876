"""Tasks, methods and protocols as data: YAML files of the project, of a user, or of another package.

A file holds lists under ``tasks``, ``methods`` and ``protocols``, or a single entry, known by its folder. Another
package adds its own by an entry point of the group ``vasomim.benchmark``: a path, or a list of paths.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from vasomim.errors import ConfigError, did_you_mean

GROUP = 'vasomim.benchmark'
SMOKE = 'smoke'  # The study of `--smoke`, on simulated data.
KINDS = ('pretrain', 'checkpoint', 'scratch')
TASKS = ('segmentation', 'detection')
NOT_WRITTEN = ('origin', 'whole', 'changes')  # What an entry's file does not say.
Entry = TypeVar('Entry', 'Task', 'Method', 'Protocol')


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

    name: str
    title: str
    dataset: str
    task: str
    data: str | None = None
    config: str | None = None
    metrics: tuple[str, ...] = ('DSC',)
    primary: str = 'DSC'
    subgroups: tuple[str, ...] = ()
    also_test: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    origin: str = ''


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

    name: str
    title: str
    kind: str
    config: str | None = None
    checkpoint: str | None = None
    data: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    finetune_options: dict[str, Any] = field(default_factory=dict)
    reference: str = ''
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

    name: str
    title: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    label_fractions: tuple[float, ...] = (1.0,)
    left_out: tuple[dict[str, list], ...] = ()
    pretraining: dict[str, Any] = field(default_factory=dict)
    finetuning: dict[str, Any] = field(default_factory=dict)
    family: dict[str, Any] = field(default_factory=dict)
    synthetic: dict[str, Any] = field(default_factory=dict)
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
        for method in protocol.methods:
            self.method(method)
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
    import vasomim

    checkout = Path(vasomim.__file__).parents[1] / 'benchmark'
    return checkout if (checkout / 'tasks').is_dir() else Path('benchmark')


def shipped_entries() -> Path:
    """Return the folder of the project's own entries: that of a checkout, else the package's copy."""
    import vasomim

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


def read_yaml(file: Path) -> Any:
    """Read a YAML file; a key that stands twice is an error, which YAML's own reader lets pass.

    Raises:
        ConfigError: If it cannot be read.
    """
    import yaml

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict:
        loader.flatten_mapping(node)
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        # Keys merged by `<<` come first and may be set again; those written out may not.
        written = [loader.construct_object(key, deep=True) for key, _ in getattr(node, 'written', node.value)]
        twice = next((key for key in written if written.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f'the key {twice!r} stands twice{node.start_mark}')
        return {
            key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)
        }

    def flatten(self: Any, node: Any) -> None:
        node.written = [pair for pair in node.value if pair[0].tag != 'tag:yaml.org,2002:merge']
        yaml.SafeLoader.flatten_mapping(self, node)

    Strict.flatten_mapping = flatten
    Strict.add_constructor('tag:yaml.org,2002:map', mapping)
    try:
        return yaml.load(file.read_text(encoding='utf-8'), Strict)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(file, f'it cannot be read as YAML: {error}.', 'Correct the place that is named.') from error


def parse(section: str, content: Mapping[str, Any], file: Path) -> Any:
    """Build an entry from what YAML gave.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of another type.
    """
    kind = FOLDERS[section]
    name = content.get('name')
    where = f'{file}: {section[:-1]} {name or "without a name"}'
    known = {item.name: item for item in fields(kind) if item.name not in NOT_WRITTEN}
    for key in content:
        if key not in known:
            raise ConfigError(
                where, f"there is no key '{key}'.{did_you_mean(str(key), known)}", f'It takes: {", ".join(known)}.'
            )
    required = [key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
    missing = [key for key in required if content.get(key) in (None, '')]
    if missing:
        raise ConfigError(where, f'it lacks {", ".join(missing)}.', 'Add it.')
    values = {key: converted(value, str(known[key].type), f'{where}: {key}') for key, value in content.items()}
    if not str(name).replace('_', '').replace('-', '').replace('.', '').isalnum():
        raise ConfigError(where, 'the name is part of file names.', 'Use letters, digits, "_", "-" and ".".')
    entry = kind(**values, origin=str(file))
    CHECKS[section](entry, where)
    return entry


def converted(value: Any, kind: str, where: str) -> Any:
    """Return a value as the type of a field, named as in its annotation.

    Raises:
        ConfigError: If it is of another type.
    """
    wrong = ConfigError(where, f'{value!r} is not what belongs here ({kind}).', 'Correct the value.')
    if kind.endswith('| None') and value is None:
        return None
    kind = kind.removesuffix(' | None')
    if kind == 'tuple[int, ...]' and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(range(value))
    if kind.startswith('tuple'):
        item: Any = {'str': str, 'int': int, 'float': (int, float), 'dict[str': Mapping}[kind[6:].split(',')[0]]
        if not isinstance(value, list) or not all(isinstance(one, item) for one in value):
            raise wrong
        if any(value.count(one) > 1 for one in value):
            raise ConfigError(where, 'an item stands twice.', 'Leave one of them out.')
        return tuple(float(one) if 'float' in kind else one for one in value)
    if kind.startswith('dict'):
        if not isinstance(value, Mapping):
            raise wrong
        return dict(value)
    if not isinstance(value, {'str': str, 'int': int, 'bool': bool}[kind]):
        raise wrong
    return value


def check_task(task: Task, where: str) -> None:
    """Check what a task says of itself.

    Raises:
        ConfigError: If it cannot be.
    """
    own = ':' in task.task
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
    from vasomim.benchmark.results.measures import BOX_METRICS
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
    check_fractions(protocol.label_fractions, f'{where}: label_fractions')
    check_left_out(protocol, f'{where}: left_out')
    sections: tuple[tuple[str, Sequence[str]], ...] = (
        ('pretraining', ('data', 'options', 'per_seed')),
        ('finetuning', ('options', 'few_labels')),
        ('family', ('baseline', 'alpha')),
        ('synthetic', ('frames', 'size')),
    )
    for section, known in sections:
        for key in getattr(protocol, section):
            if key not in known:
                raise ConfigError(
                    f'{where}: {section}',
                    f"there is no key '{key}'.{did_you_mean(str(key), known)}",
                    f'It takes: {", ".join(known)}.',
                )
    alpha = protocol.family.get('alpha', 0.05)
    if not isinstance(alpha, float) or not 0 < alpha < 1:
        raise ConfigError(f'{where}: family.alpha', f'{alpha!r} is no level of a test.', 'Use a number such as 0.05.')
    if not isinstance(protocol.pretraining.get('per_seed', False), bool):
        raise ConfigError(f'{where}: pretraining.per_seed', 'it is neither true nor false.', 'Correct the value.')
    check_options(protocol.pretraining, 'options', ('all', *protocol.methods), f'{where}: pretraining')
    check_options(protocol.finetuning, 'options', ('all', *TASKS, *protocol.tasks), f'{where}: finetuning')
    check_options(protocol.finetuning, 'few_labels', protocol.label_fractions, f'{where}: finetuning')


def check_options(section: Mapping[str, Any], key: str, known: Sequence[Any], where: str) -> None:
    """Check options of a study: dotted keys with values, under names of what they hold for.

    Raises:
        ConfigError: If they stand elsewhere, or are no keys with values.
    """
    where = f'{where}.{key}'
    parts = section.get(key, {})
    names = ', '.join(map(str, known))
    if not isinstance(parts, Mapping):
        raise ConfigError(where, f'{parts!r} is not what belongs here.', f'Write options under {names}.')
    for part, options in parts.items():
        if part not in known:
            what = f"'{part}' is none of them.{did_you_mean(str(part), map(str, known))}"
            raise ConfigError(where, what, f'Options stand under {names}.')
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ConfigError(
                f'{where}.{part}', f'{options!r} are no options.', 'Write one a line: "train_cfg.max_epochs: 3".'
            )


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
            if axis not in axes:
                raise ConfigError(where, f"there is no '{axis}'.{did_you_mean(axis, axes)}", f'Use {", ".join(axes)}.')
            wrong = [value for value in values if value not in axes[axis]] if isinstance(values, list) else [values]
            if wrong:
                what = f'{wrong[0]!r} is not in a list of those of the study.'
                raise ConfigError(f'{where}.{axis}', what, f'It has: {axes[axis]}.')
    if not protocol.planned():
        raise ConfigError(where, 'nothing remains.', 'Leave less out.')


def check_fractions(fractions: Iterable[float], where: str) -> None:
    """Check shares of labels.

    Raises:
        ConfigError: If one is not in (0, 1].
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ConfigError(where, f'{fraction} is no part of the labels.', 'Use numbers in (0, 1].')


CHECKS: dict[str, Any] = {'tasks': check_task, 'methods': check_method, 'protocols': check_protocol}
