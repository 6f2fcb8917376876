"""Vascular anatomy-aware masked image modelling for X-ray angiograms, as plugins of OpenMMLab's libraries.

Importing this package imports nothing else and registers nothing; ``vasomim.models``, ``vasomim.data`` and
``vasomim.engine`` register, and a config names them in its ``custom_imports``.

The functions of :mod:`vasomim.apis` can be called as ``vasomim.extract(...)``, those of :mod:`vasomim.benchmark` as
``vasomim.benchmark.plan(...)``; the first use of a name imports what it needs.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    if name == 'benchmark':
        return importlib.import_module('vasomim.benchmark')
    apis = importlib.import_module('vasomim.apis')
    if name not in apis.FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(apis, name)
