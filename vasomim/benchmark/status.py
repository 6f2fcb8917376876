"""How far a run is, read from its files by another process, here or on another machine."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vasomim.benchmark.claims import held, read_owner
from vasomim.benchmark.store import Store, StoreError
from vasomim.errors import ConfigError

PAUSE = 2.0


@dataclass(frozen=True)
class Row:
    """One job: its title, state, seconds so far and seconds predicted."""

    title: str
    state: str
    seconds: float | None
    predicted: float | None


@dataclass(frozen=True)
class Status:
    """All jobs of the last run, and the predicted seconds until its end; None where nothing was predicted."""

    rows: list[Row]
    left: float | None

    def count(self, state: str) -> int:
        """Number of jobs in a state: finished, running, failed or waiting."""
        return sum(row.state == state for row in self.rows)


def read_status(path: Path) -> Status:
    """Read what the last run of a work directory planned and what became of it.

    Raises:
        ConfigError: If nothing has run there.
    """
    try:
        queue = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ConfigError(path, 'no run has begun here.', 'Start one, or pass its --work-dir.') from error
    rows = [row_of(job) for job in queue['jobs']]
    open_rows = [row for row in rows if row.state in ('running', 'waiting')]
    known = [row for row in open_rows if row.predicted is not None]
    left = sum(max(0.0, (row.predicted or 0.0) - (row.seconds or 0.0)) for row in known) / queue['slots']
    return Status(rows, left if len(known) == len(open_rows) else None)


def row_of(job: dict[str, Any]) -> Row:
    """Return the state of one job."""
    claim, store = Path(job['claim']), Store(job['results'])
    try:
        record: Any = store.cell(job['name']) if job['kind'] == 'cell' else store.pretraining(job['name'])
    except StoreError:
        record = None  # `run` sets it aside.
    if record is not None and record.status == 'finished':
        return Row(job['title'], 'finished', record.cost.get('seconds'), job['predicted'])
    if held(claim):
        return Row(job['title'], 'running', read_owner(claim).get('seconds'), job['predicted'])
    if record is not None:
        return Row(job['title'], 'failed', record.cost.get('seconds'), job['predicted'])
    return Row(job['title'], 'waiting', None, job['predicted'])


def follow(path: Path, once: bool) -> int:
    """Show the table; without ``once``, until nothing runs or waits any more, or Ctrl-C."""
    import rich
    from rich.live import Live

    status = read_status(path)
    if once or not rich.get_console().is_terminal:
        rich.print(table(status))
        return 0
    with Live(table(status), refresh_per_second=1) as live:
        while status.count('running') + status.count('waiting'):
            time.sleep(PAUSE)
            status = read_status(path)
            live.update(table(status))
    return 0


def table(status: Status) -> Any:
    """Return the status as a table of rich, open jobs first where there are many."""
    from rich.table import Table

    counts = ', '.join(f'{status.count(state)} {state}' for state in ('finished', 'running', 'failed', 'waiting'))
    left = f'; about {status.left / 60:.0f} min left' if status.left else ''
    shown = Table(title=f'{counts}{left}')
    for column in ('job', 'state', 'seconds', 'predicted'):
        shown.add_column(column, justify='left' if column in ('job', 'state') else 'right')
    order = {'running': 0, 'failed': 1, 'waiting': 2, 'finished': 3}
    for row in sorted(status.rows, key=lambda row: order[row.state]):
        numbers = (f'{value:,.0f}' if value is not None else '' for value in (row.seconds, row.predicted))
        shown.add_row(row.title, row.state, *numbers)
    return shown
