"""Trainings of a toy model in processes of their own, which are killed at chosen places and taken up again.

``python -m tests.engine.faults FOLDER`` runs every scenario of :data:`SCENARIOS`, each by forks of this process, and
leaves for each a folder with the losses of all iterations, the items that were read, exit statuses and checkpoints.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch.utils.data import Dataset

import vasomim.engine.runner
import vasomim.evaluation.pretraining_metrics
from tests.engine.conftest import ToyFrames, runner_config
from vasomim.checkpoints.runs import last_checkpoint
from vasomim.engine import PretrainRunner
from vasomim.engine.saving import SafeCheckpointHook

FRAMES, BATCH, EPOCHS = 24, 2, 3
PER_EPOCH = FRAMES // BATCH
EVERY = {'type': 'SafeCheckpointHook', 'interval': 1, 'minutes': 1e-9}  # After each iteration.
SPARSE = {'type': 'SafeCheckpointHook', 'by_epoch': False, 'interval': 5}  # Iterations get lost, and are repeated.
EPOCHWISE = {'type': 'SafeCheckpointHook', 'interval': 1}


@dataclass(frozen=True)
class Scenario:
    """A training and what happens to it.

    Attributes:
        kills: (hook point, iteration, signal) at which a start of the training sends itself a signal, one a start.
        checkpoint: How it saves.
        workers: Loader processes.
        ranks: Processes that train together.
        accumulation: Iterations for one step of the optimizer.
        from_outside: The signals come from the parent, to the whole process group, as a scheduler sends them.
        repeats: How often each signal comes.
    """

    kills: tuple[tuple[str, int, int], ...] = ()
    checkpoint: dict | None = None
    workers: int = 0
    ranks: int = 1
    accumulation: int = 1
    from_outside: bool = False
    repeats: int = 1


KILL, TERM = signal.SIGKILL, signal.SIGTERM
SCENARIOS = {
    'straight': Scenario(),
    **{
        f'killed_{workers}': Scenario(
            (('before_train_iter', 7, KILL), ('after_train_iter', 17, KILL), ('before_val_iter', 2 * PER_EPOCH, KILL)),
            SPARSE,
            workers,
        )
        for workers in (0, 2, 4)
    },
    'killed_between_save_and_validation': Scenario(
        (('before_val', PER_EPOCH, KILL), ('before_train_iter', PER_EPOCH, KILL)), EPOCHWISE
    ),
    'killed_in_saving': Scenario((('before_save_checkpoint', 9, KILL),), EVERY),
    'stopped': Scenario((('after_train_iter', 4, TERM), ('after_train_iter', PER_EPOCH - 1, TERM)), EPOCHWISE),
    'stopped_twice': Scenario((('after_train_iter', 4, TERM),), EPOCHWISE, repeats=2),
    'stopped_in_validation': Scenario((('before_val_iter', PER_EPOCH, TERM),), EPOCHWISE),
    'group_stopped': Scenario((('after_train_iter', 5, TERM),), EPOCHWISE, workers=2, from_outside=True),
    'accumulated': Scenario(accumulation=3),
    'accumulated_stopped': Scenario((('after_train_iter', 3, TERM),), EPOCHWISE, accumulation=3),
    'ranks': Scenario(ranks=2),
    'ranks_killed': Scenario((('before_train_iter', 9, KILL),), SPARSE, ranks=2),
    'ranks_stopped': Scenario((('after_train_iter', 3, TERM),), EPOCHWISE, ranks=2, workers=1),
}


class LoggedFrames(Dataset):
    """Frames that write down which of them is read, in whatever process."""

    metainfo: dict = {}  # noqa: RUF012 - mmengine warns of data sets without it

    def __init__(self, log: Path) -> None:
        self.frames = ToyFrames(FRAMES)
        self.log = log

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict:
        with open(self.log, 'a') as file:
            file.write(f'{index}\n')
        return self.frames[index]


class StillFrames(ToyFrames):
    """Frames to validate on, which nothing random happens to."""

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        return {**item, 'inputs': self.frames[index].to(torch.uint8)}


class Watch(Hook):
    """Writes down the losses, and sends the signal where the scenario says so.

    With several processes the last one gets the signal: what it is told, all have to heed.
    """

    priority = 'LOW'  # Before the checkpoint of the same iteration.

    def __init__(self, folder: Path, kill: tuple[str, int, int] | None, scenario: Scenario) -> None:
        self.folder, self.kill, self.scenario = folder, kill, scenario

    def strike(self, point: str, runner: Any) -> None:
        if self.kill is None or (point, runner.iter) != self.kill[:2] or runner.rank != self.scenario.ranks - 1:
            return
        if self.scenario.from_outside:
            (self.folder / 'ready').touch()
            while not next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)).asked_at:
                time.sleep(0.01)
            return
        for _ in range(self.scenario.repeats):
            os.kill(os.getpid(), self.kill[2])

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.strike('before_train_iter', runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank == 0:
            with open(self.folder / 'losses', 'a') as file:
                file.write(f'{runner.iter} {outputs["loss"].item().hex()}\n')
        self.strike('after_train_iter', runner)

    def before_val(self, runner):
        self.strike('before_val', runner)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.strike('before_val_iter', runner)

    def before_save_checkpoint(self, runner, checkpoint):
        self.strike('before_save_checkpoint', runner)


def train(folder: Path, scenario: Scenario, start: int) -> None:
    """Train from wherever the folder's last checkpoint is; ``start`` counts the attempts."""
    work_dir = folder / 'run'
    last = last_checkpoint(work_dir) if work_dir.is_dir() else None
    kill = scenario.kills[start] if start < len(scenario.kills) else None
    hooks = {'checkpoint': {**(scenario.checkpoint or EPOCHWISE), 'save_best': 'held_out/loss_rec', 'rule': 'greater'}}
    hooks['logger'] = {'type': 'LoggerHook', 'interval': 2, 'ignore_last': False}
    config = runner_config(
        work_dir,
        epochs=EPOCHS,
        batch=BATCH // scenario.ranks,
        hooks=hooks,
        custom_hooks=[Watch(folder, kill, scenario)],
        resume=last is not None,
        load_from=None if last is None else str(last),
        launcher='pytorch' if scenario.ranks > 1 else 'none',
    )
    config['train_dataloader'].update(dataset=LoggedFrames(folder / f'read_{start}'), num_workers=scenario.workers)
    config['val_dataloader'] = {'dataset': StillFrames(4), 'batch_size': 2, 'sampler': {'type': 'DefaultSampler'}}
    config |= {'val_cfg': {}, 'val_evaluator': {'type': 'ReconstructionLoss'}}
    config['train_cfg']['val_interval'] = 1
    config['optim_wrapper']['optimizer'] = {'type': 'AdamW', 'lr': 0.01}
    config['optim_wrapper']['accumulative_counts'] = scenario.accumulation
    PretrainRunner(**config).train()


