"""Many frames through extraction, packing and an epoch, and the memory of each process: ``python benchmark/scale.py``.

The frames are simulated, each repeated with noise of its own, so that no two files are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from vasomim.cores import cores
from vasomim.synthetic import simulate_frame

DISTINCT = 100
NOISE = 6.0  # grey levels, standard deviation
WARM_UP = 0.25  # Share of a process's life in which it imports, fills its queues and opens its shards.
SHORTEST = 12  # Samples: below that a process has no course to speak of.


@dataclass(frozen=True)
class Sample:
    """Memory of one process at one moment.

    Attributes:
        pid: The process.
        seconds: Time since its command started.
        own: What it holds by itself and has to be kept (RssAnon + RssShmem), MB.
        mapped: Pages of files that it looks at, which the system takes back when it needs them (RssFile), MB.
    """

    pid: int
    seconds: float
    own: float
    mapped: float


@dataclass(frozen=True)
class Course:
    """Memory of one process over its life, MB.

    Attributes:
        stage: The command.
        process: 'main', or 'child 1', 'child 2', ... in the order in which they appeared.
        seconds: How long it lived.
        early: Median of what it holds itself in the second quarter of its life.
        late: The same in the last quarter.
        most: The largest value of all.
        mapped: The most pages of files.
    """

    stage: str
    process: str
    seconds: float
    early: float
    late: float
    most: float
    mapped: float

    @property
    def growth(self) -> float:
        """How much more it holds late than early, MB."""
        return self.late - self.early


def course_of(stage: str, process: str, samples: Sequence[Sample]) -> Course | None:
    """Sum up the samples of one process; None for one that lived too short to have a course."""
    if len(samples) < SHORTEST:
        return None
    first, last = samples[0].seconds, samples[-1].seconds
    life = last - first

    def between(begin: float, end: float) -> float:
        return statistics.median(s.own for s in samples if begin <= (s.seconds - first) / life <= end)

    return Course(
        stage=stage,
        process=process,
        seconds=life,
        early=between(WARM_UP, 0.5),
        late=between(0.75, 1.0),
        most=max(sample.own for sample in samples),
        mapped=max(sample.mapped for sample in samples),
    )


def write_frames(folder: Path, number: int, side: int) -> None:
    """Write frames as PNG files in series of 100; those that are there stay.

    Args:
        folder: Where they go.
        number: How many.
        side: Height and width, pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    distinct = [
        cv2.resize(simulate_frame(seed).image, (side, side), interpolation=cv2.INTER_AREA) for seed in range(DISTINCT)
    ]
    for index in range(number):
        path = folder / f's{index // 100:04}_{index % 100:05}.png'
        if not path.exists():
            noise = np.random.default_rng(index).normal(0, NOISE, (side, side))
            noisy = (distinct[index % DISTINCT] + noise).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(path), noisy)


def watch(stage: str, arguments: Sequence[str], log: Path, interval: float) -> tuple[list[Course], float]:
    """Run ``vasomim`` with some arguments and sample the memory of its processes; return their courses and the seconds.

    Raises:
        RuntimeError: If the command fails.
    """
    started = time.monotonic()
    found: dict[int, list[Sample]] = defaultdict(list)
    with log.open('w', encoding='utf-8') as file:
        command = subprocess.Popen(
            [sys.executable, '-m', 'vasomim', *arguments], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        while command.poll() is None:
            for sample in samples_of(command.pid, time.monotonic() - started):
                found[sample.pid].append(sample)
            time.sleep(interval)
    if command.returncode != 0:
        raise RuntimeError(f'{stage} ended with status {command.returncode}; see {log}.')
    names = ['main', *(f'child {number}' for number in range(1, len(found)))]
    order = sorted(found, key=lambda pid: (pid != command.pid, found[pid][0].seconds, pid))
    courses = [course_of(stage, name, found[pid]) for name, pid in zip(names, order, strict=True)]
    return [course for course in courses if course is not None], time.monotonic() - started


def samples_of(session: int, seconds: float) -> list[Sample]:
    """Return the memory of all processes of a session, read from Linux's /proc; those that end are left out."""
    samples = []
    for folder in Path('/proc').iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # Behind the name, which may hold spaces: state, parent, group, session.
            if int((folder / 'stat').read_text().rpartition(')')[2].split()[3]) != session:
                continue
            status = dict(line.split(':', 1) for line in (folder / 'status').read_text().splitlines() if ':' in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if 'RssAnon' not in status:  # It has ended, and its parent has not asked for it yet.
            continue
        anonymous, mapped, shared = (int(status[key].split()[0]) / 1024 for key in ('RssAnon', 'RssFile', 'RssShmem'))
        samples.append(Sample(int(folder.name), seconds, anonymous + shared, mapped))
    return samples


def measure(root: Path, number: int, side: int, interval: float = 1.0) -> tuple[list[Course], dict[str, float]]:
    """Write frames, extract, pack and train an epoch of VasoMIM with ViT-Ti; return the courses and frames per second.

    Args:
        root: An own folder for data, logs and the run.
        number: How many frames.
        side: Their height and width, pixels.
        interval: Seconds between two samples.
    """
    frames = root / 'frames'
    write_frames(frames, number, side)
    options = {
        'model.backbone.arch': 'tiny',
        'model.neck.decoder_embed_dim': 128,
        'model.neck.decoder_depth': 2,
        'model.neck.decoder_num_heads': 4,
        'train_cfg.max_epochs': 1,
        'train_dataloader.batch_size': 64,
        'train_dataloader.num_workers': 2,
        'val_dataloader.num_workers': 1,
    }
    stages = {
        'extract': ['extract', str(frames), '--overwrite'],
        'pack': ['pack', str(frames), '--overwrite'],
        'train': [
            *('train', 'vasomim::pretrain/vasomim.py', '--data', f'{frames}.packed', '--overwrite'),
            *('--work-dir', str(root / 'run'), '--cfg-options', *(f'{key}={value}' for key, value in options.items())),
        ],
    }
    courses: list[Course] = []
    rates = {}
    for stage, arguments in stages.items():
        found, taken = watch(stage, arguments, root / f'{stage}.log', interval)
        courses += found
        rates[stage] = number / taken
    return courses, rates


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='an own folder for data, logs and scale.json')
    parser.add_argument('--frames', type=int, default=20_000, metavar='N', help='how many (default: %(default)s)')
    parser.add_argument('--side', type=int, default=512, metavar='PIXELS', help='height, width (default: %(default)s)')
    options = parser.parse_args()
    courses, rates = measure(options.folder, options.frames, options.side)
    table = Table('command', 'process', 'seconds', 'early MB', 'late MB', 'growth MB', 'most MB', 'mapped MB')
    for course in courses:
        values = (course.seconds, course.early, course.late, course.growth, course.most, course.mapped)
        table.add_row(course.stage, course.process, *(f'{value:.0f}' for value in values))
    Console().print(table)
    print(', '.join(f'{stage}: {rate:.1f} frames/s' for stage, rate in rates.items()))
    content = {
        'frames': options.frames,
        'side': options.side,
        'cores': cores(),
        'rates': rates,
        'courses': [{**asdict(course), 'growth': course.growth} for course in courses],
    }
    (options.folder / 'scale.json').write_text(json.dumps(content, indent=2) + os.linesep, encoding='utf-8')


if __name__ == '__main__':
    main()
