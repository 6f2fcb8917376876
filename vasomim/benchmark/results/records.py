"""Records: the files of cells and pre-trainings, verified when they are read.

A cell is one method on one task with one seed and one share of the labels. Its name is a hash of everything that its
result depends on, so a finished cell is never computed again and a changed input is another cell.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, JsonValue
from typing_extensions import NotRequired, TypedDict

from vasomim.benchmark.schema import (
    LENIENT,
    STRICT,
    CellName,
    Count,
    Name,
    Number,
    NumberOrNone,
    Seed,
    Sha256,
    Share,
    adapter_of,
    checked,
    is_name,
    of_kind,
    shortened,
)
from vasomim.errors import VasoMIMError
from vasomim.files import parse_json, read_regular

Place = tuple[str, str, float, int]  # A cell's task, method, share of the labels and seed.
SCHEMA = 1
FINISHED, FAILED = 'finished', 'failed'
PRETRAINING = 'pretraining-'  # Begins the names of their files.
NAME_LENGTH = 16
MOST_BYTES = 1 << 26  # Of a record; a curve of 10,000 epochs has 2 MB.
CURE = '`vasomim benchmark run` sets it aside and computes the cell again.'


class StoreError(VasoMIMError):
    """A results file is damaged, of another schema or edited by hand."""


@LENIENT
class Inputs(TypedDict):
    """What every record's inputs hold."""

    method: Name
    seed: Seed


@LENIENT
class CellInputs(Inputs):
    """What a cell's inputs hold beside that."""

    task: Name
    label_fraction: Share
    data: NotRequired[str | None]
    weights: NotRequired[str]


@STRICT
class Also(TypedDict):
    """A test on another data set."""

    scores: dict[str, NumberOrNone]
    cases: Count
    data: NotRequired[str]


@LENIENT
class Cost(TypedDict, total=False):
    """What was spent."""

    seconds: Number
    predicted_seconds: NumberOrNone
    device: str
    devices: Annotated[int, Field(ge=1)]
    peak_memory_gb: NumberOrNone
    pretraining_seconds: NumberOrNone


@STRICT
class Failure(TypedDict):
    """Why a cell failed."""

    kind: str
    message: str
    log: NotRequired[str]


def task_or_own(text: str) -> str:
    """Check a key of a cell's tables: the name of another task, or the empty text for the cell's own.

    Raises:
        ValueError: If it is neither.
    """
    if text and not is_name(text):
        raise ValueError(f'{shortened(text)} is no name of a task')
    return text


def point(value: dict[str, Any]) -> dict[str, Any]:
    """Check a point of a curve.

    Raises:
        ValueError: If it has no epoch.
    """
    if value.get('epoch') is None:
        raise ValueError('a point of a curve lacks its epoch')
    return value


Point = Annotated[dict[str, NumberOrNone], AfterValidator(point)]
Environment = dict[str, JsonValue]
Status = Literal['finished', 'failed']
Subgroups = dict[str, dict[str, dict[str, NumberOrNone]]]
Weights = dict[str, JsonValue]


@dataclass(frozen=True)
class Cell:
    """The result of one method on one task; the fields are those of its file.

    Attributes:
        cell: Name of the cell, 16 hex digits: the hash of ``inputs``.
        inputs: What the result depends on: task, task_version, method, seed, label_fraction, metrics, subgroups, and
            the hashes config, data, weights, with the version of the code.
        status: 'finished' or 'failed'.
        scores: Of the test split, by metric, in [0, 1]; None where undefined.
        subgroups: By name of the subgroup and of the group: metrics and the number of ``images``.
        cases: Number of test images.
        also: Tests on other data sets, by task: ``scores``, ``cases`` and the hash ``data``.
        curve: Validation by epoch.
        cost: seconds, predicted_seconds, device, devices, peak_memory_gb, pretraining_seconds (times its devices).
        weights: What was loaded into the encoder; None from scratch.
        score_threshold: Score from which a box counts for F1, chosen on the validation images; None for masks.
        environment: Versions, commit and machine.
        command: What computes this cell again.
        error: kind, message and log of a failed cell; None otherwise.
        started: UTC, ISO 8601.
        finished: UTC, ISO 8601.
        smoke: Whether the data are synthetic and the training far too short to mean anything.
        tables: sha256 of the per-case tables, by the other task's name; '' is the cell's own.
    """

    cell: CellName
    inputs: Annotated[dict[str, Any], of_kind(CellInputs)]
    status: Annotated[str, of_kind(Status)]
    scores: Annotated[dict[str, float | None], of_kind(dict[str, NumberOrNone])] = field(default_factory=dict)
    subgroups: Annotated[dict[str, dict[str, dict[str, float | None]]], of_kind(Subgroups)] = field(
        default_factory=dict
    )
    cases: Count = 0
    also: Annotated[dict[str, dict[str, Any]], of_kind(dict[Name, Also])] = field(default_factory=dict)
    curve: Annotated[list[dict[str, Any]], of_kind(list[Point])] = field(default_factory=list)
    cost: Annotated[dict[str, Any], of_kind(Cost)] = field(default_factory=dict)
    weights: Annotated[dict[str, Any] | None, of_kind(Weights | None)] = None
    score_threshold: Annotated[float | None, of_kind(NumberOrNone)] = None
    environment: Annotated[dict[str, Any], of_kind(Environment)] = field(default_factory=dict)
    command: str = ''
    error: Annotated[dict[str, Any] | None, of_kind(Failure | None)] = None
    started: str = ''
    finished: str = ''
    smoke: bool = False
    tables: Annotated[dict[str, str], of_kind(dict[Annotated[str, AfterValidator(task_or_own)], Sha256])] = field(
        default_factory=dict
    )

    @property
    def place(self) -> Place:
        """Where it stands in its study."""
        return place_of(self.inputs)

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.inputs['task'])

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.inputs['method'])

    @property
    def seed(self) -> int:
        """Seed of the fine-tuning."""
        return int(self.inputs['seed'])

    @property
    def label_fraction(self) -> float:
        """Share of the training split's labels, in (0, 1]."""
        return float(self.inputs['label_fraction'])


