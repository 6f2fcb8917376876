"""Carry out a plan: pre-trainings first, cells as their encoders appear, each in a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vasomim.benchmark.results.records import FAILED
from vasomim.benchmark.running.cells import BROKEN, DONE, FULL, TAKEN, death, execute, record_failure
from vasomim.benchmark.running.claims import Claim, held
from vasomim.benchmark.running.environment import now
from vasomim.benchmark.running.estimate import tail
from vasomim.benchmark.running.executor import Executor, Running
from vasomim.benchmark.study.jobs import PRETRAIN, Job
from vasomim.errors import StorageError
from vasomim.files import write_whole

PAUSE = 0.05  # Seconds between two looks at the processes.
PATIENCE = 2.0  # Seconds between two looks at what another run works on.


@dataclass
class Progress:
    """What became of the jobs, by name."""

    finished: list[Job] = field(default_factory=list)
    failed: list[Job] = field(default_factory=list)
    blocked: list[Job] = field(default_factory=list)
    by_others: list[Job] = field(default_factory=list)

    @property
    def settled(self) -> set[str]:
        """Names of the jobs that nothing more happens to."""
        return {job.name for part in (self.finished, self.failed, self.blocked, self.by_others) for job in part}


def left_of(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs whose results are not there; a pre-training counts only if one of its cells does."""
    unfinished = [job for job in jobs if job.kind != PRETRAIN and not job.finished()]
    needed = {job.pretraining for job in unfinished}
    return [job for job in jobs if job.kind == PRETRAIN and job.name in needed and not job.finished()] + unfinished


def run_jobs(jobs: Sequence[Job], executor: Executor, say: Callable[[str], None]) -> Progress:
    """Carry out jobs; a failed one takes no other down.

    Args:
        jobs: Those without results; cells after the pre-trainings that they name.
        executor: Where they run.
        say: Gets a line whenever something ends.

    Raises:
        StorageError: If results cannot be written any more; what is finished is kept.
    """
    progress = Progress()
    waiting = list(jobs)
    running: dict[str, tuple[Job, Running]] = {}
    later: dict[str, float] = {}  # By name of a job that another run works on: when to look again.
    written: set[str] = set()
    try:
        while waiting or running:
            moved = False
            for job in list(waiting):
                if len(running) >= executor.slots:
                    break
                ready = state(job, jobs, progress)
                if ready is False:
                    waiting.remove(job)
                    progress.blocked.append(job)
                    say(f'not run  {job.title}: its pre-training failed')
                elif ready and later.get(job.name, 0.0) <= time.monotonic():
                    waiting.remove(job)
                    if job.name in later and job.finished():
                        progress.by_others.append(job)
                        continue
                    if job.name in later and held(job.claim):
                        waiting.append(job)
                        later[job.name] = time.monotonic() + PATIENCE
                        continue
                    if job.name not in written:
                        job.write()
                        written.add(job.name)
                    start = partial(execute, job.folder / 'job.json')
                    running[job.name] = (job, executor.start(start, job.log, job.processes))
                    moved = True
            for name, (job, process) in list(running.items()):
                status = process.poll()
                if status is None:
                    continue
                del running[name]
                moved = True
                if status == TAKEN:
                    waiting.append(job)
                    later[name] = time.monotonic() + PATIENCE
                else:
                    settle(job, status, process.reason, progress, say)
            if not moved:
                time.sleep(PAUSE)
    finally:
        for _, process in running.values():
            process.stop()
    return progress


def state(job: Job, jobs: Sequence[Job], progress: Progress) -> bool | None:
    """Return whether a job can start: None while its pre-training is to be waited for, False if that failed."""
    if job.pretraining is None or all(other.name != job.pretraining for other in jobs):
        return True
    if job.pretraining in {other.name for other in (*progress.finished, *progress.by_others)}:
        return True
    return False if job.pretraining in progress.settled else None


def settle(job: Job, status: int, reason: str | None, progress: Progress, say: Callable[[str], None]) -> None:
    """Note how a job ended, and record the failure of one that could not do it itself.

    Args:
        job: The job.
        status: Exit status of its process, negative for a signal.
        reason: What its cluster says of the end, None where there is none.
        progress: Gets it.
        say: Gets a line.

    Raises:
        StorageError: If the disk is full.
    """
    if status == FULL:
        raise StorageError(job.results, f'{tail(job.log)}', 'Free space, and run again; what is finished is kept.')
    if status == DONE:
        progress.finished.append(job)
        say(f'finished {job.title}{figures(job)}')
        return
    if status != BROKEN:
        with Claim(job.claim) as claim:
            record_failure(job, death(status, reason), claim.seconds if claim is not None else 0.0, now())
    progress.failed.append(job)
    record = job.record()
    error = record.error if record is not None and record.error else {'kind': 'unknown', 'message': ''}
    first = error['message'].partition('\n')[0]
    say(f'FAILED   {job.title}: {error["kind"]}: {first}\n         log: {job.log}')


def figures(job: Job) -> str:
    """Return the scores of a finished job, and its time beside what was predicted."""
    record = job.record()
    if record is None:
        return ''
    scores = getattr(record, 'scores', {})
    shown = ''.join(f'  {key} {"undefined" if value is None else f"{value:.4f}"}' for key, value in scores.items())
    seconds = record.cost['seconds']
    return f'{shown}  ({seconds:.0f} s{f", predicted {job.predicted:.0f}" if job.predicted else ""})'


def compare(progress: Progress, wall: float, predicted_wall: float | None) -> list[str]:
    """Return lines with the predicted and the actual cost of what ran."""
    rows = []
    for kind in ('pretraining', 'cell'):
        jobs = [job for job in progress.finished if job.kind == kind and job.predicted is not None]
        if not jobs:
            continue
        predicted = sum(job.predicted or 0.0 for job in jobs)
        actual = 0.0
        for job in jobs:
            record = job.record()
            actual += record.cost['seconds'] if record is not None else 0.0
        label = 'pre-trainings' if kind == 'pretraining' else 'cells'
        rows.append(
            f'{len(jobs)} {label}: predicted {predicted:,.0f} s, took {actual:,.0f} s (x {actual / predicted:.2f})'
        )
    if predicted_wall:
        rows.append(f'whole run: predicted {predicted_wall:,.0f} s, took {wall:,.0f} s (x {wall / predicted_wall:.2f})')
    return rows


def failed_at(job: Job) -> str | None:
    """Return when a job failed in an earlier run, None if it did not."""
    record = job.record()
    return record.finished if record is not None and record.status == FAILED else None


def write_queue(path: Path, jobs: Sequence[Job], slots: int, run: Path) -> None:
    """Write what `benchmark status` reads: the jobs of the last run with their claims and predicted times.

    Args:
        path: The file.
        jobs: All jobs of the plan.
        slots: Jobs at once.
        run: Claim that the run itself holds while it lasts.
    """
    rows = [
        {
            'kind': job.kind,
            'name': job.name,
            'title': job.title,
            'results': str(job.results),
            'claim': str(job.claim),
            'predicted': job.predicted,
            'log': str(job.log),
            'pretraining': job.pretraining,
            'failed': failed_at(job),
        }
        for job in jobs
    ]
    write_whole(path, json.dumps({'slots': slots, 'run': str(run), 'jobs': rows}, indent=1) + '\n')
