"""On what a study runs: this machine or a cluster, and how much of it at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vasomim.benchmark.running.cluster import SubmititExecutor, parse_cluster_options
from vasomim.benchmark.running.estimate import device_here
from vasomim.benchmark.running.executor import Executor, ForkExecutor
from vasomim.cores import cores
from vasomim.errors import ConfigError, did_you_mean

EXECUTORS = ('local', 'slurm', 'submitit-local')


@dataclass(frozen=True)
class Machines:
    """Where jobs run.

    Attributes:
        jobs: Jobs at once, with a share of the cores each, >= 1; None means one, or one for each of ``gpus``.
        gpus: Numbers of accelerators that jobs take in turn; none leaves them as they are.
        executor: One of :data:`EXECUTORS`.
        slurm: For sbatch, ``KEY=VALUE`` each, such as 'partition=gpu'.
        gpus_per_node: Slurm: accelerators of a node.
        nodes: Slurm: nodes of a pre-training, >= 1.
        processes_per_node: Slurm: processes of a pre-training on each node, >= 1; None means one for each accelerator,
            or one.
    """

    jobs: int | None = None
    gpus: tuple[str, ...] = ()
    executor: str = 'local'
    slurm: tuple[str, ...] = ()
    gpus_per_node: int = 0
    nodes: int = 1
    processes_per_node: int | None = None

    @property
    def per_node(self) -> int:
        """Processes of a pre-training on each node of a cluster."""
        return max(1, self.gpus_per_node) if self.processes_per_node is None else self.processes_per_node

    @property
    def processes(self) -> int:
        """Processes of a pre-training."""
        return 1 if self.executor == 'local' else self.nodes * self.per_node

    @property
    def device(self) -> str:
        """What timings are kept for."""
        return ' '.join(['cluster', *sorted(self.slurm)]) if self.executor == 'slurm' else device_here(self.gpus)

    @property
    def accelerated(self) -> bool:
        """Whether jobs find an accelerator, as far as can be told here."""
        return bool(self.gpus) or os.path.exists('/dev/nvidia0')

    def start(self, work_dir: Path) -> tuple[Executor, int]:
        """Return what starts jobs, and the threads of each.

        Raises:
            ConfigError: If the numbers make no sense.
        """
        if self.executor not in EXECUTORS:
            hint = did_you_mean(self.executor, EXECUTORS)
            raise ConfigError('--executor', f"there is no '{self.executor}'.{hint}", f'Take {", ".join(EXECUTORS)}.')
        slots = self.jobs if self.jobs is not None else max(1, len(self.gpus))
        if slots < 1:
            raise ConfigError('--jobs', f'{slots} is not positive.', 'Run at least one job at once.')
        threads = max(1, cores() // slots)
        if self.executor == 'local':
            return ForkExecutor(slots, threads, self.gpus), threads
        for name, number in (('--nodes', self.nodes), ('--processes-per-node', self.per_node)):
            if number < 1:
                raise ConfigError(name, f'{number} is not positive.', 'Take at least one.')
        slurm = parse_cluster_options(list(self.slurm))
        threads = slurm.pop('cpus_per_task', threads)
        cluster = 'slurm' if self.executor == 'slurm' else 'local'
        folder = work_dir / 'submitit'
        return SubmititExecutor(slots, threads, folder, cluster, slurm, self.gpus_per_node, self.per_node), threads
