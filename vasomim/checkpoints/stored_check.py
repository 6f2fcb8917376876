"""The check of what a config that a checkpoint carries would build: before anything is."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmengine.registry as roots
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from vasomim.checkpoints import allow_list
from vasomim.checkpoints.stored_config import look_up
from vasomim.errors import CheckpointError
from vasomim.registry import registered

PLUGINS = 'VASOMIM_PLUGINS'  # Environment variable: packages, separated by commas, that a stored config may import.
TRUST = 'If you trust whoever wrote it, pass --trust-config (in Python trust_config=True).'
PARTS = ('models', 'datasets', 'evaluation', 'engine', 'structures', 'visualization')  # Of libraries, to be imported.


def buildable(section: Any, path: str, config: Config, scope: str, source: str | Path, trust: bool = False) -> Any:
    """Check a section, or a list of them, of a parsed config before anything is built from it.

    Modules that register its classes are imported first: those of this project and of OpenMMLab's libraries; others if
    the environment variable ``VASOMIM_PLUGINS`` names their package. Then every section has to name a class of this
    project, of a plug-in or of :mod:`vasomim.checkpoints.allow_list`, with values that it allows.

    Args:
        section: What is to be built; it stays as it is.
        path: Of it in the config, dotted, for the error.
        config: The whole, as :func:`vasomim.checkpoints.stored_config.parse_config` gives it.
        scope: Whose registries it is built from.
        source: The checkpoint, for the error.
        trust: Import and build whatever the config says.

    Returns:
        A copy; what a training would start from (weights, initialization) is None, as the checkpoint has the tensors.

    Raises:
        CheckpointError: If a module cannot be imported, or it holds what is not allowed.
    """
    left = _import_modules(config, source, trust)
    checked = _Check(source, tuple(left), trust).value(section, path, '', None, scope, 0)
    return ConfigDict(checked) if isinstance(checked, dict) else checked


@dataclass(frozen=True)
class _Check:
    """Copies sections of a config while they hold what is allowed."""

    source: str | Path
    left: tuple[str, ...]  # Modules that the config wanted, and that were not imported.
    trust: bool

    def value(self, node: Any, path: str, key: str, owner: _Owner | None, scope: str, depth: int) -> Any:
        """Return a value without what is left out.

        Args:
            node: The value.
            path: Of it in the config, for the error.
            key: The part of the path below the section with a class that it belongs to.
            owner: That class.
            scope: The default scope there.
            depth: Levels above it.
        """
        if depth > allow_list.DEPTH:
            self.refuse(path, 'is nested too deeply')
        if isinstance(node, Mapping):
            self.refuse_many(path, node)
            if not all(isinstance(each, str) for each in node):
                self.refuse(path, 'has keys that are no texts')
            if 'type' in node and not (owner is not None and allow_list.names_no_class(key)):
                return self.section(node, path, scope, depth)
            return {
                name: self.value(below, f'{path}.{name}', f'{key}.{name}' if key else name, owner, scope, depth + 1)
                for name, below in node.items()
            }
        if isinstance(node, (list, tuple)):
            self.refuse_many(path, node)
            items = [self.value(each, f'{path}.{at}', key, owner, scope, depth + 1) for at, each in enumerate(node)]
            return items if isinstance(node, list) else tuple(items)
        if not self.trust:
            self.plain(node, path, key, owner)
        return node

    def section(self, node: Mapping, path: str, scope: str, depth: int) -> dict[str, Any]:
        """Return a section that a class is built from."""
        scope = node.get('_scope_') or scope
        known = (*allow_list.SCOPES, *roots.MODELS.children)
        if scope not in known:
            self.refuse(path, f'belongs to {scope!r}, an unknown scope')
        if not isinstance(node['type'], str):
            self.refuse(f'{path}.type', 'is no name')
        builders = builders_of(node['type'], scope)
        if not builders and not self.trust:
            self.refuse(f'{path}.type', f'is {node["type"]!r}, which is not registered')
        for builder in [] if self.trust else builders:
            if not allowed(builder):
                self.refuse(f'{path}.type', f'is {node["type"]!r}, which is not on the list of classes to be built')
        owner = _Owner.of(builders[0]) if builders else None
        kept = {}
        for key, value in node.items():
            if key in ('type', '_scope_'):
                kept[key] = value
            elif key in allow_list.LEFT_OUT or (key == 'weights' and isinstance(value, str)):
                kept[key] = None
            else:
                if owner is not None and not self.trust and not fits(value, owner.hints.get(key, Any)):
                    self.refuse(f'{path}.{key}', f'is {str(value)[:60]!r}, which {owner.name} does not take')
                kept[key] = self.value(value, f'{path}.{key}', key, owner, scope, depth + 1)
        return kept

    def plain(self, value: Any, path: str, key: str, owner: _Owner | None) -> None:
        """Refuse a text that is not allowed, and a number that is too large."""
        last = key.rpartition('.')[2]
        if last == 'type' and not isinstance(value, str):
            self.refuse(path, 'is no name')
        if isinstance(value, str):
            own = owner is not None and key.partition('.')[0] in owner.hints
            sound = own and allow_list.WORD.fullmatch(value) and not allow_list.PLACES.search(key)
            if not (sound or allow_list.may_be(key, value)):
                self.refuse(path, f'is {value[:60]!r}, a text that is not allowed there')
        elif isinstance(value, (int, float)):
            if not (math.isfinite(value) and abs(value) <= allow_list.LIMITS.get(last, allow_list.MOST)):
                self.refuse(path, f'is {str(value)[:60]}, which is too large')
        elif value is not None:
            self.refuse(path, f'is a {type(value).__name__}')

    def refuse_many(self, path: str, node: Any) -> None:
        if len(node) > allow_list.ITEMS:
            self.refuse(path, f'has {len(node)} entries')

    def refuse(self, path: str, what: str) -> typing.NoReturn:
        cure = TRUST
        if self.left:
            packages = ','.join(sorted({module.partition('.')[0] for module in self.left}))
            wanted = ', '.join(self.left)
            cure = f'Its config imports {wanted}: if you trust that code, start with {PLUGINS}={packages}.'
        raise CheckpointError(self.source, f'{path} of its config {what}.', cure)


@dataclass(frozen=True)
class _Owner:
    """A class that a section is built into, and what it takes at the keys that are not those of a library's class."""

    name: str
    hints: dict[str, Any]

    @classmethod
    def of(cls, builder: Any) -> _Owner:
        """Read the parameters of a class of this project or of a plug-in, up to the first of a library's classes."""
        hints: dict[str, Any] = {}
        for base in inspect.getmro(builder) if inspect.isclass(builder) else (builder,):
            function = vars(base).get('__init__') if inspect.isclass(base) else base
            if package_of(base) in allow_list.STACK:
                break
            if function is None:
                continue
            try:
                annotated = typing.get_type_hints(function)
            except (NameError, TypeError, AttributeError):  # It names what exists for type checkers only.
                annotated = {}
            parameters = inspect.signature(function).parameters.values()
            for parameter in parameters:
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    hints.setdefault(parameter.name, annotated.get(parameter.name, Any))
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
                break
        return cls(getattr(builder, '__name__', str(builder)), hints)