def fork(folder: Path, scenario: Scenario, start: int, rank: int, port: int) -> int:
    """Start a process that trains; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        with open(folder / f'log_{start}_{rank}', 'w') as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if scenario.ranks > 1:
            os.environ |= {'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(scenario.ranks)}
            os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
        train(folder, scenario, start)
        status = 0
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def run(folder: Path, scenario: Scenario) -> None:
    """Run a scenario to its end and write what became of it."""
    folder.mkdir(parents=True)
    statuses = []
    for start in range(len(scenario.kills) + 1):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        pids = [fork(folder, scenario, start, rank, port) for rank in range(scenario.ranks)]
        if scenario.from_outside and start < len(scenario.kills):
            while not (folder / 'ready').is_file():
                assert os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, 'It ended early.'
                time.sleep(0.01)
            os.killpg(pids[0], scenario.kills[start][2])
        struck = os.waitstatus_to_exitcode(os.waitpid(pids[-1], 0)[1])
        if struck == -KILL:
            for pid in pids[:-1]:  # A launcher ends the others.
                os.kill(pid, KILL)
        statuses.append([*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids[:-1]), struck])
        (folder / f'files_{start}').write_text('\n'.join(sorted(path.name for path in (folder / 'run').glob('*.pth'))))
    (folder / 'statuses.json').write_text(json.dumps(statuses))


if __name__ == '__main__':
    torch.set_num_threads(1)
    vasomim.engine.runner.cores = lambda: 4  # As many workers as are asked for.
    for name, each in SCENARIOS.items():
        run(Path(sys.argv[1]) / name, each)
