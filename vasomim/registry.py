"""mmpretrain's registries, importable with and without mmcv's compiled operators; runners are in mmengine's.

Importing this module is also what makes OpenMMLab's own tools ready where a config cannot; see docs/stack.md.
"""

import contextlib
import importlib
import importlib.util
import io
from collections import ChainMap
from typing import Any

import mmengine.registry
from mmengine.registry import (
    RUNNERS,  # The root's: OpenMMLab's scripts ask it for `runner_type` before they know the config's scope.
    Registry,
)

from vasomim import compat

compat.prepare()

# onedl-mmpretrain prints on import that an optional service of its makers is missing; a user would take it for a fault.
with contextlib.redirect_stdout(io.StringIO()):
    import mmpretrain.datasets  # noqa: F401
    from mmpretrain.registry import (
        DATASETS,
        HOOKS,
        LOOPS,
        METRICS,
        MODELS,
        OPTIM_WRAPPER_CONSTRUCTORS,
        PARAM_SCHEDULERS,
        TRANSFORMS,
        WEIGHT_INITIALIZERS,
    )

# For a `type`, a `default_scope` or a `_scope_` that names this package.
LOCATIONS = ['vasomim.models', 'vasomim.data', 'vasomim.evaluation.pretraining_metrics', 'vasomim.engine']
OTHERS = {'weight initializer': ['vasomim.checkpoints.initializer']}  # By the name of a registry: imported when asked.
for root in [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]:
    if root.parent is None and 'mmpretrain' in root.children and 'vasomim' not in root.children['mmpretrain'].children:
        modules = OTHERS.get(root.name, LOCATIONS)
        Registry(root.name, parent=root.children['mmpretrain'], scope='vasomim', locations=modules)


def registered(root: Registry, scope: str) -> ChainMap[str, Any]:
    """Return what a config of a scope finds in a root registry: the scope's own modules and those of its ancestors."""
    if importlib.util.find_spec(scope) is not None:
        importlib.import_module(f'{scope}.registry')  # Makes the scope known to the root registries.
    node = root._search_child(scope)  # Scopes nest: ours lies within mmpretrain's. An empty registry is falsy.
    node = root if node is None else node
    names = []
    while node is not None:
        node.import_from_location()
        names.append(node.module_dict)
        node = node.parent
    return ChainMap(*names)


__all__ = [
    'DATASETS',
    'HOOKS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'RUNNERS',
    'TRANSFORMS',
    'WEIGHT_INITIALIZERS',
    'registered',
]
