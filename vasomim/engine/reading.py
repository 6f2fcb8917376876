"""Reading a config file, with an error that says what is wrong in it."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import import_modules_from_strings

from vasomim.errors import ConfigError, did_you_mean
from vasomim.registry import LOCATIONS

PACKAGE = re.compile(r'does not support to load (\S+) config')
# The modules of this project that register what configs of a scope name.
OWN = {
    'mmpretrain': LOCATIONS,
    'mmseg': [
        'vasomim.models.segmentation',
        'vasomim.data.segmentation',
        'vasomim.evaluation.segmentation_metric',
        'vasomim.engine',
    ],
    'mmdet': [
        'vasomim.models.detection',
        'vasomim.data.detection',
        'vasomim.evaluation.detection_cases',
        'vasomim.engine',
    ],
}


def read_config(path: str | Path) -> Config:
    """Read a config with all that it inherits; to its ``custom_imports`` it gets the modules of this project.

    A config that names modules of its own there would otherwise replace the list of the config that it inherits.

    Raises:
        ConfigError: If it is not valid Python, a base does not exist, two bases set the same, or a module of its
            ``custom_imports`` cannot be imported.
    """
    try:
        cfg = Config.fromfile(path)
        add_own_imports(cfg)
        return cfg
    except SyntaxError as error:
        raise ConfigError(path, f'it is not valid Python: {error}', 'Correct the line that is named.') from error
    except NameError as error:
        raise ConfigError(path, f'{error}.', 'Correct the name, or assign it above its first use.') from error
    except FileNotFoundError as error:
        raise missing_base(path, Path(error.filename or str(error).partition('"')[2].rpartition('"')[0])) from error
    except AssertionError as error:
        package = PACKAGE.search(str(error))
        if package is None:
            raise
        hint = did_you_mean(package[1], MODULE2PACKAGE)
        raise ConfigError(
            path,
            f"_base_: there is no package '{package[1]}' of configs.{hint}",
            f'Inherit from {", ".join(f"{name}::" for name in sorted(MODULE2PACKAGE))} or from a file by its path.',
        ) from error
    except KeyError as error:
        if 'Duplicate key' not in str(error):
            raise
        keys = ', '.join(sorted(re.findall(r"'(\w+)'", str(error))))
        raise ConfigError(
            path,
            f'_base_: more than one base sets {keys}.',
            'Inherit from one config that sets everything, or from several that set different things.',
        ) from error
    except ImportError as error:
        raise ConfigError(
            path,
            f'custom_imports: {error.__cause__ or error}.',
            'Correct the name of the module, install its package, or start with PYTHONPATH=FOLDER that holds it.',
        ) from error


def add_own_imports(cfg: Config) -> None:
    """Put the modules of this project that a config leaves out before those that it imports, and import them.

    Args:
        cfg: The config, changed in place; one of another scope stays as it is.
    """
    wanted = dict(cfg.get('custom_imports') or {})
    named = wanted.get('imports') or []
    named = [named] if isinstance(named, str) else list(named)
    missing = [module for module in OWN.get(cfg.get('default_scope'), ()) if module not in named]
    if missing:
        cfg.custom_imports = {**wanted, 'imports': [*missing, *named]}
        import_modules_from_strings(missing)


def missing_base(path: str | Path, base: Path) -> ConfigError:
    """Return the error for a base that does not exist; names the neighbour that resembles it most."""
    if not base.name:
        return ConfigError(path, '_base_: a file that it names does not exist.', 'Correct the name.')
    neighbours = sorted(file.name for file in base.parent.glob('*.py'))
    folders = sorted(f'{file.name}/' for file in base.parent.parent.glob('*') if file.is_dir())
    hint = did_you_mean(base.name, neighbours) if neighbours else did_you_mean(f'{base.parent.name}/', folders)
    here = f'{base.parent} holds {", ".join(neighbours)}.' if neighbours else f'There is no config in {base.parent}.'
    return ConfigError(path, f'_base_: there is no {base}.{hint}', f'{here} Correct the name.')