@dataclass(frozen=True)
class Pretraining:
    """One pre-training, shared by all cells of a method; the fields are those of its file.

    Attributes:
        pretraining: Its name, 16 hex digits: the hash of ``inputs``.
        inputs: What the encoder depends on: method, seed, and the hashes config and data, with the version of the code.
        status: 'finished' or 'failed'.
        curve: Losses by epoch.
        cost: As of a cell.
        environment: Versions, commit and machine.
        weights: ``file_sha256`` of the encoder's checkpoint.
        command: What computes it again.
        error: kind, message and log of a failed one; None otherwise.
        started: UTC, ISO 8601.
        finished: UTC, ISO 8601.
        smoke: As of a cell.
    """

    pretraining: CellName
    inputs: Annotated[dict[str, Any], of_kind(Inputs)]
    status: Annotated[str, of_kind(Status)]
    curve: Annotated[list[dict[str, Any]], of_kind(list[Point])] = field(default_factory=list)
    cost: Annotated[dict[str, Any], of_kind(Cost)] = field(default_factory=dict)
    environment: Annotated[dict[str, Any], of_kind(Environment)] = field(default_factory=dict)
    weights: Annotated[dict[str, Any] | None, of_kind(Weights | None)] = None
    command: str = ''
    error: Annotated[dict[str, Any] | None, of_kind(Failure | None)] = None
    started: str = ''
    finished: str = ''
    smoke: bool = False

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.inputs['method'])

    @property
    def seed(self) -> int:
        """Seed of the pre-training."""
        return int(self.inputs['seed'])


CELL, PRETRAINED = adapter_of(Cell), adapter_of(Pretraining)


def read_cell(path: Path) -> Cell:
    """Read and verify the record of a cell.

    Raises:
        StoreError: If it is damaged, of another schema, edited or under another's name.
    """
    return parse_cell(read_bytes(path), path)


def parse_cell(data: bytes, path: Path) -> Cell:
    """Verify the record of a cell that was read already; otherwise as :func:`read_cell`.

    Args:
        data: The file's content.
        path: Where it is, or was before it was packed; its name counts.
    """
    record = parse_record(data, path)
    checked(CELL, record, path, StoreError, CURE)
    check_name(path, str(record['cell']), record['inputs'], '')
    return Cell(**record)


def read_pretraining(path: Path) -> Pretraining:
    """Read and verify the record of a pre-training; otherwise as :func:`read_cell`."""
    return parse_pretraining(read_bytes(path), path)


def parse_pretraining(data: bytes, path: Path) -> Pretraining:
    """Verify the record of a pre-training that was read already; otherwise as :func:`parse_cell`."""
    record = parse_record(data, path)
    checked(PRETRAINED, record, path, StoreError, CURE)
    check_name(path, str(record['pretraining']), record['inputs'], PRETRAINING)
    return Pretraining(**record)


def check_name(path: Path, name: str, inputs: Mapping[str, Any], prefix: str) -> None:
    """Check that a record's name is the hash of its inputs.

    Raises:
        StoreError: If it is not.
    """
    right = name_of(inputs)
    if name != right or path.stem != prefix + right:
        raise StoreError(path, f'its inputs belong to {prefix}{right}.json.', CURE)


def read_bytes(path: Path) -> bytes:
    """Read the file of a record.

    Raises:
        StoreError: If it cannot be read.
    """
    return read_regular(path, StoreError, CURE, MOST_BYTES)


def parse_record(data: bytes, path: Path) -> dict[str, Any]:
    """Return what :func:`format_record` wrote, without schema and checksum.

    Raises:
        StoreError: If it is damaged, of another schema or edited.
    """
    record: dict[str, Any] = parse_json(data, path, StoreError, CURE)
    if 'schema' not in record:
        raise StoreError(path, 'it is no record of the benchmark.', CURE)
    if type(record['schema']) is not int or record['schema'] != SCHEMA:
        raise StoreError(path, f'its schema is {shortened(record["schema"])}, and {SCHEMA} is read here.', CURE)
    checksum = record.pop('checksum', None)
    if checksum != digest(record):
        raise StoreError(path, 'its checksum does not fit: it is damaged, or was edited.', CURE)
    del record['schema']
    return record


def place_of(inputs: Mapping[str, Any]) -> Place:
    """Return where a cell stands in its study."""
    return str(inputs['task']), str(inputs['method']), float(inputs['label_fraction']), int(inputs['seed'])


def name_of(inputs: Mapping[str, Any]) -> str:
    """Return the name of a cell or a pre-training: the first 16 hex digits of the hash of its inputs."""
    return digest(inputs)[:NAME_LENGTH]


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces.

    Raises:
        ValueError: If it holds NaN or infinity, which JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, in hex digits."""
    return sha256(canonical(value))


def sha256(content: str | bytes) -> str:
    """Return the sha256 of bytes, or of a text in UTF-8, in hex digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def without_nan(value: Any) -> Any:
    """Return a nested value with None in place of NaN and infinity, and Python's numbers in place of NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_record(record: Mapping[str, Any]) -> str:
    """Return the file of a record: schema and checksum are added."""
    content = {'schema': SCHEMA, **without_nan(record)}
    return json.dumps({**content, 'checksum': digest(content)}, indent=1, ensure_ascii=False, allow_nan=False) + '\n'
