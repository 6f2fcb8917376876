"""The functions behind ``vasomim benchmark VERB``: plan a study, run it, follow it, report, submit and verify it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vasomim.benchmark.reporting.pages import PICTURES, check_pages, write_leaderboard
from vasomim.benchmark.reporting.panels import draw
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.running.claims import Claim
from vasomim.benchmark.running.estimate import cost_line, duration, free_gb
from vasomim.benchmark.running.executor import in_fork
from vasomim.benchmark.running.machines import Machines
from vasomim.benchmark.running.ready import Ready, Say, get_ready, silent
from vasomim.benchmark.running.run import Progress, compare, left_of, run_jobs, write_queue
from vasomim.benchmark.running.status import Status, read_status
from vasomim.benchmark.study.choosing import Choice, Places, default_study
from vasomim.benchmark.study.entries import Entries, Protocol
from vasomim.benchmark.study.jobs import Job
from vasomim.benchmark.study.left_behind import left_behind
from vasomim.benchmark.submission.archive import Archive
from vasomim.benchmark.submission.pack import pack
from vasomim.benchmark.submission.verify import Verification
from vasomim.benchmark.submission.verify import verify as compute_again
from vasomim.errors import ConfigError
from vasomim.files import require_writable


@dataclass(frozen=True)
class PlannedJob:
    """A pre-training or a cell.

    Attributes:
        title: For people.
        name: Hash of what it depends on.
        state: 'to run', 'finished' or 'not needed'.
        seconds: Predicted; None where that is not known.
    """

    title: str
    name: str
    state: str
    seconds: float | None


@dataclass(frozen=True)
class PlannedStudy:
    """What a study asks for, and what it would cost.

    Attributes:
        title: Of the study.
        jobs: Pre-trainings first, then cells.
        cells: Number of cells.
        pretrainings: Number of pre-trainings.
        damaged: A line for each result on disk that is damaged, and would be computed again.
        left_behind: How many finished cells would be computed anew because of other inputs; None where none would.
        problems: What is missing on disk or does not fit, so that it cannot run.
        lacking_disk: How much disk is needed and free, where that is too little; '' elsewhere.
        cost: The predicted cost in words; None where there are problems.
        work_dir: Holds the resolved configs, ``cells/NAME/config.py`` and ``pretrainings/NAME/config.py``.
    """

    title: str
    jobs: tuple[PlannedJob, ...]
    cells: int
    pretrainings: int
    damaged: tuple[str, ...]
    left_behind: str | None
    problems: tuple[str, ...]
    lacking_disk: str
    cost: str | None
    work_dir: Path


@dataclass(frozen=True)
class StudyRun:
    """What became of the jobs of a run.

    Attributes:
        finished: Number of jobs that it finished.
        failed: That failed.
        blocked: That were not run, because their pre-training failed.
        by_others: That another run finished meanwhile.
        pages: The leaderboard's files that it wrote: those of a smoke run.
    """

    finished: int
    failed: int
    blocked: int
    by_others: int
    pages: tuple[Path, ...] = ()


@dataclass(frozen=True)
class VerifiedSubmission:
    """What came of a verification.

    Attributes:
        study: Name of the study.
        whole: Whether all of it was asked for.
        found: What was computed again, and what differs.
    """

    study: str
    whole: bool
    found: Verification


def plan(
    protocol: str | None = None,
    *,
    entries: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    label_fractions: Sequence[float | str] | None = None,
    smoke: bool = False,
    results: str | Path | None = None,
    work_dir: str | Path | None = None,
    data: str | Path | None = None,
    machines: Machines | None = None,
    estimated: bool = True,
    say: Say = silent,
) -> PlannedStudy:
    """List the cells of a study, what is missing on disk, and the predicted cost.

    Args:
        protocol: Name of the study: a file of ``benchmark/protocols``; None means 'main', of a smoke run 'smoke'.
        entries: Files of further tasks, methods and protocols.
        only: Which cells, ``KEY=VALUE`` each: task, method, seed, label_fraction.
        seeds: Number of seeds, >= 1; None means those of the protocol.
        label_fractions: Shares of the training labels, in (0, 1]; None means those of the protocol.
        smoke: Whether to take simulated data and tiny models.
        results: Folder of the results; None means ``benchmark/results``.
        work_dir: Where jobs train; None means ``work_dirs/benchmark``.
        data: Takes the place of ``data/`` in the entries.
        machines: Where jobs run; None means one job at a time, here.
        estimated: Whether to time short runs, once for each config and machine, to predict the cost.
        say: Gets a line on what is going on.

    Raises:
        ConfigError: If an entry or an argument is wrong.
        TrainingError: If a short run fails.
        StorageError: If nothing can be written in the work directory.
    """
    machines, places = machines or Machines(), Places.of(results, work_dir, smoke)
    choice = Choice(protocol, entries, only, seeds, label_fractions)
    ready = get_ready(choice, smoke, places, data, machines, False, say)
    made, store = ready.plan, ready.store
    damaged = tuple(str(damage) for damage in store.damaged(ready.entries.averaged))
    for line in damaged:
        say(f'damaged: {line}')
    left = made.jobs if damaged else left_of(made.jobs)
    names = {job.name for job in left}
    seconds: dict[str, float] = {}
    cost, lacking = None, ''
    if not made.problems:
        jobs, found = ready.estimated(left, estimated, say)
        seconds, cost = found.seconds, cost_line(len(jobs), found, machines.accelerated)
        free = free_gb(places.work_dir)
        if found.disk_gb > free:
            lacking = f'{found.disk_gb:.1f} GB of disk are needed, {free:.1f} GB are free at {places.work_dir}'
    for job in made.jobs:
        if job.config:
            job.write()
    return PlannedStudy(
        title=made.protocol.title,
        jobs=tuple(PlannedJob(job.title, job.name, state_of(job, names), seconds.get(job.name)) for job in made.jobs),
        cells=len(made.cells),
        pretrainings=len(made.pretrainings),
        damaged=damaged,
        left_behind=left_behind(ready.whole, store),
        problems=tuple(str(problem) for problem in made.problems),
        lacking_disk=lacking,
        cost=cost,
        work_dir=places.work_dir,
    )


def state_of(job: Job, left: set[str]) -> str:
    """Return what a plan says of a job, given the names of those that are left."""
    return 'to run' if job.name in left else 'finished' if job.finished() else 'not needed'


def run(
    protocol: str | None = None,
    *,
    entries: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    label_fractions: Sequence[float | str] | None = None,
    smoke: bool = False,
    results: str | Path | None = None,
    work_dir: str | Path | None = None,
    data: str | Path | None = None,
    machines: Machines | None = None,
    estimated: bool = True,
    say: Say = silent,
) -> StudyRun:
    """Carry out what is left of a study; a failed job takes no other down. Of a smoke run, write the pages too.

    Args:
        protocol: As of :func:`plan`, and so are all others.
        entries: Files of further tasks, methods and protocols.
        only: Which cells.
        seeds: Number of seeds.
        label_fractions: Shares of the training labels.
        smoke: Whether to take simulated data and tiny models.
        results: Folder of the results.
        work_dir: Where jobs train.
        data: Takes the place of ``data/`` in the entries.
        machines: Where jobs run.
        estimated: Whether to time short runs beforehand.
        say: Gets a line whenever something ends.

    Raises:
        ConfigError: If an entry or an argument is wrong, or data or checkpoints are missing.
        TrainingError: If a short run fails.
        StorageError: If results cannot be written; what is finished is kept.
    """
    begun = time.monotonic()
    machines, places = machines or Machines(), Places.of(results, work_dir, smoke)
    choice = Choice(protocol, entries, only, seeds, label_fractions)
    ready = get_ready(choice, smoke, places, data, machines, True, say)
    made, store = ready.plan, ready.store
    if made.problems:
        listed = '\n    '.join(str(problem).replace('\n', ' ') for problem in made.problems)
        raise ConfigError(
            f'protocol {made.protocol.name}',
            f'{len(made.problems)} things are missing:\n    {listed}',
            'Provide them, or choose cells that can run by --only task=NAME.',
        )
    for path, error in store.set_aside_damaged(ready.entries.averaged):
        say(f'set aside as {path}: {error.what} Its cell is computed again.')
    if lost := left_behind(ready.whole, store):
        say(lost)
    store.write_study(ready.whole.protocol.name, {cell.place: cell.name for cell in ready.whole.cells})
    jobs, found = ready.estimated(left_of(made.jobs), estimated, say)
    done = len(made.cells) - sum(job.kind == 'cell' for job in jobs)
    cost = cost_line(len(jobs), found, machines.accelerated)
    say(f'{len(made.cells)} cells, {done} of them finished before; {cost}')
    started = time.monotonic()
    progress = carry_out(ready, jobs, say)
    say(
        f'{len(progress.finished)} jobs finished, {len(progress.failed)} failed, {len(progress.blocked)} not run, '
        f'{len(progress.by_others)} done by another run; {duration(time.monotonic() - begun)} in all'
    )
    for line in compare(progress, time.monotonic() - started, found.wall if found.seconds else None):
        say(line)
    pages: list[Path] = []
    if smoke:  # What was chosen only.
        draw_pictures(store, places.work_dir, places.pages, made.protocol, ready.entries, say)
        pages = write_leaderboard(store, places.pages, made.protocol, ready.entries)
    return StudyRun(
        len(progress.finished), len(progress.failed), len(progress.blocked), len(progress.by_others), tuple(pages)
    )


def carry_out(ready: Ready, jobs: list[Job], say: Say) -> Progress:
    """Run jobs, while another process can see how far they are.

    Args:
        ready: The study.
        jobs: Those that are left.
        say: Gets a line whenever something ends.
    """
    by_name = {job.name: job for job in jobs}
    alive = (ready.places.work_dir / 'runs' / f'{socket.gethostname()}-{os.getpid()}').resolve()
    queue = [by_name.get(job.name, job) for job in ready.plan.jobs]
    with Claim(alive):  # Before `status` can know of it.
        write_queue(ready.places.queue, queue, ready.executor.slots, alive)
        progress = run_jobs(jobs, ready.executor, say)
    alive.unlink(missing_ok=True)
    return progress


def status(work_dir: str | Path | None = None, *, smoke: bool = False) -> Status:
    """Return how far the last run of a work directory is.

    Args:
        work_dir: As of :func:`run`.
        smoke: As of :func:`run`.

    Raises:
        ConfigError: If nothing has run there, or its file is damaged.
    """
    return read_status(Places.of(None, work_dir, smoke).queue)


def report(
    protocol: str | None = None,
    *,
    entries: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    label_fractions: Sequence[float | str] | None = None,
    smoke: bool = False,
    results: str | Path | None = None,
    work_dir: str | Path | None = None,
    pictures: bool = False,
    output: str | Path | None = None,
    say: Say = silent,
) -> tuple[Path, ...]:
    """Write the leaderboard from the results.

    Args:
        protocol: As of :func:`plan`.
        entries: Files of further tasks, methods and protocols.
        only: Which cells.
        seeds: Number of seeds.
        label_fractions: Shares of the training labels.
        smoke: Whether the results are those of a smoke run.
        results: Folder of the results.
        work_dir: Where jobs trained.
        pictures: Whether the fine-tuned models that are still in the work directory predict simulated frames.
        output: Folder of the pages; None means ``leaderboard/`` beside the results.
        say: Gets a line if pictures could not be drawn.

    Returns:
        The files of the pages.

    Raises:
        ConfigError: If an entry or an argument is wrong, or the folder holds pages of more than this.
        StoreError: If a result is damaged.
        StorageError: If a page cannot be written.
    """
    places = Places.of(results, work_dir, smoke)
    every, _, study = Choice(protocol, entries, only, seeds, label_fractions).load(default_study(smoke))
    folder = Path(output or places.pages)
    require_writable(folder / 'LEADERBOARD.md')
    check_pages(folder, study)
    store = Store(places.results)
    if pictures:
        draw_pictures(store, places.work_dir, folder, study, every, say)
    return tuple(write_leaderboard(store, folder, study, every))


def draw_pictures(store: Store, work_dir: Path, folder: Path, protocol: Protocol, entries: Entries, say: Say) -> None:
    """Draw what the models see for the leaderboard's page, in a process of its own, whose failure costs no figures."""
    log = work_dir / 'pictures.txt'
    if in_fork(partial(draw, store, work_dir, folder / PICTURES, protocol, entries), log) != 0:
        say(f'the pictures could not be drawn: see {log}')


