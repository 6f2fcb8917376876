"""Which frames of a prepared set a reader takes: a split, a part of it, without those of a list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vasomim.errors import ConfigError, DatasetError, did_you_mean
from vasomim.files import read_json
from vasomim.frames.layout import composed
from vasomim.prepare.catalog import all_datasets, find_set
from vasomim.prepare.plan import SPLITS
from vasomim.prepare.prepared import EMPTY_SPLIT, read_description, read_split
from vasomim.prepare.published import PreparedSet

if TYPE_CHECKING:
    from mmengine.registry import Registry


class PreparedReader:
    """What readers of prepared sets share, whatever library they are for.

    Attributes:
        SET: Name of the set that a reader is for; None: any, whose classes come from its ``dataset.json``.
        NEEDS: What the set has to hold, 'masks' or 'boxes'.
    """

    SET: str | None = None
    NEEDS = 'masks'

    def open(
        self, data_root: str | Path, split: str, label_fraction: float, seed: int, exclude: str | Path | None
    ) -> tuple[str, ...]:
        """Set ``root`` and ``names``, the frames of a split, and return the set's classes; see :func:`open_split`."""
        description, self.names = open_split(
            type(self).__name__, data_root, split, label_fraction, seed, exclude, self.SET, self.NEEDS
        )
        self.root = Path(data_root).expanduser()
        return tuple(description['classes'])


def open_split(
    owner: str,
    root: str | Path,
    split: str,
    label_fraction: float = 1.0,
    seed: int = 0,
    exclude: str | Path | None = None,
    expected: str | None = None,
    needs: str = 'masks',
) -> tuple[dict[str, Any], list[str]]:
    """Open a prepared set and choose frames.

    Args:
        owner: The reader, for errors.
        root: Folder of the prepared set.
        split: 'train', 'val' or 'test'.
        label_fraction: Part of the split, in (0, 1]: a smaller part of the same seed lies in a larger one.
        seed: Of that choice, 0 or more.
        exclude: File of frames to leave out, see :func:`excluded_names`.
        expected: Name of the set that ``root`` has to be; None: any.
        needs: What the set has to hold: 'masks' or 'boxes'.

    Returns:
        The set's description and the sorted names, at least one.

    Raises:
        ConfigError: If an option is out of range.
        DatasetError: If the folder is another set, none, or nothing is left of the split.
    """
    if split not in SPLITS:
        hint = did_you_mean(str(split), SPLITS)
        raise ConfigError(f'{owner}.split', f'{split!r} is no split.{hint}', f'Choose from {", ".join(SPLITS)}.')
    if not 0 < label_fraction <= 1:
        raise ConfigError(f'{owner}.label_fraction', f'{label_fraction} is no part.', 'Set it in (0, 1].')
    if seed < 0:
        raise ConfigError(f'{owner}.seed', f'{seed} is no seed.', 'Set 0 or a positive number.')
    description = read_description(root)
    if expected is not None and description['name'] != expected:
        raise DatasetError(
            root,
            f"this is the prepared set '{description['name']}'; {owner} reads '{expected}'.",
            f'Name the folder of that set, or train on this one by {config_of(description, needs)}.',
        )
    if not description[needs]:
        other = 'boxes' if needs == 'masks' else 'masks'
        raise DatasetError(root, f'this set has {other}, but no {needs}.', f'Use a reader of {other}.')
    names = read_split(Path(root).expanduser(), split)
    if not names:
        raise DatasetError(root, f"its split '{split}' is empty.", EMPTY_SPLIT)
    names = choose_part(names, label_fraction, seed)
    left_out = excluded_names(exclude) if exclude is not None else set()
    kept = [name for name in names if composed(name) not in left_out]
    if not kept:
        raise DatasetError(root, f'exclude leaves nothing of the {len(names)} frames.', 'Use another list.')
    return description, kept


def config_of(description: Mapping[str, Any], needs: str) -> str:
    """Return the config that comes for a prepared set: with what is needed, else with what it has."""
    masks = description['masks'] and (needs == 'masks' or not description['boxes'])
    known = find_set(description['name'])
    folder = (known and known[1].configs) or f'vasomim::downstream/{description["name"]}'
    return f'{folder}/{"segmentation" if masks else "detection"}.py'


def make_readers(
    kind: str, base: type[PreparedReader], registry: Registry, metainfo: Callable[[PreparedSet], dict[str, Any]]
) -> dict[str, type]:
    """Make and register a reader for each published set that has one.

    Args:
        kind: 'mask_reader' or 'box_reader'.
        base: What the readers do; they seem to be written in its module, which has to hold them.
        registry: Of mmseg or mmdet.
        metainfo: Returns the classes and colours of a set as this library wants them.

    Returns:
        The classes by the names that configs use.

    Raises:
        ConfigError: If a dataset calls its reader like another class there.
    """
    made: dict[str, type] = {}
    for each in (each for dataset in all_datasets() for each in dataset.sets if getattr(each, kind)):
        name = getattr(each, kind)
        if name in registry.module_dict:
            where, cure = f"set '{each.name}'", f'Give its {kind} another name.'
            raise ConfigError(where, f"there is another class '{name}' of data sets.", cure)
        content = {'__doc__': each.about, '__module__': base.__module__, 'SET': each.name, 'METAINFO': metainfo(each)}
        made[name] = registry.register_module(module=type(name, (base,), content))
    return made


def choose_part(names: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Return a seeded part of names, at least one, sorted; parts of one seed are nested."""
    ordered = sorted(names)
    chosen = np.random.default_rng(seed).permutation(len(ordered))[: max(1, round(fraction * len(ordered)))]
    return [ordered[k] for k in sorted(chosen)]


def excluded_names(path: str | Path) -> Collection[str]:
    """Read a list of frames to leave out.

    Args:
        path: JSON with a list under 'exclude', as ``vasomim check --write-exclusions`` writes it; or the name of a
            published dataset that comes with one, as 'arcade': its training frames that resemble a validation frame of
            either task.

    Raises:
        DatasetError: If it cannot be read.
    """
    shipped = {dataset.name: dataset.exclusions for dataset in all_datasets() if dataset.exclusions}
    cure = f'Name a file of `vasomim check --write-exclusions`, or {", ".join(map(repr, shipped))}.'
    content = read_json(shipped.get(str(path), Path(path)).expanduser(), DatasetError, cure)
    names = content.get('exclude')
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(path, "there is no list 'exclude' of names in it.", cure)
    return {composed(name) for name in names}
