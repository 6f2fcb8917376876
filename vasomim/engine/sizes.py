"""The sizes of a model have to agree with those of its frames, and with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from vasomim.errors import ConfigError
from vasomim.masking import masked_count

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


def check_built(model: Any) -> None:
    """Check what a model's parts do not check themselves, before a training fails on it at its first frame.

    Args:
        model: Just built. Of any library: modules are known by ``embed_dims`` and ``num_heads``, an encoder by
            ``img_size`` and ``patch_size``, a masking by ``ratio``.

    Raises:
        ConfigError: If the heads of an attention do not divide its width, patches do not divide the frames, 4 does not
            divide a width with fixed positions, or a mask hides all patches or none.
    """
    for name, module in model.named_modules():
        width, heads = getattr(module, 'embed_dims', None), getattr(module, 'num_heads', None)
        if isinstance(width, int) and isinstance(heads, int) and width % heads:
            what = f'num_heads is {heads}, which does not divide its width of {width}.'
            raise ConfigError(f'model.{name}', what, 'Choose a number of heads that does.')
    encoder = getattr(model, 'backbone', None)
    size, patch = getattr(encoder, 'img_size', None), getattr(encoder, 'patch_size', None)
    if size is not None and isinstance(patch, int) and any(side % patch for side in pair(size)):
        what = f'patch_size is {patch}, which does not divide frames of {" x ".join(map(str, pair(size)))}.'
        raise ConfigError('model.backbone', what, 'Change patch_size, or img_size and the sizes of the crops.')
    positions, width = getattr(encoder, 'pos_embed', None), getattr(encoder, 'embed_dims', None)
    if positions is not None and not positions.requires_grad and isinstance(width, int) and width % 4:
        what = f'embed_dims is {width}; fixed positions, of sines and cosines along two axes, need a multiple of 4.'
        raise ConfigError('model.backbone', what, 'Choose another width.')
    masking, grid = getattr(model, 'masking', None), getattr(model, 'grid', None)
    if grid is not None and isinstance(ratio := getattr(masking, 'ratio', None), float):
        unit = getattr(masking, 'unit', 1)
        try:
            masked_count((grid[0] // unit) * (grid[1] // unit), ratio)
        except ValueError as error:
            raise ConfigError('model.masking.ratio', str(error), 'Choose a ratio nearer to 0.5.') from error
