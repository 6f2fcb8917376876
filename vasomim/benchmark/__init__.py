"""The benchmark: a study is planned, run, scored, kept, reported and submitted.

Its rooms, from the top; each imports only what stands below it:

    api                              the functions behind the verbs: plan, run, status, report, submit, verify
    reporting | submission | running pages; zip files and their verification; jobs, machines and time
    scoring                          from predictions on disk to scores
    study                            entries, what they resolve to, the plan and its jobs
    results                          records, tables and the folder that holds them
    statistics                       pure functions on arrays
    schema                           what files may hold

Importing a module of this package imports neither torch nor the OpenMMLab libraries, but for two that only a job needs:
:mod:`vasomim.benchmark.scoring.predictions` and :mod:`vasomim.benchmark.running.encoder`.
"""

from __future__ import annotations

import importlib
from typing import Any

FUNCTIONS = {  # Name -> module; the first use of one imports it.
    'Machines': 'vasomim.benchmark.running.machines',
    'plan': 'vasomim.benchmark.api',
    'report': 'vasomim.benchmark.api',
    'run': 'vasomim.benchmark.api',
    'status': 'vasomim.benchmark.api',
    'submit': 'vasomim.benchmark.api',
    'verify': 'vasomim.benchmark.api',
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *FUNCTIONS])