def allowed(builder: Any) -> bool:
    """Return whether a stored config may build something: a class of the list, of this project or of a plug-in."""
    package = package_of(builder)
    if package in os.environ.get(PLUGINS, '').replace(' ', '').split(',') or package not in allow_list.STACK:
        return inspect.isclass(builder) or inspect.isfunction(builder)
    return inspect.isclass(builder) and (package, builder.__name__) in allow_list.CLASSES


def package_of(builder: Any) -> str:
    """Return the package that a class or function is defined in."""
    return str(getattr(builder, '__module__', None) or 'builtins').partition('.')[0]


def builders_of(name: str, scope: str) -> list[Any]:
    """Return all that a ``type`` may mean: which registry is asked depends on the class that builds it.

    Args:
        name: A name, or 'scope.name'.
        scope: The default scope.
    """
    prefix, _, last = name.rpartition('.')
    if prefix in allow_list.SCOPES or prefix in roots.MODELS.children:
        scope, name = prefix, last
    found = []
    for root in vars(roots).values():
        if isinstance(root, Registry) and name in (names := registered(root, scope)) and names[name] not in found:
            found.append(names[name])
    return found


def fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value is what an annotation asks for; one that asks for no plain value takes no text.

    Args:
        value: Of a config.
        hint: As :func:`typing.get_type_hints` gives it.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is typing.Literal:
        return value in inner
    if hint is Any:
        return True
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    kind = origin or hint
    if not isinstance(kind, type) or kind in (bool, str, type(None)):
        return isinstance(kind, type) and isinstance(value, kind)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if issubclass(kind, Sequence):
        return isinstance(value, (list, tuple)) and all(fits(item, inner[0]) for item in value if inner)
    return not isinstance(value, str)


def _import_modules(config: Config, source: str | Path, trust: bool) -> list[str]:
    """Import what a config may import, and return the modules that it may not."""
    wanted = look_up(config, 'custom_imports', Mapping, source, {})
    modules = wanted.get('imports') or []
    modules = [modules] if isinstance(modules, str) else modules
    if not isinstance(modules, (list, tuple)) or not all(isinstance(module, str) for module in modules):
        raise CheckpointError(source, 'custom_imports of its config names no modules.', TRUST)
    allowed_modules = [module for module in modules if trust or _may_be_imported(module)]
    for module in allowed_modules:
        try:
            importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:  # The latter two are of what is no module's name.
            if not wanted.get('allow_failed_imports'):
                cure = 'Install the package that holds it, or start with PYTHONPATH=FOLDER that does.'
                raise CheckpointError(source, f'its config imports {module}: {error}.', cure) from error
    theirs = (module for module in modules if module.partition('.')[0] not in (*allow_list.LIBRARIES, 'vasomim'))
    return [module for module in theirs if module not in allowed_modules and module not in sys.modules]


def _may_be_imported(module: str) -> bool:
    """Return whether a stored config may import a module: imports of others than these could do anything."""
    package, *parts = module.split('.')
    if '__main__' in parts:
        return False
    if package in allow_list.LIBRARIES:
        return not parts or parts[0] in PARTS
    return bool(package) and package in ('vasomim', *os.environ.get(PLUGINS, '').replace(' ', '').split(','))
