"""The Python functions behind the verbs of the command line: keyword arguments in, a small frozen result out.

``vasomim.train(...)`` and ``vasomim.apis.train(...)`` are the same. A function's module, and with it PyTorch and the
OpenMMLab libraries, is imported when the function is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

# Name of the function: module of this package.
FUNCTIONS = {
    'convert': 'converting',
    'evaluate': 'evaluating',
    'export': 'exporting',
    'extract_features': 'features',
    'load_config': 'configs',
    'predict': 'predicting',
    'train': 'training',
    'visualize': 'visualizing',
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{FUNCTIONS[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FUNCTIONS})
