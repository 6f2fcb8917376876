"""What a process is told to do: a folder per cell or pre-training with the job's description and its config."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.results.records import FINISHED, Cell, Place, Pretraining, StoreError, digest, name_of, place_of
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.schema import STRICT, NumberOrNone, checked
from vasomim.benchmark.study.entries import Task
from vasomim.files import read_json, read_regular, write_whole

PRETRAIN, FINETUNE = 'pretraining', 'cell'
SCRATCH = 'scratch'  # Takes the place of a hash of weights in the inputs of a cell.


@dataclass(frozen=True)
class Job:
    """One pre-training, or one fine-tuning with its tests.

    Attributes:
        kind: 'pretraining' or 'cell'.
        inputs: What the result depends on; its hash is the name.
        folder: Its work directory.
        results: Folder of the store.
        config: The resolved config, as text; '' for a function.
        task: Of a cell.
        data: Folder of the prepared set of a cell.
        encoder: Checkpoint that the encoder starts from; None from scratch.
        pretraining: Name of the pre-training that writes ``encoder``.
        also: Further tests of a cell by name: task, data, its fingerprint, and config.
        threads: Threads of computation.
        processes: Processes of a pre-training (on a cluster).
        smoke: Whether the result means nothing.
        command: What computes this again.
        predicted: Seconds that it was predicted to take.
    """

    kind: str
    inputs: dict[str, Any]
    folder: Path
    results: Path
    config: str = ''
    task: Task | None = None
    data: Path | None = None
    encoder: Path | None = None
    pretraining: str | None = None
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    threads: int = 1
    processes: int = 1
    smoke: bool = False
    command: str = ''
    predicted: float | None = None

    @property
    def name(self) -> str:
        """Name of the cell or the pre-training."""
        return name_of(self.inputs)

    @property
    def place(self) -> Place:
        """Where a cell stands in its study."""
        return place_of(self.inputs)

    @property
    def title(self) -> str:
        """What a person calls it."""
        if self.kind == PRETRAIN:
            seed = f', seed {self.inputs["seed"]}' if self.inputs['seed'] else ''
            return f'pre-training {self.inputs["method"]}{seed}'
        fraction = self.inputs['label_fraction']
        part = f', {fraction:.0%} of the labels' if fraction != 1 else ''
        return f'{self.inputs["task"]} / {self.inputs["method"]} / seed {self.inputs["seed"]}{part}'

    @property
    def claim(self) -> Path:
        """File of the claim on it, beside the results, which runs with several work directories may share."""
        return self.results / '.claims' / f'{self.kind}-{self.name}'

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / 'log.txt'

    @property
    def config_file(self) -> Path:
        """File of the resolved config."""
        return self.folder / 'config.py'

    def record(self) -> Cell | Pretraining | None:
        """Return what became of it, None if nothing did yet."""
        store = Store(self.results)
        return store.cell(self.name) if self.kind == FINETUNE else store.pretraining(self.name)

    def finished(self) -> bool:
        """Return whether its result is there: of a cell with all further tests, of a pre-training with the encoder."""
        record = self.record()
        if record is None or record.status != FINISHED:
            return False
        if isinstance(record, Pretraining):
            return encoder_of(self.folder).is_file()
        return all(record.also.get(name, {}).get('data') == test['fingerprint'] for name, test in self.also.items())

    def write(self) -> Path:
        """Write the job's file and its configs into its folder, and return the file."""
        content = json.loads(json.dumps(asdict(self), default=str))
        content.pop('config')
        if self.config:
            write_whole(self.config_file, self.config)
        for name, other in self.also.items():
            write_whole(self.folder / f'also_{name}.py', other['config'])
        path = self.folder / 'job.json'
        write_whole(path, json.dumps(content, indent=1) + '\n')
        return path


@STRICT
class StoredFurtherTest(TypedDict):
    """A further test in a job's file."""

    task: dict[str, JsonValue]
    data: str
    fingerprint: str
    config: str


@STRICT
class StoredJob(TypedDict):
    """A job's file."""

    kind: Literal['pretraining', 'cell']
    inputs: dict[str, JsonValue]
    folder: str
    results: str
    task: dict[str, JsonValue] | None
    data: str | None
    encoder: str | None
    pretraining: str | None
    also: dict[str, StoredFurtherTest]
    threads: Annotated[int, Field(ge=1)]
    processes: Annotated[int, Field(ge=1)]
    smoke: bool
    command: str
    predicted: NumberOrNone


STORED_JOB = TypeAdapter(StoredJob)


def read_job(path: Path) -> Job:
    """Read what :meth:`Job.write` wrote.

    Raises:
        StoreError: If it is missing or damaged.
    """
    cure = '`vasomim benchmark run` writes it anew.'
    content = checked(STORED_JOB, read_json(path, StoreError, cure), path, StoreError, cure)
    folder = Path(content['folder'])
    for key in ('folder', 'results', 'data', 'encoder'):
        content[key] = Path(content[key]) if content[key] is not None else None
    try:
        if content['task'] is not None:
            content['task'] = as_task(content['task'])
        for other in content['also'].values():
            other['task'] = as_task(other['task'])
    except TypeError as error:
        raise StoreError(path, f'its task is none: {error}.', cure) from error
    config = folder / 'config.py'
    return Job(config=read_regular(config, StoreError, cure).decode() if config.is_file() else '', **content)


def as_task(content: dict[str, Any]) -> Task:
    """Return a task that went through JSON.

    Raises:
        TypeError: If it did not.
    """
    lists = ('metrics', 'subgroups', 'also_test')
    values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in content.items()}
    return Task(**values)


def encoder_of(folder: Path) -> Path:
    """Return where a pre-training's encoder lies."""
    return folder / 'encoder.safetensors'


def weights_input(pretraining: dict[str, Any]) -> str:
    """Return what names the encoder of a pre-training in a cell's inputs: the hash of all that it depends on."""
    return digest(pretraining)
