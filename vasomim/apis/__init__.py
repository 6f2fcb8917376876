"""The Python functions behind the verbs of the command line, one each: what ``vasomim VERB`` prints, they return.

An argument has the name of the verb's option, and its default. Importing this package imports none of them; the first
use of a name does, and with it the libraries that it needs.
"""

from __future__ import annotations

import importlib
from typing import Any

FUNCTIONS = {  # Name -> module; one line each.
    'convert': 'vasomim.apis.converting',
    'evaluate': 'vasomim.apis.evaluating',
    'export': 'vasomim.apis.exporting',
    'extract_features': 'vasomim.apis.embedding',
    'load_config': 'vasomim.apis.configs',
    'predict': 'vasomim.apis.predicting',
    'train': 'vasomim.apis.training',
    'visualize': 'vasomim.apis.visualizing',
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *FUNCTIONS])
