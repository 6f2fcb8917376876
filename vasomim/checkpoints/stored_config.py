"""The config in a checkpoint, read as data: its writer does not choose what code runs here."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from vasomim.errors import CheckpointError

LIBRARIES = ('vasomim', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')
PLUGINS = 'VASOMIM_PLUGINS'  # Environment variable: packages, separated by commas, that a stored config may import.
DISTRUST = 'Do not load it unless you trust its source; `vasomim convert` gives its tensors without the config.'


def parse_config(text: str, source: str | Path) -> Config:
    """Read the config of a checkpoint without running or importing anything.

    mmengine runs the text of a config as Python. What it and this project write into checkpoints needs no more than
    ``key = value`` with numbers, strings, None, booleans, lists, tuples, dicts and ``dict(...)``.

    Args:
        text: The config.
        source: The checkpoint, for the error.

    Raises:
        CheckpointError: If the text holds anything else.
    """
    try:
        values = dict(_assignment(line) for line in ast.parse(text).body)
        return Config(values)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise CheckpointError(source, f'its config is no list of plain values: {error}.', DISTRUST) from error


def check_buildable(config: Config, sections: Mapping[str, Any], source: str | Path) -> None:
    """Import the modules that a parsed config registers its classes in, and check what is to be built from it.

    Modules of this project and of OpenMMLab's libraries are imported; others only if they are already, or belong to a
    package that the environment variable ``VASOMIM_PLUGINS`` names. Each ``type`` has to be registered, as mmengine
    would import and call whatever else it names, or be an operator of mmcv. A string with a call in it is refused, as
    some classes evaluate theirs (``nms`` of mmcv).

    Args:
        config: As :func:`parse_config` gives it.
        sections: The parts of it that are built, by their names.
        source: The checkpoint, for the error.

    Raises:
        CheckpointError: If a module cannot be imported or a section holds what is not allowed.
    """
    left = _import_modules(config, source)
    scope = config.get('default_scope') or 'mmpretrain'
    for name, section in sections.items():
        _check_section(section, name, scope, source, left)


def _assignment(line: ast.stmt) -> tuple[str, Any]:
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        return line.targets[0].id, _value(line.value)
    raise ValueError(f'line {line.lineno} assigns no value to a name')


def _value(node: ast.expr) -> Any:
    """Return the value of an expression that neither calls nor reads anything, but for ``dict``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        pairs = [(keyword.arg, _value(keyword.value)) for keyword in node.keywords]
        if all(key is not None for key, _ in pairs):
            return dict(pairs)
    elif isinstance(node, ast.Dict) and None not in node.keys:
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values), strict=True))
    elif isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f'line {node.lineno} holds {ast.unparse(node)[:60]!r}') from error


def _import_modules(config: Config, source: str | Path) -> list[str]:
    """Import what a config may import, and return the modules that it may not."""
    wanted = config.get('custom_imports') or {}
    modules = wanted.get('imports') if isinstance(wanted, dict) else None
    modules = [modules] if isinstance(modules, str) else modules or []
    if not isinstance(modules, Iterable) or not all(isinstance(module, str) for module in modules):
        raise CheckpointError(source, 'custom_imports of its config names no modules.', DISTRUST)
    trusted = {*LIBRARIES, *(name.strip() for name in os.environ.get(PLUGINS, '').split(','))}
    allowed = [module for module in modules if module.partition('.')[0] in trusted]
    for module in allowed:
        try:
            importlib.import_module(module)
        except ImportError as error:
            if not wanted.get('allow_failed_imports'):
                cure = 'Install the package that holds it, or start with PYTHONPATH=FOLDER that does.'
                raise CheckpointError(source, f'its config imports {module}: {error}.', cure) from error
    return [module for module in modules if module not in allowed and module not in sys.modules]


def _check_section(node: Any, path: str, scope: str, source: str | Path, left: list[str]) -> None:
    from mmengine.registry import MODELS

    from vasomim.engine.strict import NOT_BUILT

    if isinstance(node, str) and _calls(node):
        raise CheckpointError(source, f'{path} of its config is {node[:60]!r}, which is code.', DISTRUST)
    if isinstance(node, Mapping):
        scope = node.get('_scope_') or scope
        if scope not in LIBRARIES and scope not in MODELS.children:
            raise CheckpointError(source, f'{path} of its config belongs to {scope!r}, an unknown scope.', _cure(left))
        built = 'type' in node and path.rpartition('.')[2] not in NOT_BUILT
        if built and not _is_known(node['type'], scope):
            what = f'{path}.type of its config, {node["type"]!r}, is not registered.'
            raise CheckpointError(source, what, _cure(left))
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        _check_section(value, f'{path}.{key}', scope, source, left)


def _is_known(kind: Any, scope: str) -> bool:
    import mmcv.ops  # mmdet looks RoIAlign up there.

    from vasomim.engine.strict import find

    return isinstance(kind, str) and (find(kind, None, scope) is not None or hasattr(mmcv.ops, kind))


def _calls(text: str) -> bool:
    """Return whether a string is a Python expression with a call in it."""
    try:
        return any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(text.strip(), mode='eval')))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _cure(left: list[str]) -> str:
    if not left:
        return DISTRUST
    packages = ','.join(sorted({module.partition('.')[0] for module in left}))
    return f'Its config imports {", ".join(left)}: if you trust that code, start with {PLUGINS}={packages}.'
