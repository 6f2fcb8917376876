"""The encoder's image size and the crops that it gets have to agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from vasomim.errors import ConfigError

CROPS = ('PairedResizedCrop', 'PairedResize')
LOADERS = ('train_dataloader', 'val_dataloader')


def check_sizes(cfg: Config) -> None:
    """Compare ``model.backbone.img_size`` of a pre-training with the sizes of its crops.

    Raises:
        ConfigError: If they differ; the cure sets all of them.
    """
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    if cfg.get('default_scope') != 'mmpretrain' or 'img_size' not in backbone:
        return
    wanted = pair(backbone['img_size'])
    crops = list(sizes_of_crops(cfg))
    wrong = next(((path, size) for path, size in crops if size != wanted), None)
    if wrong is None:
        return
    path, size = wrong
    options = ' '.join(f'{path}={wanted[0]}' for path, _ in crops) if wanted[0] == wanted[1] else ''
    raise ConfigError(
        str(cfg.filename or 'config'),
        f'model.backbone.img_size is {wanted[0]} x {wanted[1]}, but {path} makes crops of {size[0]} x {size[1]}.',
        f'Set both alike: --cfg-options {options}' if options else 'Set both alike.',
    )


def sizes_of_crops(cfg: Config) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the dotted path and the height and width of each crop in the loaders' pipelines."""
    for loader in LOADERS:
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        for index, step in enumerate(dataset.get('pipeline') or ()):
            if step.get('type') in CROPS and 'size' in step:
                yield f'{loader}.dataset.pipeline.{index}.size', pair(step['size'])


def pair(size: Any) -> tuple[int, int]:
    """Return height and width of a size that is one number for both, or two."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
