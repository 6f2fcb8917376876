"""Compute a submission again: all that its predictions and the data at hand determine; the rest is only claimed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vasomim import __version__
from vasomim.benchmark.results.records import (
    FINISHED,
    PRETRAINING,
    Cell,
    Place,
    Pretraining,
    StoreError,
    format_record,
    parse_cell,
    parse_pretraining,
    sha256,
)
from vasomim.benchmark.results.tables import Scores, format_table, parse_table
from vasomim.benchmark.scoring.measures import OPERATING_POINT, choose_operating_point, parse_operating_point, score
from vasomim.benchmark.study.entries import Entries, Method, Protocol, Task
from vasomim.benchmark.study.jobs import SCRATCH, weights_input
from vasomim.benchmark.study.plan import cell_inputs, checkpoint_of, further_tests
from vasomim.benchmark.study.resolve import Fingerprints, config_hash, data_folder, file_sha256, finetuning_config
from vasomim.benchmark.submission.archive import MANIFEST, Archive
from vasomim.benchmark.submission.pack import (
    folder_of,
    predictions_of,
    record_member,
    table_member,
    validation_member,
)
from vasomim.errors import DatasetError
from vasomim.prepare.prepared import read_split

# Every field of a record is one or the other.
VERIFIED = {
    'cell': 'its name is the hash of what it depends on',
    'inputs': 'its task, metrics, settings and the hash of its data are those of the study',
    'status': 'it is finished',
    'scores': 'computed again from the predictions',
    'subgroups': 'computed again from the predictions',
    'cases': 'all test images',
    'also': 'all further tests, computed again, with the hashes of their data',
    'score_threshold': 'the score from which a box counts, chosen again on the validation images',
    'error': 'there is none',
    'smoke': 'as the study says',
    'tables': 'scores and groups of each image, computed again',
}
CLAIMED = {
    'inputs': 'which encoder, seed and labels the predictions come from, and that no test image was trained on',
    'curve': 'losses and validation by epoch',
    'cost': 'time, memory and devices',
    'weights': 'what was loaded into the encoder',
    'environment': 'versions and machine',
    'command': 'the command',
    'started': 'when it began',
    'finished': 'when it ended',
}


@dataclass
class Verification:
    """What came out.

    Attributes:
        differences: A line for each thing that differs, is missing or cannot be checked.
        figures: Number of scores that were computed again.
        cells: Number of cells of which scores were.
    """

    differences: list[str] = field(default_factory=list)
    figures: int = 0
    cells: int = 0

    @property
    def passed(self) -> bool:
        """Whether something was computed again, and nothing differs."""
        return self.figures > 0 and not self.differences


@dataclass(frozen=True)
class Truth:
    """The data of a task at hand: the folder of the prepared set, and its hash."""

    folder: Path
    fingerprint: str


def verify(archive: Archive, protocol: Protocol, entries: Entries, data: str | None, tolerance: float) -> Verification:
    """Compute every score of a submission again, and check that it is all of a study.

    Args:
        archive: The submission.
        protocol: The study that it has to hold, or the part of one that the verifier asks for.
        entries: Its tasks and methods, the verifier's own.
        data: Takes the place of ``data/`` in the entries.
        tolerance: Largest difference of a score.

    Raises:
        ConfigError: If the verifier's entries are wrong.
    """
    return Verifier(archive, protocol, entries, data, tolerance).check()


class Verifier:
    """One verification; arguments as of :func:`verify`."""

    def __init__(
        self, archive: Archive, protocol: Protocol, entries: Entries, data: str | None, tolerance: float
    ) -> None:
        self.archive, self.protocol, self.entries = archive, protocol, entries
        self.data, self.tolerance = data, tolerance
        self.found = Verification()
        self.expected = {MANIFEST}
        self.truths: dict[str, Truth | None] = {}
        self.fingerprints = Fingerprints(None)

    def check(self) -> Verification:
        """Check everything."""
        manifest = self.archive.manifest
        if manifest['study'] != self.protocol.name:
            self.differs(f"it is of study '{manifest['study']}', not of '{self.protocol.name}'")
        if manifest['vasomim'] != __version__:
            self.differs(
                f'it was packed by vasomim {manifest["vasomim"]}: verify it with that version, not {__version__}'
            )
        pretrainings = self.read_pretrainings()
        cells: dict[Place, Cell] = {}
        for name in manifest['cells']:
            cell = self.read_cell(name)
            if cell is None:
                continue
            if cell.place in cells:
                self.differs(f'{name}: the submission holds {described(cell.place)} twice')
                continue
            cells[cell.place] = cell
        planned = {(*place, seed) for place in self.protocol.planned() for seed in self.protocol.seeds}
        for place in sorted(planned - cells.keys()):
            self.differs(f'{described(place)}: the study plans this cell, and the submission lacks it')
        for place, cell in cells.items():
            if place not in planned:
                self.differs(f'{cell.cell}: the study plans no cell {described(place)}')
            else:
                self.check_cell(cell, pretrainings)
        used = {cell.inputs.get('weights') for cell in cells.values()}
        for weights, item in pretrainings.items():
            if weights not in used:
                self.differs(f'{item.pretraining}: no cell of the submission starts from this pre-training')
        for name in sorted(self.archive.members.keys() - self.expected):
            self.differs(f'{name}: it belongs to no cell of the submission')
        for name in sorted(manifest['files'].keys() ^ (self.expected - {MANIFEST})):
            self.differs(f'{name}: the list of the submission does not fit its content')
        if not self.found.figures:
            self.differs('no score could be computed again')
        return self.found

    def differs(self, line: str) -> None:
        """Note a difference."""
        self.found.differences.append(line)

    def read(self, name: str) -> bytes:
        """Return the content of a member, and note if it is not what was packed.

        Raises:
            StoreError: If it is missing or damaged.
        """
        content = self.archive.read(name)
        if self.archive.manifest['files'].get(name) != sha256(content):
            self.differs(f'{name}: it is not the file that was packed')
        return content

    def read_cell(self, name: str) -> Cell | None:
        """Return the record of a cell, None where it is damaged."""
        member = record_member(name)
        self.expected.add(member)
        try:
            content = self.read(member)
            cell = parse_cell(content, Path(member))
        except StoreError as error:
            self.differs(f'{error.where}: {error.what}')
            return None
        if format_record(vars(cell)).encode() != content:  # A key that stands twice, for instance.
            self.differs(f'{member}: it is not as the benchmark writes it')
        return cell

    def read_pretrainings(self) -> dict[str, Pretraining]:
        """Return the records of pre-trainings by what names their encoders in the inputs of cells."""
        found = {}
        for name in self.archive.manifest['pretrainings']:
            member = f'results/{PRETRAINING}{name}.json'
            self.expected.add(member)
            try:
                item = parse_pretraining(self.read(member), Path(member))
            except StoreError as error:
                self.differs(f'{error.where}: {error.what}')
                continue
            if item.status != FINISHED or item.smoke != self.protocol.smoke:
                self.differs(f'{member}: it is not finished, or of another kind of study')
            found[weights_input(item.inputs)] = item
        return found

    def check_cell(self, cell: Cell, pretrainings: Mapping[str, Pretraining]) -> None:
        """Check one cell of the study."""
        where = f'{cell.cell} {described(cell.place)}'
        task, method = self.entries.task(cell.task), self.entries.method(cell.method)
        before = self.found.figures
        if task.is_function:
            self.differs(f'{where}: a function computes it, which nothing here can do again')
            return
        if cell.status != FINISHED or cell.error is not None:
            self.differs(f'{where}: it is not finished')
        if cell.smoke != self.protocol.smoke:
            self.differs(f'{where}: smoke is {cell.smoke}, and {self.protocol.smoke} in the study')
        also = further_tests(task, self.protocol)
        if set(cell.also) != set(also) or set(cell.tables) != {'', *also}:
            self.differs(f'{where}: its tests are not those of the study: {", ".join(["its own", *also])}')
        self.check_inputs(where, cell, task, method)
        for line in wrong_weights(cell, method, self.protocol, pretrainings):
            self.differs(f'{where}: {line}')
        for other in cell.tables:
            self.check_test(where, cell, other)
        self.found.cells += self.found.figures > before

    def check_inputs(self, where: str, cell: Cell, task: Task, method: Method) -> None:
        """Compare what a cell says that it depends on with the study and the data at hand."""
        truth = self.truth(task)
        if truth is None:
            return
        seed, fraction = cell.seed, cell.label_fraction
        hashed = config_hash(finetuning_config(task, method, self.protocol, seed, fraction, self.data))
        right = cell_inputs(
            task, method.name, seed, fraction, hashed, truth.fingerprint, str(cell.inputs.get('weights'))
        )
        for key in sorted(right.keys() | cell.inputs.keys()):
            # As they are written: 1 is not 1.0 there, and makes another name.
            if key not in right or key not in cell.inputs or repr(right[key]) != repr(cell.inputs[key]):
                here, said = right.get(key, 'nothing'), cell.inputs.get(key, 'nothing')
                self.differs(f'{where}: inputs.{key} is {here} here, the submission says {said}')

    def check_test(self, where: str, cell: Cell, also: str) -> None:
        """Compare the scores of one test with what its predictions give; ``also`` is another task, '' its own."""
        task = self.entries.task(also or cell.task)
        where = f'{where}, on {also}' if also else where
        member = table_member(cell.cell, also)
        self.expected.add(member)
        try:
            content = self.read(member)
            table = parse_table(content, Path(member), cell.tables[also])
        except StoreError as error:
            self.differs(f'{where}: {error.where}: {error.what}')
            return
        if format_table(table).encode() != content:
            self.differs(f'{member}: it is not as the benchmark writes it')
        folder = f'predictions/{cell.cell}/{folder_of(also)}'
        self.expected |= {f'{folder}/{name}' for name in predictions_of(task, table.cases)}
        if not also and task.task == 'detection' and validation_member(cell.cell) in self.archive.members:
            self.expected.add(validation_member(cell.cell))
        truth = self.truth(task)
        if truth is None:
            return
        try:
            outcome = score(task, truth.folder, lambda name: self.read(f'{folder}/{name}'))
            if task.task == 'detection':
                self.check_operating_point(where, cell, folder)
        except (StoreError, DatasetError) as error:
            self.differs(f'{where}: {error.where}: {error.what}')
            return
        claimed: Mapping[str, Any] = cell.also.get(also, {}) if also else vars(cell)
        right = {'scores': outcome.scores, **({} if also else {'subgroups': outcome.subgroups})}
        self.compare(where, right, {key: claimed.get(key, {}) for key in right})
        exact: dict[str, Any] = {'cases': len(outcome.table.cases)}
        exact |= {'data': truth.fingerprint} if also else {'score_threshold': outcome.score_threshold}
        for key, value in exact.items():
            if claimed.get(key) != value:
                self.differs(f'{where}: {key} is {value}, the submission says {claimed.get(key)}')
        self.compare_tables(where, outcome.table, table)

    def check_operating_point(self, where: str, cell: Cell, folder: str) -> None:
        """Choose the score from which a box counts again, on the validation images of the cell's own task.

        Raises:
            StoreError: If a file is missing or damaged.
            DatasetError: If the data are.
        """
        own = self.truth(self.entries.task(cell.task))
        if own is None:
            return
        said = parse_operating_point(self.read(f'{folder}/{OPERATING_POINT}'))
        right: dict[str, Any] = {'score': 0.5, 'images': 0}
        if read_split(own.folder, 'val'):
            member = validation_member(cell.cell)
            right = choose_operating_point(own.folder, self.read(member), member)
        if said != right:
            self.differs(f'{where}: the validation images give the operating point {right}, the submission says {said}')

    def truth(self, task: Task) -> Truth | None:
        """Return the data of a task, None where they lack here; that is said once for each task."""
        if task.name not in self.truths:
            self.truths[task.name] = None
            try:
                folder = data_folder(str(task.data), self.data).expanduser()
                self.truths[task.name] = Truth(folder, self.fingerprints.prepared(folder))
            except DatasetError as error:
                self.differs(
                    f'{task.name}: its data lack here, and nothing of it can be checked: {error.where}: {error.what}'
                )
        return self.truths[task.name]

    def compare(self, where: str, right: Mapping[str, Any], claimed: Mapping[str, Any]) -> None:
        """Compare figures with those that were computed again."""
        found, said = dict(flat(right)), dict(flat(claimed))
        self.found.figures += len(found)
        for figure in sorted(said.keys() - found.keys()):
            self.differs(f'{where}: {figure} is in the submission alone')
        for figure, value in found.items():
            if figure not in said or not self.same(said[figure], value):
                self.differs(f'{where}: {figure} is {value:.6f}, the submission says {said.get(figure, "nothing")}')

    def compare_tables(self, where: str, right: Scores, claimed: Scores) -> None:
        """Compare a table with the one that was computed again."""
        if claimed.cases != right.cases:
            self.differs(f'{where}: its table is not of the {len(right.cases)} test images in their order')
            return
        if claimed.values.keys() != right.values.keys() or claimed.groups != right.groups:
            self.differs(f'{where}: its table has other columns or groups than the predictions give')
        for metric, values in right.values.items():
            self.found.figures += len(values)
            said = claimed.values.get(metric, np.full(len(values), math.inf))
            for case, value, other in zip(right.cases, values, said, strict=True):
                if not self.same(value, other):
                    self.differs(f'{where}: {metric} of {case} is {value:.6f}, the submission says {other}')

    def same(self, one: float, other: float) -> bool:
        """Return whether two scores agree; undefined agrees with undefined."""
        return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= self.tolerance


def wrong_weights(
    cell: Cell, method: Method, protocol: Protocol, pretrainings: Mapping[str, Pretraining]
) -> Iterator[str]:
    """Yield what does not fit in what a cell says of its encoder: with its method, or with the records beside it."""
    named = cell.inputs.get('weights')
    loaded = None if cell.weights is None else cell.weights.get('file_sha256')
    if method.kind == 'scratch':
        if named != SCRATCH or cell.weights is not None:
            yield 'its method trains from scratch, and its record names an encoder'
        return
    if method.kind == 'checkpoint':
        path = checkpoint_of(method)
        if loaded is None or named != loaded or (path is not None and file_sha256(path) != named):
            yield 'its encoder is not the checkpoint of its method'
        return
    record = pretrainings.get(str(named))
    if record is None:
        yield 'the record of its pre-training is missing'
        return
    seed = cell.seed if protocol.per_seed else 0
    if (record.method, record.seed) != (method.name, seed):
        yield f'its pre-training is one of {record.method} with seed {record.seed}'
    if loaded is None or record.weights is None or record.weights.get('file_sha256') != loaded:
        yield 'its encoder is not the one that its pre-training wrote'


def described(place: Place) -> str:
    """Return a cell in words."""
    task, method, fraction, seed = place
    return f'({task}, {method}, {fraction:.0%} of the labels, seed {seed})'


def flat(values: Mapping[str, Any], above: str = '') -> Iterator[tuple[str, float]]:
    """Yield the figures of a tree by their path; NaN for None."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f'{above}{key}/')
        else:
            yield f'{above}{key}', math.nan if value is None else float(value)
