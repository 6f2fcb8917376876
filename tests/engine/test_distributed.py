"""Two real processes: what one of them finds, both know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, sys, torch
from conftest import ToyFrames, ToyModel, runner_config
from vasomim.engine import PretrainRunner
from vasomim.errors import TrainingError

work_dir, broken = sys.argv[1:]
rank = int(os.environ['RANK'])
# Without shuffling, rank 0 sees the even frames and rank 1 the odd ones.
config = runner_config(work_dir, batch=2, model=ToyModel(broken_frame=broken), launcher='pytorch',
                       hooks={'skipped': {'type': 'SkippedFramesHook'}},
                       auto_scale_lr=dict(enable=True, base_batch_size=8))
config['train_dataloader'].update(dataset=ToyFrames(12, skipped={rank: [f'bad{rank}.png']}),
                                  sampler={'type': 'DefaultSampler', 'shuffle': False})
runner = PretrainRunner(**config)
try:
    runner.train()
except TrainingError as error:
    told = f'rank {rank}: {error}\\n'
else:
    told = ''
# A file for each process: lines that both print at once may run into each other.
with open(f'{work_dir}.rank{rank}', 'w') as file:
    file.write(told + f'rank {rank} draws {torch.rand(1).item():.6f}\\n')
"""


def run(tmp_path: Path, broken: str) -> list[str]:
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone', str(program)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests' / 'engine')])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    arguments = [*command, str(tmp_path / 'run'), broken]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = [Path(f'{tmp_path / "run"}.rank{rank}').read_text() for rank in (0, 1)]
    return [*done.stdout.splitlines(), *''.join(told).splitlines()]


@pytest.mark.slow
def test_nan_in_one_process_ends_both_before_a_checkpoint(tmp_path):
    lines = run(tmp_path, broken='frames/009.png')
    for rank in (0, 1):
        found = next(line for line in lines if line.startswith(f'rank {rank}: '))
        assert found.startswith(f'rank {rank}: iteration 3 (epoch 1): loss is nan')
        assert 'Frames of that batch: frames/009.png, frames/011.png.' in found
    assert (tmp_path / 'run' / 'nonfinite_batch.txt').read_text().split() == ['frames/009.png', 'frames/011.png']
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.slow
def test_two_processes_train_and_report_together(tmp_path):
    lines = run(tmp_path, broken='none')
    assert lines.count('learning rate 1.0e-01 x 4/8 = 5.00e-02 (batch 2 x 2 processes x 1 accumulation step)') == 1
    assert sum(line.startswith('epoch 2/2  loss') for line in lines) == 1
    assert (tmp_path / 'run' / 'skipped_frames.txt').read_text().split() == ['bad0.png', 'bad1.png']
    drawn = {line for line in lines if ' draws ' in line}
    assert len({line.split()[-1] for line in drawn}) == 2  # each process draws masks of its own