def submit(
    zip: str | Path,
    *,
    protocol: str | None = None,
    entries: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    label_fractions: Sequence[float | str] | None = None,
    smoke: bool = False,
    results: str | Path | None = None,
    work_dir: str | Path | None = None,
) -> int:
    """Pack predictions, results and environment into a zip file.

    Args:
        zip: File to write.
        protocol: As of :func:`plan`.
        entries: Files of further tasks, methods and protocols.
        only: Which cells.
        seeds: Number of seeds.
        label_fractions: Shares of the training labels.
        smoke: Whether the results are those of a smoke run.
        results: Folder of the results.
        work_dir: Where jobs trained.

    Returns:
        The number of cells in it.

    Raises:
        ConfigError: If an entry or an argument is wrong, or no finished cell is chosen.
        StoreError: If results are damaged, or predictions are missing.
        StorageError: If the file cannot be written.
    """
    require_writable(zip)
    places = Places.of(results, work_dir, smoke)
    every, _, study = Choice(protocol, entries, only, seeds, label_fractions).load(default_study(smoke))
    return pack(Path(zip), places.results, places.work_dir, study, every)


def verify(
    zip: str | Path,
    *,
    protocol: str | None = None,
    entries: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    label_fractions: Sequence[float | str] | None = None,
    data: str | Path | None = None,
    tolerance: float = 1e-6,
) -> VerifiedSubmission:
    """Compute every score of a zip file again, and find what differs from it or from the study.

    Args:
        zip: File that :func:`submit` wrote.
        protocol: Name of the study; None means the one that the file names.
        entries: Files of further tasks, methods and protocols.
        only: Which cells.
        seeds: Number of seeds.
        label_fractions: Shares of the training labels.
        data: Takes the place of ``data/`` in the entries.
        tolerance: Largest difference of a score, >= 0.

    Raises:
        ConfigError: If an entry or an argument is wrong.
        StoreError: If the file is no submission.
    """
    if not 0 <= tolerance < float('inf'):
        raise ConfigError('--tolerance', f'{tolerance} is no difference of scores.', 'Take a number such as 1e-6.')
    choice = Choice(protocol, entries, only, seeds, label_fractions)
    with Archive(Path(zip)) as archive:
        every, whole, part = choice.load(archive.manifest['study'])
        found = compute_again(archive, part, every, None if data is None else str(data), tolerance)
    return VerifiedSubmission(whole.name, part == whole, found)
