"""Jobs of a cluster through submitit: Slurm, or processes of submitit's own here, by which the same code is tested."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vasomim.benchmark.running.executor import print_to, use_threads
from vasomim.benchmark.running.ranks import rank_of
from vasomim.errors import ConfigError, StackError, did_you_mean

LOOK = 10.0  # Seconds between two questions to Slurm about one job.
GRACE = 15.0  # Seconds that a result may take to be seen here, on a shared file system.
ALIVE = {'PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING', 'SUSPENDED', 'STOPPED', 'SIGNALING', 'STAGE_OUT'}
ALIVE |= {'REQUEUED', 'REQUEUE_FED', 'REQUEUE_HOLD', 'RESV_DEL_HOLD', 'SPECIAL_EXIT', 'RESIZING', 'PREEMPTED'}
GONE = 'GONE'  # Slurm knows the job no more.
DAY = 24 * 60
NUMBERS = ('time', 'cpus_per_task')  # Options that count: minutes, and cores of a process.


@dataclass
class Submitted:
    """A job of submitit.

    Submitit asks the accounting of Slurm, which many small clusters lack, and then waits for ever for a job that died;
    here the queue is asked, which every cluster has.
    """

    job: Any
    log: Path
    cluster: str
    reason: str | None = None
    asked: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def poll(self) -> int | None:
        """Return the exit status of the function, 1 where it raised or died, or None while it waits or runs."""
        tasks = [self.job.task(number) for number in range(self.job.num_tasks)]
        if not all(task.paths.result_pickle.exists() for task in tasks):
            if self.ended is None:
                self.ended = time.monotonic() if self.is_over() else None
                return None
            if time.monotonic() - self.ended < (GRACE if self.cluster == 'slurm' else 0.0):
                return None
        first = tasks[0]
        if first.paths.result_pickle.exists():
            from submitit.core.utils import pickle_load

            outcome, value = pickle_load(first.paths.result_pickle)
            if outcome == 'success':
                return int(value)
            self.reason = f'submitit: {str(value).strip().splitlines()[-1]}'
            return 1
        with self.log.open('a', encoding='utf-8') as file:  # Where a person looks first.
            file.write(f'{first.stderr() or ""}\n{self.reason}\n')
        return 1

    def is_over(self) -> bool:
        """Return whether the job runs and waits no more, and note in ``reason`` how it ended."""
        if self.cluster != 'slurm':
            state = self.job.state
            if state != 'RUNNING':
                self.reason = f'submitit: its process ended without a result ({state}).'
            return bool(state != 'RUNNING')
        if time.monotonic() - self.asked < LOOK:
            return False
        self.asked = time.monotonic()
        state = state_of(self.job.job_id)
        if state is None or state in ALIVE:
            return False
        self.reason = f'Slurm: job {self.job.job_id} ended as {state} without a result.'
        return True

    def stop(self) -> None:
        """Cancel it."""
        self.job.cancel(check=False)


def state_of(job_id: str) -> str | None:
    """Return Slurm's state of a job; None where the controller does not answer, :data:`GONE` where it has forgotten."""
    command = ['squeue', '--noheader', '--states=all', '--jobs', job_id, '--format=%T']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return GONE if 'Invalid job id' in done.stderr else None
    return done.stdout.split()[0] if done.stdout.split() else GONE


