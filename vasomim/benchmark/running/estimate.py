"""Predict the cost of a plan from timed short runs, one per distinct config."""

from __future__ import annotations

import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vasomim.benchmark.running.executor import Executor, Running
from vasomim.benchmark.running.timing import Timing, measure, read_timing, timing_file
from vasomim.benchmark.study.jobs import PRETRAIN, Job
from vasomim.errors import TrainingError


@dataclass(frozen=True)
class Estimate:
    """The predicted cost of the jobs that are left.

    Attributes:
        seconds: By name of the job; absent where nothing is known (a function).
        memory_gb: The largest of the jobs.
        disk_gb: Of all of them.
        wall: Seconds until the last one ends.
        hours: Hours of work: of one accelerator each, or of the cores of a process.
    """

    seconds: dict[str, float]
    memory_gb: float
    disk_gb: float
    wall: float
    hours: float


def time_jobs(
    jobs: Iterable[Job], executor: Executor, folder: Path, device: str, say: Callable[[str], None]
) -> dict[str, Timing]:
    """Return the timing of each job by its name, timing what is not known yet.

    Raises:
        TrainingError: If a short run fails: the jobs would fail as well.
    """
    files: dict[Path, Job] = {}
    names: dict[str, Path] = {}
    for job in jobs:
        if job.config:
            path = timing_file(folder, distinct(job), device, job.threads, executor.slots, job.processes)
            files.setdefault(path, job)
            names[job.name] = path
    unknown = [path for path in files if read_timing(path) is None]
    if unknown:
        say(f'timing {len(unknown)} configs, a few iterations each')
    running: dict[Path, Running] = {}
    waiting = list(unknown)
    while waiting or running:
        while waiting and len(running) < executor.slots:
            path = waiting.pop(0)
            job = files[path]
            log = path.with_suffix('.txt')
            log.unlink(missing_ok=True)
            also = {name: other['config'] for name, other in job.also.items()}
            running[path] = executor.start(partial(measure, job.config, also, path, job.processes), log)
        for path, process in list(running.items()):
            status = process.poll()
            if status is None:
                continue
            del running[path]
            if status != 0:
                for other in running.values():
                    other.stop()
                raise TrainingError(
                    files[path].title,
                    f'a short run of its config failed ({tail(path.with_suffix(".txt"))}).',
                    f'See {path.with_suffix(".txt")}; its cells would fail as well. --no-estimate skips this.',
                )
        time.sleep(0.05)
    timings = {name: read_timing(path) for name, path in names.items()}
    return {name: timing for name, timing in timings.items() if timing is not None}


def distinct(job: Job) -> str:
    """Return a config, with those of its further tests, without the seed, which costs nothing."""
    texts = [job.config, *(other['config'] for other in job.also.values())]
    return '\n'.join(line for text in texts for line in text.splitlines() if not line.startswith('randomness'))


def tail(path: Path) -> str:
    """Return the last line of a log."""
    lines = path.read_text(encoding='utf-8', errors='replace').strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else 'it printed nothing'


def estimate(jobs: Iterable[Job], timings: dict[str, Timing], slots: int) -> Estimate:
    """Sum up, with the order in which a run starts jobs."""
    jobs = list(jobs)
    seconds = {job.name: timings[job.name].seconds for job in jobs if job.name in timings}
    known = [timings[name] for name in seconds]
    ready: dict[str, float] = {}
    lanes = [0.0] * slots
    for job in sorted(jobs, key=lambda job: job.kind != PRETRAIN):
        lane = min(range(slots), key=lambda index: lanes[index])
        begin = max(lanes[lane], ready.get(job.pretraining or '', 0.0))
        lanes[lane] = ready[job.name] = begin + seconds.get(job.name, 0.0)
    return Estimate(
        seconds,
        max((timing.memory_gb for timing in known), default=0.0),
        sum(timing.disk_gb for timing in known),
        max(lanes),
        sum(seconds.get(job.name, 0.0) * job.processes for job in jobs) / 3600,
    )


def with_predictions(jobs: Iterable[Job], found: Estimate) -> list[Job]:
    """Return jobs that know what they were predicted to take."""
    return [replace(job, predicted=found.seconds.get(job.name)) for job in jobs]


def device_here(gpus: tuple[str, ...]) -> str:
    """Return what timings are kept for: the machine's processor, or its accelerators."""
    if gpus or os.path.exists('/dev/nvidia0'):
        return f'gpu {platform.node()}'
    return f'{platform.machine()} {os.cpu_count()} cores {platform.node()}'


def cost_line(jobs: int, found: Estimate, accelerated: bool) -> str:
    """Return the predicted cost of some jobs in words."""
    if not jobs:
        return 'nothing is left to run'
    if not found.seconds:
        return f'{jobs} jobs; their cost was not predicted'
    unit = 'GPU-hours' if accelerated else 'hours of work'
    return (
        f'{jobs} jobs: {found.hours:.2f} {unit}, {duration(found.wall)} from start to end, '
        f'up to {found.memory_gb:.1f} GB of memory a job, {found.disk_gb:.2f} GB of disk'
    )


def duration(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    whole = math.ceil(seconds)
    return f'{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}'


def free_gb(folder: Path) -> float:
    """Return the free GB where a folder is, or will be."""
    while not folder.is_dir():
        folder = folder.resolve().parent
    return shutil.disk_usage(folder).free / 1e9
