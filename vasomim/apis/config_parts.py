"""What a call puts into a config: the data, the encoder to start from; and whether a head suits the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from vasomim.checkpoints.runs import find_weights
from vasomim.data.pack_format import is_packed
from vasomim.engine.strict import check_config
from vasomim.errors import ConfigError
from vasomim.frames.layout import existing_folder, maps_beside, merged_sources
from vasomim.prepare.prepared import DESCRIPTION, read_description

DOWNSTREAM = ('mmseg', 'mmdet')  # Scopes of the configs that fine-tune an encoder.
# Readers whose classes are those of the data: what they need, what classifies it, and how many more classes that has.
OWN_CLASSES = {'FolderSegmentation': ('masks', 'decode_head', 1), 'FolderDetection': ('boxes', 'roi_head.bbox_head', 0)}


def use_data(cfg: Config, folder: str | Path) -> None:
    """Let a config read its data, trained and held out, from another folder; its transforms stay.

    Args:
        cfg: The config, changed in place.
        folder: Pre-training: XA-170K's root, known by its sources' folders, a packed set, or any folder of images.
            Downstream tasks: a prepared folder.

    Raises:
        DatasetError: If the folder does not exist.
        ConfigError: If the config reads something else than angiograms with anatomy.
    """
    root = existing_folder(folder)
    if cfg.get('default_scope') in DOWNSTREAM:
        for part in ('train', 'val', 'test'):
            if cfg.get(f'{part}_dataloader'):
                cfg[f'{part}_dataloader'].dataset.data_root = str(root)
            for evaluator in evaluators(cfg, part):
                if evaluator.get('ann_file'):
                    evaluator['ann_file'] = str(root / Path(evaluator['ann_file']).name)
        return
    if is_packed(root):
        data: dict[str, Any] = dict(type='PackedAngiograms', data_root=str(root))
    elif merged_sources(root):
        data = dict(type='XA170K', data_root=str(root))
    else:
        maps = maps_beside(root)
        data = dict(type='AngiogramFolder', data_root=str(root), anatomy_root=str(maps) if maps.is_dir() else None)
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        if dataset.get('type') not in ('XA170K', 'AngiogramFolder', 'PackedAngiograms'):
            raise ConfigError(
                '--data',
                f'{loader} of {cfg.filename} reads a {dataset.get("type")}.',
                'Set its folder by --cfg-options instead.',
            )
        kept = {key: value for key, value in dataset.items() if key not in ('type', 'data_root', 'anatomy_root')}
        cfg[loader].dataset = {**data, **kept}  # Sources that the config names win.
    check_config(cfg)  # An option of the other kind of dataset, such as the sources of XA-170K, is not dropped.


def check_head(cfg: Config) -> None:
    """Compare the classes that a model tells apart with those of a prepared set of one's own.

    mmdet takes the first class too many for its background, and says nothing.

    Raises:
        ConfigError: If their numbers differ; the cure sets the model's.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    root = Path(str(dataset.get('data_root'))).expanduser()
    if dataset.get('type') not in OWN_CLASSES or dataset.get('metainfo') or not (root / DESCRIPTION).is_file():
        return
    needs, place, more = OWN_CLASSES[dataset['type']]
    description = read_description(root)
    head = cfg.model
    for part in place.split('.'):
        head = head.get(part) or {}
    wanted = len(description['classes']) + more
    if description[needs] and head.get('num_classes', wanted) != wanted:
        key, classes = f'model.{place}.num_classes', ', '.join(description['classes'])
        raise ConfigError(
            str(cfg.filename),
            f'{key} is {head["num_classes"]}; the {needs} of {root} need {wanted}: {classes}.',
            f'Pass --cfg-options {key}={wanted}.',
        )


def evaluators(cfg: Config, part: str) -> list[Any]:
    """Return the configs of what measures a part, 'val' or 'test': none, one or several, to be changed in place."""
    given = cfg.get(f'{part}_evaluator') or []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def use_encoder(cfg: Config, source: str | Path) -> None:
    """Let a downstream task, or a further pre-training, start from a pre-trained encoder.

    Args:
        cfg: The config, changed in place.
        source: A checkpoint, the folder of a run, or the name of weights that come with the package.

    Raises:
        CheckpointError: If there is no such checkpoint.
        ConfigError: If the model has no encoder, other weights are loaded into the whole model, or its parameters are
            divided among processes before it is loaded.
    """
    if 'backbone' not in cfg.model:
        raise ConfigError('--init', f'the {cfg.model.type} of {cfg.filename} has no encoder.', 'Leave it out.')
    if cfg.get('load_from') and not cfg.get('resume'):
        raise ConfigError('--init', f'it contradicts load_from={cfg.load_from}.', 'Pass one of the two.')
    if cfg.get('runner_type') == 'ShardedRunner':
        cure = f'Write {source} as .pth by `vasomim convert`, and pass --cfg-options load_from=CONVERTED.pth.'
        raise ConfigError('--init', 'ShardedRunner divides the encoder before it is loaded.', cure)
    hook = dict(type='mmpretrain.EncoderInitHook', checkpoint=str(find_weights(source)))
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
