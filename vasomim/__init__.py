"""Vascular anatomy-aware masked image modelling for X-ray angiograms, as plugins of OpenMMLab's libraries.

Importing this package registers nothing and imports no library. The functions of :mod:`vasomim.apis` are at hand as
``vasomim.train(...)`` and so on, each imported when it is first asked for. ``vasomim.models``, ``vasomim.data`` and
``vasomim.engine`` register, and a config names them in its ``custom_imports``.
"""

import importlib
from typing import Any

__version__ = '0.1.0'

APIS = 'vasomim.apis'


def __getattr__(name: str) -> Any:
    if name.startswith('_') or name not in (apis := importlib.import_module(APIS)).FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(apis, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module(APIS).FUNCTIONS})
