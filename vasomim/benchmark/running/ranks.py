"""Several processes of one job: the first one claims, decides and records, and the others take part in its training.

They talk through the key-value store of their rendezvous (``env://``, as torchrun and the cluster's jobs set it up), so
that the training may set up its processes afterwards as it always does, whatever the devices are.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import timedelta
from typing import Any

WAIT = timedelta(minutes=30)  # For processes that a cluster starts later than others.
PREFIX = 'benchmark'
VERDICT, HEARD, FAILURE = 'verdict', 'heard', 'failure'


def rank_of(processes: int) -> int:
    """Return the number of this process among those of its job, which their launcher has set; 0 for a single one."""
    return int(os.environ['RANK']) if processes > 1 else 0


class Ranks:
    """The processes of one job.

    Args:
        processes: Their number; with a single one nothing here does anything.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.rank = rank_of(processes)
        self.store: Any = None

    def join(self) -> None:
        """Meet the others.

        Raises:
            RuntimeError: If they do not come, or are not as many as the job has.
        """
        if self.processes == 1 or self.store is not None:
            return
        from torch import distributed

        store, _, number = next(distributed.rendezvous('env://'))
        if number != self.processes:
            raise RuntimeError(f'{number} processes were started for a job of {self.processes}.')
        store.set_timeout(WAIT)
        self.store = distributed.PrefixStore(PREFIX, store)

    def tell(self, verdict: int | None) -> None:
        """Let the others return ``verdict``, or take part if it is None; returns once all have heard it."""
        if self.processes == 1:
            return
        self.join()
        self.store.set(VERDICT, json.dumps(verdict))
        # The store ends with this process; nobody is to find it gone.
        self.store.wait([f'{HEARD}{rank}' for rank in range(1, self.processes)], WAIT)

    def hear(self) -> int | None:
        """Return what the first process tells."""
        self.join()
        verdict: int | None = json.loads(self.store.get(VERDICT))
        self.store.set(f'{HEARD}{self.rank}', '')
        return verdict

    def report(self, error: dict[str, Any]) -> None:
        """Tell the first process why this one ends, before it notices that this one is gone."""
        with contextlib.suppress(RuntimeError):  # It ended first, and its own error is the cause.
            self.store.set(f'{FAILURE}{self.rank}', json.dumps(error))

    def failure(self) -> dict[str, Any] | None:
        """Return why another process ended, None if none did: what this one then meets is a consequence."""
        if self.store is None:
            return None
        with contextlib.suppress(RuntimeError):
            for rank in range(1, self.processes):
                if self.store.check([f'{FAILURE}{rank}']):
                    error: dict[str, Any] = json.loads(self.store.get(f'{FAILURE}{rank}'))
                    return {**error, 'message': f'process {rank}: {error["message"]}'}
        return None
