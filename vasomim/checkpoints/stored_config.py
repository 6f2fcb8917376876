"""The config in a checkpoint, read as data: its writer does not choose what code runs here."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from vasomim.errors import CheckpointError

LONGEST = 1 << 20  # Characters of a config; those of this project have some 10,000.
DISTRUST = 'Do not load it unless you trust its source; `vasomim convert` gives its tensors without the config.'
ARCHITECTURE = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')
# The least and the largest that a config may say of a plain ViT.
ENCODER = {'patch_size': (1, 256), 'img_size': (1, 16384), 'window_size': (0, 16384)}


def parse_config(text: str, source: str | Path) -> Config:
    """Read the config of a checkpoint without running or importing anything.

    mmengine runs the text of a config as Python. What it and this project write into checkpoints needs no more than
    ``key = value`` with numbers, strings, None, booleans, lists, tuples, dicts and ``dict(...)``.

    Args:
        text: The config.
        source: The checkpoint, for the error.

    Raises:
        CheckpointError: If the text holds anything else, or is longer than ``LONGEST``.
    """
    if len(text) > LONGEST:
        raise CheckpointError(source, f'its config has {len(text):,} characters.', DISTRUST)
    try:
        values = dict(_assignment(line) for line in ast.parse(text).body)
        return Config(values)
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError) as error:
        raise CheckpointError(source, f'its config is no list of plain values: {error}.', DISTRUST) from error


def look_up(config: Any, path: str, kind: type | tuple[type, ...], source: str | Path, default: Any = None) -> Any:
    """Return what a stored config says at a dotted path.

    Args:
        config: A config, or a section of one.
        path: Keys, joined by dots.
        kind: What a value has to be.
        source: The checkpoint, for the error.
        default: Where the path or a part of it is missing or None.

    Raises:
        CheckpointError: If the value is of another kind, or something on the way to it is no section.
    """
    node, walked = config, ''
    for part in path.split('.'):
        if not isinstance(node, (Mapping, Config)):
            raise _of_another_kind(walked, node, source)
        walked = f'{walked}.{part}' if walked else part
        if (node := node.get(part)) is None:
            return default
    if not isinstance(node, kind) or (isinstance(node, bool) and kind is int):
        raise _of_another_kind(path, node, source)
    return node


def encoder_section(config: Config, source: str | Path) -> dict[str, Any]:
    """Return what a stored config says of its encoder as a plain ViT; empty where it says nothing.

    Raises:
        CheckpointError: If one of its sizes makes no sense, or its ``arch`` is neither a name nor sizes.
    """
    section = dict(look_up(config, 'model.backbone', Mapping, source, {}))
    for key, (least, most) in ENCODER.items():
        value = section.get(key)
        for number in value if key == 'img_size' and isinstance(value, (list, tuple)) and len(value) == 2 else [value]:
            if number is not None and not (type(number) is int and least <= number <= most):
                raise _of_another_kind(f'model.backbone.{key}', value, source)
    layers = section.get('global_layers')
    if layers is not None and not (isinstance(layers, (list, tuple)) and all(type(layer) is int for layer in layers)):
        raise _of_another_kind('model.backbone.global_layers', layers, source)
    arch = section.get('arch')
    if not (isinstance(arch, (str, type(None))) or (isinstance(arch, Mapping) and _is_architecture(arch))):
        raise _of_another_kind('model.backbone.arch', arch, source)
    return section


def _is_architecture(sizes: Mapping) -> bool:
    """Return whether sizes are those of a ViT: whole, positive, and its width one that its heads divide."""
    if not all(type(sizes.get(name)) is int and sizes[name] > 0 for name in ARCHITECTURE):
        return False
    return sizes['embed_dims'] % sizes['num_heads'] == 0


def _of_another_kind(path: str, value: Any, source: str | Path) -> CheckpointError:
    return CheckpointError(source, f'{path} of its config is {str(value)[:60]!r}, which makes no sense.', DISTRUST)


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