@dataclass
class SubmititExecutor:
    """Jobs of a cluster. A cell is a job of one process; a pre-training may have several, on several nodes.

    Attributes:
        slots: Jobs in the queue at once.
        threads: Threads of computation for each process.
        folder: Where submitit keeps its logs, on a file system that all nodes share.
        cluster: 'slurm', or 'local' for submitit's own processes.
        options: What sbatch is told: partition, account, time in minutes.
        gpus_per_node: Accelerators of a job on each node; 0 for none.
        processes_per_node: Processes of a pre-training on each node.
    """

    slots: int
    threads: int
    folder: Path
    cluster: str = 'slurm'
    options: dict[str, Any] = field(default_factory=dict)
    gpus_per_node: int = 0
    processes_per_node: int = 1

    def start(self, work: Callable[[], int], log: Path, processes: int = 1) -> Submitted:
        """Submit a job.

        Raises:
            StackError: If submitit or Slurm is missing.
            ConfigError: If Slurm refuses the job.
        """
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise StackError('submitit', 'it is not installed.', 'pip install submitit') from error
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            executor = submitit.AutoExecutor(folder=self.folder.resolve() / '%j', cluster=self.cluster)
        except RuntimeError as error:
            cure = 'Start it where sbatch is, or use --executor local.'
            raise StackError('--executor slurm', f'{error}', cure) from error
        executor.update_parameters(**self.settings(processes))
        try:
            job = executor.submit(Distributed(work, log, processes, self.threads))
        except submitit.core.utils.FailedJobError as error:
            said = str(error).strip().splitlines()
            told = next((line for line in said if 'error:' in line), said[-1])
            cure = 'Correct --slurm, --nodes, --gpus-per-node or --processes-per-node.'
            raise ConfigError('--executor slurm', f'the job is refused: {told}.', cure) from error
        return Submitted(job, log, self.cluster)

    def settings(self, processes: int) -> dict[str, Any]:
        """Return what submitit is told of a job.

        Raises:
            ConfigError: If an option is none of sbatch's.
        """
        per_node = min(processes, self.processes_per_node)
        settings: dict[str, Any] = {
            'name': 'vasomim',
            'cpus_per_task': self.threads,
            'tasks_per_node': per_node,
            'nodes': max(1, processes // per_node),
            'timeout_min': self.options.get('time', DAY),
        }
        if self.gpus_per_node:
            settings['gpus_per_node'] = self.gpus_per_node if processes > 1 else 1
        if self.cluster == 'slurm':
            from submitit.slurm.slurm import SlurmExecutor

            known = SlurmExecutor._valid_parameters()
            for key in self.options:
                if key != 'time' and key not in known:
                    raise ConfigError(
                        f'--slurm {key}={self.options[key]}',
                        f'there is no such option.{did_you_mean(key, known)}',
                        'Write those of sbatch, with "_" for "-": partition, account, qos, mem, constraint, time.',
                    )
            settings |= {f'slurm_{key}': value for key, value in self.options.items() if key != 'time'}
        return settings


@dataclass
class Distributed:
    """A function as a task of a cluster's job: several processes of one find each other as under torchrun."""

    work: Callable[[], int]
    log: Path
    processes: int
    threads: int

    def __call__(self) -> int:
        """Call the function; what it prints goes to the log, that of further processes to files beside it."""
        use_threads(self.threads)
        log = self.log
        if self.processes > 1:
            import submitit

            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
            rank = rank_of(self.processes)
            log = log if rank == 0 else log.with_suffix(f'.{rank}{log.suffix}')
        sys.stdout.flush()
        sys.stderr.flush()
        print_to(log)
        return self.work()

    def checkpoint(self) -> Any:
        """Let a job that reaches its limit of time, or makes room for another, wait in the queue again and go on."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def positive(name: str, text: str) -> int:
    """Return a number of minutes or cores.

    Raises:
        ConfigError: If it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f'--slurm {name}={text}', 'it is no whole positive number.', f'Write {name}=8.')
    return int(text)


def parse_cluster_options(options: list[str]) -> dict[str, Any]:
    """Return KEY=VALUE as a dict.

    Raises:
        ConfigError: If one has no '=', or no number where one belongs.
    """
    found = {}
    for option in options:
        key, equals, value = option.partition('=')
        if not equals:
            raise ConfigError(f'--slurm {option}', 'it is not of the form KEY=VALUE.', 'Write partition=gpu, time=600.')
        found[key] = positive(key, value) if key in NUMBERS else value
    return found
