"""The progress bar of all work on many files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vasomim.errors import printable

SECONDS_BETWEEN_LINES = 30.0

Report = Callable[[int, int], None]
"""Called with (files done, files in all)."""


@contextmanager
def progress_bar(title: str, shown: bool = True, unit: str = '') -> Iterator[Report]:
    """Show a bar on a terminal, and elsewhere a line now and then; yield the function that moves it.

    Args:
        title: What is being done.
        shown: Whether to show anything.
        unit: What is counted, such as 'frames', to show how many there are in a second; '' shows no rate.
    """
    if not shown:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    name = TextColumn('{task.description}', markup=False)  # Brackets in a folder's name are no colours.
    rates = [TextColumn('{task.fields[rate]}')] if unit else []
    columns = (name, BarColumn(), MofNCompleteColumn(), *rates, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        title = printable(title)
        task = bar.add_task(title, total=None, visible=False, rate='')  # Seen from the first report on.
        start = said = time.monotonic()
        first: int | None = None

        def report(done: int, total: int) -> None:
            nonlocal said, first
            now = time.monotonic()
            first = done if first is None else first  # What an earlier run did took no time of this one.
            speed = (done - first) / max(now - start, 1e-6)
            rate = f'{speed:.1f} {unit}/s' if unit and speed else ''
            bar.update(task, completed=done, total=total, visible=True, rate=rate)
            if not console.is_terminal and now - said > SECONDS_BETWEEN_LINES:
                said = now
                left = f'{(total - done) / speed:.0f} s left' if speed else ''
                counted = f'{title}: {done} of {total}{f" {unit}" if unit else ""}'
                print(', '.join(part for part in (counted, rate, left) if part), flush=True)

        yield report
