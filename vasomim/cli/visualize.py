"""``vasomim visualize``: what a checkpoint makes of the frames in a folder."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from vasomim.errors import CheckpointError, ConfigError, DatasetError, did_you_mean
from vasomim.frames.layout import ANATOMY_SUFFIX, IMAGE_SUFFIXES, maps_beside

SUMMARY = 'Draw original, guidance, mask and reconstruction of some frames with a pre-trained checkpoint.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('checkpoint', help='checkpoint of a pre-training; its config is in it')
    parser.add_argument('source', type=Path, help='folder of frames, or one frame')
    parser.add_argument('target', type=Path, help='NAME.png for one picture, or a folder for a picture per frame')
    parser.add_argument('--num', type=int, default=8, help='frames to draw, chosen at random (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the choice and the masks (default: %(default)s)')
    parser.add_argument(
        '--anatomy-root',
        type=Path,
        help=f'folder with the anatomy maps (default: SOURCE{ANATOMY_SUFFIX} where it exists, else from the frames)',
    )
    parser.add_argument(
        '--progress',
        type=float,
        default=1.0,
        help='how far the training is thought to be, 0 to 1: how strongly vessels are masked (default: 1.0, its end)',
    )


def run(options: argparse.Namespace) -> int:
    """Draw.

    Raises:
        ConfigError: If an option leaves its range.
        CheckpointError: If the checkpoint does not load, or its model reconstructs nothing.
        DatasetError: If the source holds no frame, or one that is drawn or its map is damaged.
    """
    if options.num < 1:
        raise ConfigError('--num', f'{options.num} is not positive.', 'Draw at least one frame.')
    if not 0 <= options.progress <= 1:
        raise ConfigError(
            '--progress', f'{options.progress} is not in [0, 1].', 'Take 1.0 for the end of the training.'
        )
    if options.target.suffix.lower() in set(IMAGE_SUFFIXES) - {'.png'}:
        raise ConfigError(
            str(options.target),
            'pictures are written as PNG.',
            f'Name {options.target.with_suffix(".png")}, or a folder for a picture per frame.',
        )
    import torch

    from vasomim.checkpoints.checkpoint import load_model
    from vasomim.drawing.visualization import reconstruction_figure, write_picture
    from vasomim.engine.abilities import reconstructs
    from vasomim.engine.figures import own_randomness

    model: Any = load_model(options.checkpoint, 'cuda' if torch.cuda.is_available() else 'cpu')
    if not reconstructs(model):
        raise CheckpointError(
            options.checkpoint,
            f'a {type(model).__name__} reconstructs nothing.',
            'Take a checkpoint of a pre-training.',
        )
    model.progress = options.progress
    dataset = dataset_of(model, options.source, options.anatomy_root)
    chosen = choose(dataset, options.source, options.num, options.seed)
    with own_randomness(options.seed), torch.no_grad():
        # Not by the dataset's own access, whose errors speak of the options of a training.
        samples = [dataset.pipeline({**dataset.get_data_info(index), 'skipped': []}) for index in chosen]
        batch = model.data_preprocessor(dataset.collate(samples), False)
        result = model.reconstruct(batch['inputs'], batch['data_samples'])
    paths = [Path(sample.metainfo['img_path']) for sample in batch['data_samples']]
    if options.target.suffix.lower() == '.png':
        names = [path.name for path in paths]
        write_picture(options.target, reconstruction_figure(result, model.data_preprocessor.denormalize, names))
        print(f'{options.target}: {len(paths)} of {len(dataset)} frames')
        return 0
    root = options.source if options.source.is_dir() else options.source.parent
    for index, path in enumerate(paths):
        picture = reconstruction_figure(one(result, index), model.data_preprocessor.denormalize, [path.name])
        write_picture(options.target / path.relative_to(root).with_suffix('.png'), picture)
    print(f'{options.target}: pictures of {len(paths)} of {len(dataset)} frames')
    return 0


def dataset_of(model: Any, source: Path, anatomy_root: Path | None) -> Any:
    """Return the frames of a folder as a data set that gives the model what it was trained with.

    Without ``anatomy_root`` the maps of the folder beside the frames are read if there is one for each frame. Else the
    filter of the training extracts them.
    """
    import vasomim.data  # noqa: F401 - registers
    from vasomim.registry import DATASETS

    side = model.grid[0] * model.backbone.patch_size
    pipeline = [
        dict(type='LoadAngiogram'),
        dict(type='LoadAnatomy'),
        dict(type='PairedResize', size=side),
        dict(type='PackAngiogram'),
    ]
    root = source.parent if source.is_file() else source
    trained = (model.cfg.get('train_dataloader') or {}).get('dataset') or {}
    config = dict(type='AngiogramFolder', data_root=str(root), pipeline=pipeline, filter=trained.get('filter', 'sato'))
    beside = maps_beside(root)
    if anatomy_root is None and not beside.is_dir():
        return DATASETS.build(config)
    try:
        return DATASETS.build(dict(config, anatomy_root=str(anatomy_root or beside)))
    except DatasetError as error:
        if anatomy_root is not None or not str(error.where).startswith(str(beside)):
            raise
        print(f'{beside}: {error.what} The anatomy is extracted from the frames instead.')
        return DATASETS.build(config)


def choose(dataset: Any, source: Path, num: int, seed: int) -> list[int]:
    """Return the indices of the frames to draw, in the order of the folder.

    Raises:
        DatasetError: If ``source`` is a file that is no frame.
    """
    if not source.is_file():
        return sorted(random.Random(seed).sample(range(len(dataset)), min(num, len(dataset))))
    paths = [Path(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))]
    if source not in paths:
        names = [path.name for path in paths]
        raise DatasetError(source, f'it is not a frame.{did_you_mean(source.name, names)}', 'Name an image file.')
    return [paths.index(source)]


def one(result: Any, index: int) -> Any:
    """Return one frame of a reconstructed batch as a batch."""
    guidance = None if result.guidance is None else result.guidance[index : index + 1]
    part = slice(index, index + 1)
    return type(result)(result.original[part], guidance, result.mask[part], result.reconstruction[part])
