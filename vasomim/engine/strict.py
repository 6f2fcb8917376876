"""Misspelled keys in a config are errors that name the place and, where one is close, the right spelling."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner
from torch import nn
from torch.utils.data import DataLoader

from vasomim.errors import ConfigError, did_you_mean
from vasomim.registry import registered

OURS = 'vasomim'
# What a `type` in these sections names. Keys further inside a section (`pipeline`) change it again.
REGISTRIES: dict[str, Registry] = {
    'model': roots.MODELS,
    'data_preprocessor': roots.MODELS,
    'init_cfg': roots.WEIGHT_INITIALIZERS,
    'dataset': roots.DATASETS,
    'pipeline': roots.TRANSFORMS,
    'transforms': roots.TRANSFORMS,
    'sampler': roots.DATA_SAMPLERS,
    'default_hooks': roots.HOOKS,
    'custom_hooks': roots.HOOKS,
    'val_evaluator': roots.METRICS,
    'test_evaluator': roots.METRICS,
    'visualizer': roots.VISUALIZERS,
    'vis_backends': roots.VISBACKENDS,
    'optim_wrapper': roots.OPTIM_WRAPPERS,
    'optimizer': roots.OPTIMIZERS,
    'param_scheduler': roots.PARAM_SCHEDULERS,
}
BUILT = ('pipeline', 'transforms', 'optimizer')  # What stands under these keys is always built from its `type`.
NOT_BUILT = ('nms', 'clip_grad')  # Their `type` is the name of a function or of a choice, which no registry holds.
BUILDERS_OWN = {
    'type',
    '_scope_',
    'priority',
    'convert_to_iter_based',
}  # Read by the builder before the class sees the rest.
PARTS = ('backbone', 'neck', 'head', 'masking', 'guidance', 'segmentor')  # Of a model: sections that are built.
NEAR = 0.8  # From this similarity on, a variable's name is taken for a misspelled section: train_cgf, but not norm_cfg.
UNEXPECTED = re.compile(r"(\w+)(?:\.__\w+__)?\(\) got an unexpected keyword argument '(\w+)'")


def _parameters(*callables: Any) -> set[str]:
    return {
        name
        for function in callables
        for name in inspect.signature(function).parameters
        if name not in ('self', 'runner')
    }


LOADER = _parameters(DataLoader) | {'num_batch_per_epoch', 'disable_subprocess_warning'}
OPTIMIZER_BUILDERS_OWN = {'constructor', 'paramwise_cfg'}  # Taken out of optim_wrapper before its class sees the rest.
# Sections that mmengine reads without a `type`.
SECTIONS: dict[str, set[str]] = {
    '': _parameters(Runner) - {'cfg'}
    | {
        'runner_type',
        'custom_imports',
        'launcher',
        'compile',
        'find_unused_parameters',
        'model_wrapper_cfg',
        'sync_bn',
        'activation_checkpointing',
    },
    'train_dataloader': LOADER,
    'val_dataloader': LOADER,
    'test_dataloader': LOADER,
    'train_cfg': _parameters(EpochBasedTrainLoop, IterBasedTrainLoop) | {'by_epoch'},
    'optim_wrapper': _parameters(OptimWrapper) | OPTIMIZER_BUILDERS_OWN | {'optimizer', 'type'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'randomness': _parameters(Runner.set_randomness),
    'log_processor': _parameters(LogProcessor),
}


@dataclass(frozen=True)
class Keys:
    """The keys that a section takes; not ``closed`` where it may take others as well."""

    names: set[str]
    closed: bool


def check_config(cfg: Config) -> None:
    """Check a config before anything is built from it.

    Keys are checked in every section whose ``type`` is a class of this project, wherever it stands (models, pipelines,
    hooks, metrics), and in those that mmengine reads without a type. Variables at the top level are free, unless their
    name is nearly that of a section; with a leading underscore any name is.

    Args:
        cfg: The config, its ``custom_imports`` done.

    Raises:
        ConfigError: For an unknown key or an unknown ``type``; names the dotted path and the config file.
    """
    where = str(cfg.filename or 'config')
    scope = cfg.get('default_scope') or 'mmengine'
    for name, section in cfg.items():
        if name not in SECTIONS['']:  # A variable that helps to write the config.
            _check_variable(where, name)
            continue
        if name in SECTIONS and isinstance(section, Mapping) and 'type' not in section:
            _check_keys(where, name, section, SECTIONS[name])
        for path, node, registry, certain, inner in _typed(
            section, name, REGISTRIES.get(name), name in REGISTRIES, scope
        ):
            builder = find(node['type'], registry, inner)
            if builder is None:
                if certain:
                    choices = registered(registry or roots.MODELS, inner)
                    raise ConfigError(
                        where,
                        f"{path}.type: '{node['type']}' is not registered.{did_you_mean(str(node['type']), choices)}",
                        'Correct it, or add the module that registers it to custom_imports.',
                    )
            elif is_ours(builder):
                keys = keys_of(builder)
                if keys.closed:
                    taken_out = OPTIMIZER_BUILDERS_OWN if path == 'optim_wrapper' else set()
                    _check_keys(where, path, node, keys.names | taken_out)


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Check ``--cfg-options`` against the config that they change.

    A dotted path may name what the config has, or what the class or section at that place takes besides.

    Args:
        cfg: The config before the options are merged.
        options: Dotted paths and their values.

    Raises:
        ConfigError: For a path that would be merged without ever being read.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    for path in options:
        node: Any = cfg
        registry: Registry | None = None
        parts = path.split('.')
        for index, part in enumerate(parts):
            where = f'--cfg-options {path}'
            parent = '.'.join(parts[:index])
            if isinstance(node, Sequence) and not isinstance(node, str):
                if not part.isdigit() or int(part) >= len(node):
                    raise ConfigError(
                        where,
                        f"{parent} is a list of {len(node)}; it has no entry '{part}'.",
                        f'Name an entry by its number, 0 to {len(node) - 1}.',
                    )
                node = node[int(part)]
                continue
            if not isinstance(node, (Mapping, Config)):
                raise ConfigError(where, f'{parent} is a value ({node!r}), not a section.', 'Set it as a whole.')
            registry = REGISTRIES.get(part, registry)
            scope = node.get('_scope_') or scope
            if part in node:
                node = node[part]
                continue
            keys = _keys_at(node, parent, registry, scope)
            if part in keys.names:
                new = '.'.join(parts[: index + 1])
                if part in PARTS and index + 1 < len(parts) and f'{new}.type' not in options:
                    what = f'the {parent} of this config has no {part}, and {path} alone gives it no type.'
                    raise ConfigError(where, what, f'Leave it out, or set the type too: {new}.type=NAME.')
                break  # What lies below is new, and the class that it is for will judge it.
            hint = did_you_mean(part, {*node, *keys.names})
            if keys.closed or hint or index + 1 < len(parts):
                raise ConfigError(
                    where,
                    f"there is no '{part}' in {parent or 'the config'}.{hint}",
                    f'It has: {", ".join(sorted(map(str, node)))}.',
                )
            break


def unexpected_key(cfg: Config, error: TypeError) -> ConfigError | None:
    """Return the error for a key that a library's class turned out not to take; None for any other ``TypeError``.

    The classes of other libraries judge their keys themselves, when they are built. What they raise names neither the
    place nor the file.

    Args:
        cfg: The config that was being built.
        error: What the building raised.
    """
    found = UNEXPECTED.search(str(error))
    if found is None:
        return None
    name, key = found.groups()
    sections = sections_of(cfg, key)
    if not sections:
        return None
    # The class that is named, or one that hands its keys on to it; else whatever has such a key.
    path, builder = next(
        (
            (path, builder)
            for path, builder in sections
            if name in {base.__name__ for base in (inspect.getmro(builder) if inspect.isclass(builder) else ())}
        ),
        sections[0],
    )
    names = keys_of(builder).names if builder is not None else set()
    return ConfigError(
        str(cfg.filename or 'config'),
        f'{path}.{key}: {name} takes no such key.{did_you_mean(key, names - {key})}',
        f'{path} takes: {", ".join(sorted(names - BUILDERS_OWN - {key}))}.' if names else 'Leave it out.',
    )


def sections_of(cfg: Config, key: str = 'type') -> list[tuple[str, Any]]:
    """Return the dotted path, and the class or function, of every section that mmengine builds and that has a key."""
    scope = cfg.get('default_scope') or 'mmengine'
    return [
        (path, find(node['type'], registry, inner))
        for section in cfg
        if section in SECTIONS['']
        for path, node, registry, _, inner in _typed(cfg[section], section, REGISTRIES.get(section), False, scope)
        if key in node
    ]


def find(name: Any, registry: Registry | None, scope: str) -> Any:
    """Return the class or function that a ``type`` names, or None.

    Args:
        name: The value of ``type``: a name, 'scope.name', or the class itself.
        registry: The root registry that is expected here; it is searched first, then all others.
        scope: The config's default scope.
    """
    if not isinstance(name, str):
        return name
    prefix, _, last = name.rpartition('.')
    if prefix in roots.MODELS.children:
        scope, name = prefix, last
    others = (root for root in vars(roots).values() if isinstance(root, Registry))
    for root in (*([registry] if registry else []), *others):
        names = registered(root, scope)
        if name in names:
            return names[name]
    return None


def keys_of(builder: Any) -> Keys:
    """Return the keys that a class or function takes: its own, and while it takes ``**kwargs``, its bases' as well."""
    names = set(BUILDERS_OWN)
    takes_more = False
    for base in inspect.getmro(builder) if inspect.isclass(builder) else (builder,):
        function = vars(base).get('__init__') if inspect.isclass(base) else base
        if base in (object, nn.Module) or function is None:
            continue
        parameters = inspect.signature(function).parameters.values()
        names.update(
            parameter.name
            for parameter in parameters
            if parameter.name != 'self' and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        )
        takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not takes_more:
            break
    return Keys(names, closed=not takes_more)


