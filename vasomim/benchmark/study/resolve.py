"""From entries to the configs that run, and to the hashes that name them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import StrictInt, TypeAdapter

from vasomim.benchmark.results.records import digest
from vasomim.benchmark.schema import Sha256, checked
from vasomim.benchmark.study.earlier_names import by_earlier_names
from vasomim.benchmark.study.entries import Method, Protocol, Task
from vasomim.errors import ConfigError, DatasetError
from vasomim.files import read_json, write_whole
from vasomim.frames.layout import walk
from vasomim.prepare.plan import SPLITS
from vasomim.prepare.prepared import boxes_path, image_path, mask_path, read_description, read_split

if TYPE_CHECKING:
    from mmengine.config import Config

DATA = 'data'
# Keys whose values say where something lies, not what it is. What lies there is hashed by its content.
PLACES = {
    'data_root',
    'anatomy_root',
    'ann_file',
    'work_dir',
    'load_from',
    'resume',
    'launcher',
    'checkpoint',
    'per_case_file',
    'outfile_prefix',
    'out_dir',
    'save_dir',
}
IMAGES = {'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff'}
# Where a training's outcome does not depend on it: how it is shown.
SHOWN = {'visualizer', 'log_level', 'experiment_name'}


def data_folder(path: str, data_root: str | None) -> Path:
    """Return a folder; one below ``data/`` moves to ``data_root``."""
    parts = Path(path).parts
    return Path(data_root, *parts[1:]) if data_root is not None and parts[0] == DATA else Path(path)


def finetuning_config(
    task: Task, method: Method, protocol: Protocol, seed: int, fraction: float, data_root: str | None = None
) -> Config:
    """Return the config of a cell's fine-tuning and test, all options applied and checked.

    Args:
        task: Its options come first,
        method: the method's ``finetune_options`` last,
        protocol: the protocol's in between: 'all', the kind of task, the task; and those for few labels at the end.
        seed: Of the fine-tuning, and of the choice of the labels where that is a part.
        fraction: Share of the training labels, in (0, 1].
        data_root: Takes the place of ``data``.

    Raises:
        ConfigError: If the config does not exist, or a key of the options does not.
        DatasetError: If the data are missing.
    """
    from vasomim.apis.config_parts import use_data
    from vasomim.apis.configs import load_config

    assert task.config is not None and task.data is not None
    cfg = load_config(task.config)
    of = protocol.finetuning.get('options', {})
    parts = (
        (task.origin, task.options),
        (protocol.origin, of.get('all', {})),
        (protocol.origin, of.get(task.task, {})),
    )
    for origin, options in (*parts, (protocol.origin, of.get(task.name, {})), (method.origin, method.finetune_options)):
        apply_options(cfg, options, origin)
    use_data(cfg, str(data_folder(task.data, data_root)))
    few_labels = protocol.finetuning.get('few_labels', {})
    if fraction in few_labels:
        apply_options(cfg, few_labels[fraction], protocol.origin)
    if fraction != 1.0:
        apply_options(
            cfg,
            {'train_dataloader.dataset.label_fraction': fraction, 'train_dataloader.dataset.seed': seed},
            'benchmark',
        )
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    if task.task == 'segmentation':
        cfg.test_evaluator.measures = list(task.metrics)
        cfg.test_evaluator.subgroups = list(task.subgroups)
    return with_known_keys(cfg)


def pretraining_config(method: Method, protocol: Protocol, data_root: str | None = None, seed: int = 0) -> Config:
    """Return the config of a method's pre-training.

    Args:
        method: Its options come first, then those of the protocol for all methods, then those for this one.
        protocol: See :class:`vasomim.benchmark.study.entries.Protocol`.
        data_root: Takes the place of ``data``.
        seed: Of the pre-training.

    Raises:
        ConfigError: If the config does not exist, or a key of the options does not.
        DatasetError: If the frames are missing.
    """
    from vasomim.apis.config_parts import use_data
    from vasomim.apis.configs import load_config

    assert method.config is not None
    cfg = load_config(method.config)
    of = protocol.pretraining.get('options', {})
    apply_options(cfg, method.options, method.origin)
    for name in ('all', method.name):
        apply_options(cfg, of.get(name, {}), protocol.origin)
    wanted = method.data or protocol.pretraining.get('data')
    folder = data_folder(wanted or cfg.train_dataloader.dataset.data_root, data_root)
    use_data(cfg, str(folder))
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    return with_known_keys(cfg)


def apply_options(cfg: Config, options: Mapping[str, Any], origin: str) -> None:
    """Merge dotted keys into a config; a list that takes the place of a tuple becomes one.

    Raises:
        ConfigError: If a key names nothing in the config.
    """
    from vasomim.engine.strict import check_options

    values = {key: like(cfg, key, value) for key, value in options.items()}
    try:
        check_options(cfg, values)
    except ConfigError as error:
        where = str(error.where).replace('--cfg-options', 'options:')
        raise ConfigError(f'{origin}: {where} on {cfg.filename}', error.what, error.cure) from error
    for key, value in values.items():
        cfg.merge_from_dict({key: value})


def like(cfg: Any, key: str, value: Any) -> Any:
    """Return a value, a list as a tuple where the config holds one, a dict as a whole where it holds a name."""
    if not isinstance(value, (list, dict)):
        return value
    node = cfg
    for part in key.split('.'):
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return value
    if isinstance(value, dict):
        return value if isinstance(node, Mapping) else {'_delete_': True, **value}
    return tuple(value) if isinstance(node, tuple) else value


def with_known_keys(cfg: Config) -> Config:
    """Return a config once its keys have been checked, without what holds its source files open."""
    from vasomim.engine.strict import check_config

    check_config(cfg)
    return cfg


def config_hash(cfg: Config) -> str:
    """Return the sha256 of what a config trains: without helper variables, folders and how it is shown.

    The weights of a vessel segmentor count by their content.

    Raises:
        CheckpointError: If they are missing.
    """
    from vasomim.checkpoints.runs import find_weights
    from vasomim.engine.strict import SECTIONS

    kept = plain({key: value for key, value in cfg.items() if key in SECTIONS[''] and key not in SHOWN})
    segmentor = kept['model'].get('segmentor')
    if segmentor is not None and segmentor.get('weights') is not None:
        segmentor['weights'] = file_sha256(find_weights(segmentor['weights']))
    kept['model'] = by_earlier_names(kept['model'])
    return digest(kept)


def plain(value: Any) -> Any:
    """Return a nested value as JSON holds it, without keys that name places."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if key not in PLACES}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return f'{getattr(value, "__module__", "")}.{getattr(value, "__qualname__", repr(value))}'


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex digits."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


