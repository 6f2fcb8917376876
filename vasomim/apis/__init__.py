"""The Python functions behind the verbs of the command line, one each: what ``vasomim VERB`` prints, they return.

An argument has the name of the verb's option, and its default. Importing this package imports none of them; the first
use of a name does, and with it the libraries that it needs.
"""

from __future__ import annotations

import importlib
from typing import Any

FUNCTIONS = {  # Name -> module; one line each.
    'check': 'vasomim.apis.checking',
    'convert': 'vasomim.apis.converting',
    'evaluate': 'vasomim.apis.evaluating',
    'export': 'vasomim.apis.exporting',
    'extract': 'vasomim.apis.extracting',
    'extract_features': 'vasomim.apis.embedding',
    'load_config': 'vasomim.apis.configs',
    'pack': 'vasomim.apis.packing',
    'predict': 'vasomim.apis.predicting',
    'prepare_downstream': 'vasomim.apis.preparing_labels',
    'prepare_pretrain': 'vasomim.apis.preparing',
    'synthesize': 'vasomim.apis.synthesizing',
    'train': 'vasomim.apis.training',
    'verify_pack': 'vasomim.apis.packing',
    'visualize': 'vasomim.apis.visualizing',
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *FUNCTIONS])
