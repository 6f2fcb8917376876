"""How far a run is, read from its files by another process, here or on another machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.running.claims import held, read_owner
from vasomim.benchmark.schema import LENIENT, CellName, NumberOrNone, checked
from vasomim.errors import ConfigError
from vasomim.files import read_json

PAUSE = 2.0
FRAME = 6  # Lines of the table's title, head and borders, and the one below it.
LEAST = 5  # Jobs that are shown on the smallest screen.
STATES = ('running', 'failed', 'waiting', 'not run', 'finished')
STYLES = {'running': 'bold', 'failed': 'red', 'not run': 'red', 'finished': 'green', 'waiting': 'dim'}


@LENIENT
class QueuedJob(TypedDict):
    """A job of the last run, as :func:`vasomim.benchmark.running.run.write_queue` writes it."""

    kind: Literal['cell', 'pretraining']
    name: CellName
    title: str
    results: str
    claim: str
    predicted: NumberOrNone
    pretraining: str | None
    failed: str | None


@LENIENT
class Queue(TypedDict):
    """All jobs of the last run."""

    slots: Annotated[int, Field(ge=1)]
    run: str
    jobs: list[QueuedJob]


QUEUE = TypeAdapter(Queue)


@dataclass(frozen=True)
class Row:
    """One job: its title, state, seconds so far and seconds predicted."""

    title: str
    state: str
    seconds: float | None
    predicted: float | None


@dataclass(frozen=True)
class Status:
    """All jobs of the last run.

    Attributes:
        rows: The jobs.
        left: Predicted seconds until its end; None where nothing was predicted.
        active: Whether it still lasts.
    """

    rows: list[Row]
    left: float | None
    active: bool

    def count(self, state: str) -> int:
        """Number of jobs in a state, see :data:`STATES`."""
        return sum(row.state == state for row in self.rows)

    @property
    def open(self) -> int:
        """Number of jobs that run or wait."""
        return self.count('running') + self.count('waiting')


def read_status(path: Path) -> Status:
    """Read what the last run of a work directory planned and what became of it.

    Raises:
        ConfigError: If nothing has run there, or its file is damaged.
    """
    if not path.is_file():
        raise ConfigError(path, 'no run has begun here.', 'Start one, or pass its --work-dir.')
    cure = 'The next `vasomim benchmark run` writes it anew.'
    queue = checked(QUEUE, read_json(path, ConfigError, cure), path, ConfigError, cure)
    jobs = queue['jobs']
    active = held(Path(queue['run']))
    rows = [row_of(job) for job in jobs]
    failed = {job['name'] for job, row in zip(jobs, rows, strict=True) if row.state == 'failed'}
    rows = [
        Row(row.title, 'not run', None, row.predicted)
        if row.state == 'waiting' and job['pretraining'] in failed
        else row
        for job, row in zip(jobs, rows, strict=True)
    ]
    open_rows = [row for row in rows if row.state in ('running', 'waiting')]
    known = [row for row in open_rows if row.predicted is not None]
    left = sum(max(0.0, (row.predicted or 0.0) - (row.seconds or 0.0)) for row in known) / queue['slots']
    return Status(rows, left if active and len(known) == len(open_rows) else None, active)


def row_of(job: Mapping[str, Any]) -> Row:
    """Return the state of one job."""
    claim, store = Path(job['claim']), Store(job['results'])
    try:
        record: Any = store.cell(job['name']) if job['kind'] == 'cell' else store.pretraining(job['name'])
    except StoreError:
        record = None  # `run` sets it aside.
    if record is not None and record.status == 'finished':
        return Row(job['title'], 'finished', record.cost.get('seconds'), job['predicted'])
    if held(claim):
        return Row(job['title'], 'running', read_owner(claim).seconds, job['predicted'])
    if record is not None and record.finished != job['failed']:
        return Row(job['title'], 'failed', record.cost.get('seconds'), job['predicted'])
    return Row(job['title'], 'waiting', None, job['predicted'])


def follow(path: Path, once: bool) -> int:
    """Show the table; without ``once``, until nothing runs or waits any more, the run is gone, or Ctrl-C.

    Returns:
        0, or 130 after Ctrl-C.
    """
    import rich
    from rich.live import Live

    status, console = read_status(path), rich.get_console()
    if once or not console.is_terminal:
        console.print(table(status))
        return 0
    try:
        with Live(table(status, console.height), console=console, auto_refresh=False) as live:
            while status.open and status.active:
                time.sleep(PAUSE)
                status = read_status(path)
                live.update(table(status, console.height), refresh=True)
    except KeyboardInterrupt:
        return 130
    return 0


def table(status: Status, height: int | None = None) -> Any:
    """Return the status as rich shows it, in a table with what happens first: running, failed, waiting, finished.

    Args:
        status: What is shown.
        height: Lines of the screen: what does not fit is counted in the last row; None for all jobs.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    shown = Table()
    for column in ('job', 'state', 'time', 'predicted'):
        shown.add_column(column, justify='left' if column in ('job', 'state') else 'right', no_wrap=column != 'job')
    rows = sorted(status.rows, key=lambda row: STATES.index(row.state))
    room = len(rows) if height is None else max(LEAST, height - FRAME)
    kept = rows if len(rows) <= room else rows[: room - 1]
    for row in kept:
        numbers = (clock(value) for value in (row.seconds, row.predicted))
        shown.add_row(escape(row.title), row.state, *numbers, style=STYLES[row.state])
    if rest := rows[len(kept) :]:
        numbers_of = {state: sum(row.state == state for row in rest) for state in STATES}
        shown.add_row('and ' + ', '.join(f'{number} {state}' for state, number in numbers_of.items() if number))
    return Group(title_of(status), shown, *([caption] if (caption := caption_of(status)) else []))


def title_of(status: Status) -> str:
    """Return the numbers of jobs in words."""
    counts = [f'{status.count(state)} {state}' for state in STATES[:-1] if status.count(state)]
    left = f'; about {clock(status.left)} left' if status.left else ''
    return ', '.join([f'{status.count("finished")} of {len(status.rows)} jobs finished', *counts]) + left


def caption_of(status: Status) -> str | None:
    """Return what a person can do about jobs that are left, None while a run works on them."""
    if status.active or status.count('finished') == len(status.rows):
        return None
    return 'The run has ended. `benchmark run` continues with what is left.'


def clock(seconds: float | None) -> str:
    """Return seconds as m:ss or h:mm:ss, '' for unknown ones."""
    if seconds is None:
        return ''
    whole = round(seconds)
    minutes = f'{whole // 60 % 60}:{whole % 60:02}'
    return minutes if whole < 3600 else f'{whole // 3600}:{minutes:0>5}'