HASHES = TypeAdapter(dict[str, tuple[StrictInt, StrictInt, Sha256]])  # Size, time of the last change, sha256.


class Fingerprints:
    """Hashes of files by content, kept in a file so that an unchanged file is read once.

    Args:
        path: Where they are kept; None keeps them nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, Sequence[Any]] = {}
        self.changed = False
        self.sets: dict[str, str] = {}
        if path is not None:
            with contextlib.suppress(DatasetError):  # Where there are none, or damaged ones, files are read again.
                self.known = checked(HASHES, read_json(path, DatasetError), path, DatasetError, '')

    def file(self, path: Path) -> str:
        """Return the sha256 of a file's bytes.

        Raises:
            DatasetError: If it cannot be read.
        """
        try:
            state = path.stat()
            key, mark = str(path.resolve()), [state.st_size, state.st_mtime_ns]
            if list(self.known.get(key, ()))[:2] != mark:
                self.known[key] = [*mark, file_sha256(path)]
                self.changed = True
        except OSError as error:
            raise DatasetError(path, f'it cannot be read: {error.strerror}.', 'Prepare the set again.') from error
        return str(self.known[key][2])

    def files(self, root: Path, paths: Iterable[Path]) -> str:
        """Return a hash of files' names below ``root`` and contents."""
        return digest(sorted([str(path.relative_to(root)), self.file(path)] for path in paths))

    def prepared(self, folder: Path) -> str:
        """Return the hash of a prepared set: its splits, images, masks and boxes.

        Raises:
            DatasetError: If it is none, or a file is missing.
        """
        if str(folder) not in self.sets:
            description = read_description(folder)
            root = Path(folder).expanduser()
            names = {split: read_split(root, split) for split in SPLITS}
            paths = [image_path(root, name) for part in names.values() for name in part]
            if description['masks']:
                paths += [mask_path(root, name) for part in names.values() for name in part]
            if description['boxes']:
                paths += [boxes_path(root, split) for split in SPLITS if boxes_path(root, split).is_file()]
            self.sets[str(folder)] = digest({'splits': names, 'files': self.files(root, paths)})
            self.save()
        return self.sets[str(folder)]

    def frames(self, folder: Path, anatomy: Path | None) -> str:
        """Return the hash of a folder of frames, or of a packed set, and of their anatomy maps.

        Raises:
            DatasetError: If there is no image, or one cannot be read.
        """
        from vasomim.data.pack_format import INDEX, is_packed  # Its package imports PyTorch.

        key = f'{folder}|{anatomy}'
        if key not in self.sets:
            found = []
            for root in (folder, *([anatomy] if anatomy else [])):
                # The index of a packed set holds the hashes of its shards.
                names = [INDEX] if is_packed(root) else walk(root, anatomy_suffix='')
                paths = [root / name for name in names if name == INDEX or Path(name).suffix.lower() in IMAGES]
                if not paths:
                    raise DatasetError(root, 'there is no image.', 'Prepare the set again.')
                found.append(self.files(root, paths))
            self.sets[key] = digest(found)
            self.save()
        return self.sets[key]

    def save(self) -> None:
        """Keep what was read."""
        if self.changed and self.path is not None:
            write_whole(self.path, json.dumps(self.known))
            self.changed = False


def frames_hash(cfg: Config, fingerprints: Fingerprints) -> str:
    """Return the hash of the data that a pre-training config reads."""
    dataset = cfg.train_dataloader.dataset
    root = Path(dataset.data_root).expanduser()
    anatomy = dataset.get('anatomy_root')
    return fingerprints.frames(root, Path(anatomy) if anatomy else None)
