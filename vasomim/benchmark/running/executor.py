"""Where jobs run: processes forked here; those of a cluster are in :mod:`vasomim.benchmark.running.cluster`.

Forks are the default because each starts within milliseconds: the parent has imported PyTorch and the OpenMMLab
libraries once, which takes ten seconds, and a process of submitit's own local executor would import them again. The
parent computes nothing and touches no accelerator, so a fork begins as a fresh process would.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vasomim.errors import StorageError

SHARED = (
    'mmdet.apis',
    'mmseg.apis',
    'skimage.morphology',
    'vasomim.apis.evaluating',
    'vasomim.apis.training',
    'vasomim.benchmark.running.cells',
    'vasomim.benchmark.running.encoder',
    'vasomim.benchmark.scoring.predictions',
    'vasomim.data',
    'vasomim.data.detection',
    'vasomim.data.segmentation',
    'vasomim.engine',
    'vasomim.evaluation.detection_cases',
    'vasomim.evaluation.pretraining_metrics',
    'vasomim.evaluation.segmentation_metric',
    'vasomim.models',
    'vasomim.models.detection',
    'vasomim.models.segmentation',
    'vasomim.inference.predictor',
)
PAUSE = 0.05  # Seconds between two looks at a process.
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl.


class Running(Protocol):
    """A job that was started.

    Attributes:
        reason: What the cluster says of an end without a result; None where nobody says anything.
    """

    reason: str | None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""

    def stop(self) -> None:
        """End it."""


class Executor(Protocol):
    """Starts jobs, at most ``slots`` at once."""

    slots: int

    def start(self, work: Callable[[], int], log: Path, processes: int = 1) -> Running:
        """Start a function in a process of its own; what it prints goes to ``log``."""


def warm_up() -> None:
    """Import in this process what every job needs, without touching an accelerator."""
    os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')  # Else looking for a GPU would spoil it for forks.
    import torch

    from vasomim import compat

    torch.set_num_threads(1)  # A pool of threads would not survive the fork.
    compat.prepare()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')  # The libraries report what else they could use.
        for name in SHARED:
            importlib.import_module(name)


@dataclass
class Fork:
    """A forked process."""

    pid: int
    free: Callable[[], None]
    status: int | None = None
    reason: str | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.free()
        return self.status

    def stop(self) -> None:
        """End it."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
            self.free()


@dataclass
class ForkExecutor:
    """Forks this process for each job.

    Attributes:
        slots: Jobs at once.
        threads: Threads of computation for each.
        gpus: Numbers of the accelerators, given to the jobs in turn; empty leaves them as they are.
    """

    slots: int
    threads: int
    gpus: tuple[str, ...] = ()
    load: dict[str, int] = field(default_factory=dict)

    def start(self, work: Callable[[], int], log: Path, processes: int = 1) -> Fork:
        """Fork; the child dies with this process."""
        gpu = min(self.gpus, key=lambda name: self.load.get(name, 0)) if self.gpus else None
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError.of(log, error) from error
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = self._child(work, log, gpu, parent)
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)  # Without what the parent has registered for its own end.
        if gpu is not None:
            self.load[gpu] = self.load.get(gpu, 0) + 1
        return Fork(pid, lambda: self._free(gpu))

    def _free(self, gpu: str | None) -> None:
        if gpu is not None:
            self.load[gpu] -= 1

    def _child(self, work: Callable[[], int], log: Path, gpu: str | None, parent: int) -> int:
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print_to(log)
        if gpu is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = gpu
        use_threads(self.threads)
        return work()


def print_to(log: Path) -> None:
    """Let this process print to the end of a file."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)  # By the umask.
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def die_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends, so that a killed run leaves nothing behind that works."""
    if sys.platform == 'linux':
        ctypes.CDLL(None, use_errno=True).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # It ended before the call.
            os._exit(1)


def use_threads(threads: int) -> None:
    """Compute with so many threads in this process."""
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        os.environ[name] = str(threads)
    torch: Any = sys.modules.get('torch')
    if torch is not None:
        torch.set_num_threads(threads)
    cv2: Any = sys.modules.get('cv2')
    if cv2 is not None:
        cv2.setNumThreads(threads)


def in_fork(work: Callable[[], int], log: Path) -> int:
    """Call a function in a process of its own, and return its exit status."""
    process = ForkExecutor(1, 1).start(work, log)
    while (status := process.poll()) is None:
        time.sleep(PAUSE)
    return status