def is_ours(builder: Any) -> bool:
    """Return whether a class or function is this project's."""
    return str(getattr(builder, '__module__', '')).split('.')[0] == OURS


def _typed(
    node: Any, path: str, registry: Registry | None, certain: bool, scope: str
) -> Iterator[tuple[str, Mapping, Registry | None, bool, str]]:
    """Yield every section with a ``type``: its path, itself, its registry, whether it must be registered, its scope.

    A ``type`` must be registered at the places where mmengine builds from it, and inside a class of ours; elsewhere the
    word may be a library's own. ``_scope_`` in a section is the scope of what it builds, and of all within it.
    """
    if isinstance(node, Mapping):
        scope = node.get('_scope_') or scope
        if 'type' in node:
            yield path, node, registry, certain, scope
            certain = is_ours(find(node['type'], registry, scope))
        for key, value in node.items():
            inner = REGISTRIES.get(key, registry)
            loader = path.endswith('_dataloader') and key in ('dataset', 'sampler')
            sure = (certain or loader or key in BUILT) and key not in NOT_BUILT
            yield from _typed(value, f'{path}.{key}', inner, sure, scope)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _typed(value, f'{path}.{index}', registry, certain, scope)


def _check_variable(where: str, name: str) -> None:
    near = difflib.get_close_matches(name, SECTIONS[''], n=1, cutoff=NEAR)
    if near and not name.startswith('_'):
        raise ConfigError(
            where,
            f"{name}: nothing reads it. Did you mean '{near[0]}'?",
            f'Correct it; a variable of your own that is to be called so takes an underscore: _{name}.',
        )


def _keys_at(node: Mapping | Config, path: str, registry: Registry | None, scope: str) -> Keys:
    """Return the keys that the section at a path takes."""
    if path in SECTIONS and (path in ('', 'optim_wrapper') or 'type' not in node):
        return Keys(SECTIONS[path], closed=path not in ('', 'optim_wrapper'))
    builder = find(node['type'], registry, scope) if 'type' in node else None
    return Keys(set(), closed=False) if builder is None else keys_of(builder)


def _check_keys(where: str, path: str, section: Mapping, names: Collection[str]) -> None:
    for key in section:
        if key not in names:
            raise ConfigError(
                where,
                f'{path}.{key}: there is no such key.{did_you_mean(str(key), names)}',
                f'{path} takes: {", ".join(sorted(set(names) - BUILDERS_OWN))}.',
            )
