"""Studies that tests run by the real command: the smoke protocol, as small as it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from vasomim.benchmark.study.loading import load_entries
from vasomim.benchmark.study.smoke import simulate

ROOT = Path(__file__).parents[2]
ENTRIES = 'mine.yaml'
COMMON = ('--entries', ENTRIES, '--protocol', 'tiny', '--data', 'data')


def smoke_protocol(tasks: list[str], methods: list[str], frames: dict[str, int], epochs: int) -> dict:
    """The smoke protocol with fewer cells, frames and epochs."""
    smoke = yaml.safe_load((ROOT / 'benchmark' / 'protocols' / 'smoke.yaml').read_text())
    smoke |= {'name': 'tiny', 'tasks': tasks, 'methods': methods, 'seeds': [0]}
    smoke['synthetic']['frames'] = frames
    del smoke['pretraining']['options']['vasomim'], smoke['smoke']
    smoke['pretraining']['options']['all'] |= {'train_cfg.max_epochs': epochs}
    smoke['finetuning']['options']['all'] |= {'train_cfg.max_epochs': epochs}
    return smoke


def prepare(folder: Path, protocol: dict, methods: list[dict]) -> None:
    """Write the entries of a study, and simulate its data."""
    (folder / ENTRIES).write_text(yaml.safe_dump({'methods': methods, 'protocols': [protocol]}))
    entries = load_entries([folder / ENTRIES])
    simulate(entries, entries.protocol('tiny'), folder / 'data', 2)


def benchmark(*arguments: str, cwd: Path, **variables: str) -> subprocess.Popen:
    """Start the command."""
    command = [sys.executable, str(ROOT / 'benchmark' / 'run.py'), *arguments]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **variables}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for a command that has to succeed, and return what it printed."""
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output
