"""Numbers that no training can start with are errors of the config, before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from vasomim.errors import ConfigError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
MMENGINES = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')  # None: without it.
TOGETHER = {  # mmengine takes all of them or none.
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}


def whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    """Return a test for whole numbers of a range; both ends belong to it."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


AT_LEAST_1 = (whole(1), 'a whole number of at least 1')
AT_LEAST_0 = (whole(0), 'a whole number of at least 0')
POSITIVE = (lambda value: number(value) and value > 0, 'a number above 0')
SHARE = (lambda value: number(value) and 0 <= value < 1, 'a number in [0, 1)')
SEED = (whole(0, 2**32 - 1), f'a whole number from 0 to {2**32 - 1}')  # As NumPy takes them.

# What stands at these places, if anything does: a test of it, and what it asks for.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'train_cfg.max_epochs': AT_LEAST_1,
    'train_cfg.max_iters': AT_LEAST_1,
    'train_cfg.val_interval': AT_LEAST_1,
    'train_cfg.val_begin': AT_LEAST_0,
    **{f'{loader}.batch_size': AT_LEAST_1 for loader in LOADERS},
    **{f'{loader}.num_workers': AT_LEAST_0 for loader in LOADERS},
    **{f'{loader}.prefetch_factor': AT_LEAST_1 for loader in LOADERS},
    'randomness.seed': SEED,
    'optim_wrapper.accumulative_counts': AT_LEAST_1,
    'optim_wrapper.optimizer.lr': (lambda value: number(value) and value >= 0, 'a number of at least 0'),
    'optim_wrapper.clip_grad.max_norm': POSITIVE,
    'auto_scale_lr.base_batch_size': AT_LEAST_1,
}
# The same for keys anywhere in the model.
MODEL_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'num_heads': AT_LEAST_1,
    'decoder_num_heads': AT_LEAST_1,
    'num_layers': AT_LEAST_1,
    'decoder_depth': AT_LEAST_1,
    'embed_dims': AT_LEAST_1,
    'decoder_embed_dim': (lambda value: whole(4)(value) and value % 4 == 0, 'a multiple of 4'),
    'drop_path_rate': SHARE,
    'drop_rate': SHARE,
    'img_size': (lambda value: sides(value), 'a whole number of at least 1, or two'),
    'patch_size': (lambda value: sides(value), 'a whole number of at least 1, or two'),
}


def sides(value: Any) -> bool:
    """Return whether a value is one side, or two."""
    several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    return all(whole(1)(side) for side in (value if several else [value]))


def check_values(cfg: Config) -> None:
    """Check the numbers of a config that trains or tests, and that its parts are complete.

    Raises:
        ConfigError: For the first one that is out of range; names the key and what it takes.
    """
    where = str(cfg.filename or 'config')
    for key, value in values_of(cfg):
        fits, wanted = RULES.get(key) or MODEL_RULES[key.rpartition('.')[2]]
        if value is not None and not fits(value):
            raise ConfigError(where, f'{key} is {value!r}.', f'It takes {wanted}.')
    for keys in TOGETHER.values():
        for key in keys:
            kinds = (Mapping, list, tuple) if key.endswith('evaluator') else (Mapping,)
            if cfg.get(key) is not None and not isinstance(cfg[key], kinds):
                raise ConfigError(where, f'{key} is {cfg[key]!r}.', f'It takes a dict, or None: {key}=None.')
        absent = [key for key in keys if cfg.get(key) is None]
        if 0 < len(absent) < len(keys):
            left = ' '.join(f'{key}=None' for key in keys)
            what = f'{", ".join(absent)} is missing beside {", ".join(key for key in keys if key not in absent)}.'
            raise ConfigError(where, what, f'Set all three, or leave all three out: --cfg-options {left}')
    for loader in LOADERS:
        if cfg.get(loader) is not None and not cfg[loader].get('dataset'):
            raise ConfigError(where, f'{loader}.dataset is missing.', 'It takes a dict with a type.')
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if hook is None and name not in MMENGINES:
            raise ConfigError(where, f'default_hooks.{name} is None.', f'There is no hook {name} to leave out.')
    if not isinstance(cfg.get('model'), Mapping):
        raise ConfigError(where, f'model is {cfg.get("model")!r}.', 'It takes a dict with a type.')


def values_of(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of whatever a rule is about."""
    for key in RULES:
        node: Any = cfg._cfg_dict
        for part in key.split('.'):
            node = node.get(part) if isinstance(node, Mapping) else None
        yield key, node
    yield from within('model', cfg.get('model'))


def within(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what lies in a section of the model and has a rule; a list, one for each stage of an encoder, has none."""
    items: Any = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key in MODEL_RULES and (key.endswith(('size', 'rate')) or not isinstance(value, (Mapping, list, tuple))):
            yield f'{path}.{key}', value
        else:
            yield from within(f'{path}.{key}', value)
