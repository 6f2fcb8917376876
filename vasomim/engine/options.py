"""Values of ``--cfg-options`` are compared with what they replace; others would fail late, or do nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

from mmengine.config import Config

from vasomim.engine.strict import SECTIONS, check_options, sections_of
from vasomim.errors import ConfigError

PAIRS = ('size', 'scale', 'stride', 'padding', 'dilation')  # Endings of keys that take a number or one for each axis.
NOTHING = ('null', 'none', 'nil', 'false')  # What else people write for None.
COPIES_SHOWN = 4


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge ``--cfg-options`` into a config, once their paths and values were checked.

    Args:
        cfg: The config, changed in place.
        options: Dotted paths and their values.

    Raises:
        ConfigError: If a path leads nowhere, a value is of another kind than the one that it replaces, or the config's
            sections hold copies of what it would change.
    """
    check_options(cfg, options)
    for path in options:
        refuse_copied(cfg, path)
    cfg.merge_from_dict({path: fitting(cfg, path, value) for path, value in options.items()})


def fitting(cfg: Config, path: str, value: Any) -> Any:
    """Return the value of an option as its place takes it: a list becomes a tuple where one stands.

    Args:
        cfg: The config before the option is merged.
        path: The option's.
        value: None always fits; a number another number, a section that has a type only another section.

    Raises:
        ConfigError: If the value does not fit; names what stands there.
    """
    there, key = standing(cfg, path), path.rpartition('.')[2]
    if value is None or there is None:
        return value  # What stood nowhere is for the class that it is meant for.
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    pair = key.endswith(PAIRS)
    if isinstance(there, Mapping) and ('type' in there or path in SECTIONS):
        if not isinstance(value, Mapping):
            hint = f'Write None to leave it out: {path}=None.' if str(value).lower() in NOTHING else ''
            raise misfit(path, value, 'a section with keys of its own', hint or f'Set one of them: {path}.KEY=VALUE.')
    elif isinstance(there, bool):
        if not isinstance(value, bool):
            raise misfit(path, value, 'True or False', f'Write {path}=True or {path}=False.')
    elif isinstance(there, Number):
        if isinstance(value, bool) or not (isinstance(value, Number) or (listed and pair)):
            comma = f', with a point: {path}={there!r}' if listed else f', such as {path}={there!r}'
            raise misfit(path, value, f'a number ({there!r})', f'Write a number{comma}.')
    elif isinstance(there, str):
        if listed:
            raise misfit(path, value, f'a text ({there!r})', 'Write a text without a comma.')
    elif isinstance(there, Sequence) and not listed and not pair:
        raise misfit(path, value, 'a list', f'Write brackets, and quotes for the shell: "{path}=[...]".')
    if listed and (isinstance(there, tuple) or (pair and isinstance(there, Number))):
        return tuple(value)
    return value


def standing(cfg: Config, path: str) -> Any:
    """Return what an option replaces: the config's value, or the default of its class if that is a number or a bool.

    Defaults of other kinds, whole numbers among them, often stand for something else, as -1 for a list of layers does.
    """
    node: Any = cfg._cfg_dict
    for part in path.split('.'):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            break
    else:
        return node
    parent, _, key = path.rpartition('.')
    builder = dict(sections_of(cfg)).get(parent)
    for base in inspect.getmro(builder) if inspect.isclass(builder) else ():
        parameter = inspect.signature(base).parameters.get(key)
        if parameter is not None:
            return parameter.default if isinstance(parameter.default, (bool, float)) else None
    return None


def misfit(path: str, value: Any, wanted: str, cure: str) -> ConfigError:
    """Return the error for a value that does not fit."""
    return ConfigError(f'--cfg-options {path}', f'{value!r} takes the place of {wanted}.', cure)


def refuse_copied(cfg: Config, path: str) -> None:
    """Refuse an option on a variable of a config: reading the file has copied its value into the sections.

    Raises:
        ConfigError: If a section holds the same value, or the variable is a list of sections that none holds; the cure
            sets it where it is read.
    """
    name, _, rest = path.partition('.')
    if name in SECTIONS[''] or name not in cfg:
        return
    value = cfg._cfg_dict[name]
    copies = [place for section in SECTIONS[''] for place in places(cfg.get(section), section, value, name)]
    steps = isinstance(value, (list, tuple)) and any(isinstance(step, Mapping) and 'type' in step for step in value)
    if not copies and not steps:
        return
    first = ', '.join(copies[:COPIES_SHOWN]) + (', ...' if len(copies) > COPIES_SHOWN else '')
    ending = f'.{rest}=...' if rest else '=...'
    raise ConfigError(
        f'--cfg-options {path}',
        f'{name} is a variable of the config file, and the option would change nothing: '
        + (f'its value was copied to {first}.' if copies else 'no section holds it.'),
        'Set it where it is read: ' + (' '.join(f'{copy}{ending}' for copy in copies) or f'LOADER.dataset.KEY{ending}'),
    )


def places(node: Any, path: str, value: Any, name: str) -> Iterator[str]:
    """Yield the dotted paths within a section at which a value stands: a number or a text only under the same name."""
    whole = isinstance(value, (Mapping, list, tuple)) and bool(value)
    if type(node) is type(value) and node == value and (whole or path.rpartition('.')[2] == name):
        yield path
    elif isinstance(node, Mapping):
        for key, inner in node.items():
            yield from places(inner, f'{path}.{key}', value, name)
    elif isinstance(node, (list, tuple)):
        for index, inner in enumerate(node):
            yield from places(inner, f'{path}.{index}', value, name)
