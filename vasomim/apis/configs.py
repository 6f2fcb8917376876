"""Configs: found by file or name, read, changed by options and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.config import Config, DictAction

from vasomim.engine.options import merge_options
from vasomim.engine.reading import read_config
from vasomim.engine.strict import check_config
from vasomim.engine.values import check_values
from vasomim.errors import ConfigError, did_you_mean

PACKAGE = 'vasomim::'
Options = Mapping[str, Any] | Sequence[str] | None  # Dotted keys with their values, or texts KEY=VALUE.


def load_config(config: str | Path, options: Options = None) -> Config:
    """Read a config, merge options into it and check both.

    Args:
        config: A file, or 'vasomim::FOLDER/NAME.py' for one that came with the package.
        options: What to change: a dict of dotted keys and values, or texts KEY=VALUE.

    Raises:
        ConfigError: If the file does not exist or is not valid, a key or an option is misspelled, or a value is out of
            its range.
    """
    cfg = read_config(config_path(config))
    merge_options(cfg, parse_options(options))
    check_config(cfg)
    check_values(cfg)
    return cfg


def config_path(config: str | Path) -> Path:
    """Return the file of a config.

    Raises:
        ConfigError: If there is none; names the config that resembles the name most.
    """
    name = str(config)
    folder = shipped_configs()
    path = folder / name[len(PACKAGE) :] if name.startswith(PACKAGE) else Path(name)
    if path.is_file():
        return path
    shipped = sorted(str(file.relative_to(folder)) for file in folder.rglob('*.py') if '_base_' not in file.parts)
    wanted = name[len(PACKAGE) :] if name.startswith(PACKAGE) else name.removeprefix('configs/')
    by_stem = {Path(file).stem: file for file in shipped}
    hint = did_you_mean(wanted, shipped) or did_you_mean(Path(name).stem, by_stem)
    listed = '\n    '.join(f'{PACKAGE}{file}' for file in shipped)
    raise ConfigError(
        name,
        f'there is no such config.{hint}',
        f'Pass the path of a file, or one of these:\n    {listed}' if shipped else 'Pass the path of a file.',
    )


def shipped_configs() -> Path:
    """Return the folder of the configs that come with the package, in a checkout or as installed."""
    package = Path(__file__).parents[1]
    installed = package / '.mim' / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def parse_options(options: Options) -> dict[str, Any]:
    """Return changes of a config by their dotted keys.

    Args:
        options: A dict of them; or texts KEY=VALUE, whose values are read as OpenMMLab's tools do: numbers, booleans,
            None, lists in brackets.

    Raises:
        ConfigError: If a text has no '=' or unbalanced brackets.
    """
    if options is None or isinstance(options, Mapping):
        return dict(options or {})
    if isinstance(options, str):
        options = [options]
    read = SimpleNamespace(values={})
    action = DictAction([], 'values')  # Of the command line, where OpenMMLab's syntax is defined; it needs no parser.
    for option in options:
        try:
            action(None, read, [option])
        except (ValueError, AssertionError) as error:
            raise ConfigError(
                f'--cfg-options {option}',
                'it is not of the form KEY=VALUE.',
                'Write the dotted key, =, and the value: model.masking.ratio=0.6',
            ) from error
    return dict(read.values)
