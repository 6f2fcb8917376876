"""What planning and running share: entries, data of a smoke run, the libraries, the plan, what starts its jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vasomim.benchmark.results.store import STUDIES, Store
from vasomim.benchmark.running.estimate import Estimate, estimate, time_jobs, with_predictions
from vasomim.benchmark.running.executor import Executor, in_fork, warm_up
from vasomim.benchmark.running.machines import Machines
from vasomim.benchmark.study import smoke as simulated
from vasomim.benchmark.study.choosing import Choice, Places, default_study
from vasomim.benchmark.study.entries import Entries, Protocol
from vasomim.benchmark.study.jobs import Job
from vasomim.benchmark.study.plan import Plan, Settings, make_plan
from vasomim.errors import ConfigError
from vasomim.files import require_writable

Say = Callable[[str], None]
"""Gets a line on what is going on."""


def silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Ready:
    """A study that can be run.

    Attributes:
        entries: All tasks and methods.
        plan: What was chosen of the study.
        whole: The plan of all of it, by which a report leaves out cells of earlier settings.
        executor: Starts its jobs.
        store: Its results.
        places: Where they are.
        machines: Where it runs.
    """

    entries: Entries
    plan: Plan
    whole: Plan
    executor: Executor
    store: Store
    places: Places
    machines: Machines

    def estimated(self, jobs: list[Job], timed: bool, say: Say) -> tuple[list[Job], Estimate]:
        """Return jobs with what each will take, and the sum.

        Args:
            jobs: Those that are left.
            timed: Whether to time short runs of what was not timed yet.
            say: Gets a line before it takes long.

        Raises:
            TrainingError: If a short run fails.
        """
        folder = (self.places.work_dir / 'timings').resolve()
        timings = time_jobs(jobs, self.executor, folder, self.machines.device, say) if timed else {}
        found = estimate(jobs, timings, self.executor.slots)
        return with_predictions(jobs, found), found


def get_ready(
    choice: Choice, smoke: bool, places: Places, data: str | Path | None, machines: Machines, writes: bool, say: Say
) -> Ready:
    """Read the entries, simulate the data of a smoke run, load the libraries, and make the plan.

    Args:
        choice: The study.
        smoke: Whether its data are simulated.
        places: Where it reads and writes.
        data: Takes the place of ``data/`` in the entries.
        machines: Where jobs run.
        writes: Whether results will be written.
        say: Gets a line before it takes long.

    Raises:
        ConfigError: If an entry or an option is wrong.
        StorageError: If nothing can be written where the run would write.
    """
    entries, _, protocol = choice.load(default_study(smoke))
    require_writable(places.queue)  # Before what takes minutes.
    if writes:
        require_writable(places.results / STUDIES / f'{protocol.name}.json')
    executor, threads = machines.start(places.work_dir)
    if smoke:
        data = data or places.work_dir / 'data'
        simulate(entries, protocol, Path(data), say)
    if needs_libraries(entries, protocol):
        say('loading PyTorch and the OpenMMLab libraries once for all jobs')
        warm_up()
    settings = Settings(
        places.results,
        places.work_dir,
        None if data is None else str(data),
        tuple(map(str, choice.entries)),
        threads,
        machines.processes,
    )
    found = make_plan(entries, protocol, settings)
    whole = found if protocol.whole is None else make_plan(entries, protocol.whole, settings)
    return Ready(entries, found, whole, executor, Store(places.results), places, machines)


def needs_libraries(entries: Entries, protocol: Protocol) -> bool:
    """Return whether anything is trained: a task that is a function may do without."""
    kinds = {entries.method(name).kind for name in protocol.methods}
    return 'pretrain' in kinds or any(entries.task(name).config is not None for name in protocol.tasks)


def simulate(entries: Entries, protocol: Protocol, root: Path, say: Say) -> None:
    """Make the data of a smoke run, in a process of its own, as it uses threads.

    Raises:
        ConfigError: If that fails.
    """
    log = root.parent / 'simulate.txt'
    say(f'simulating angiograms in {root}')
    begun = time.monotonic()
    if in_fork(partial(simulated.simulate, entries, protocol, root), log) != 0:
        raise ConfigError(log, 'the simulation failed.', 'Read this file.')
    say(f'simulated in {time.monotonic() - begun:.0f} s')
