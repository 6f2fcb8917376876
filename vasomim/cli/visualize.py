"""``vasomim visualize``: what a checkpoint makes of the frames in a folder."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from vasomim.cli.arguments import seed
from vasomim.cli.trust import add_trust
from vasomim.errors import CheckpointError, ConfigError, DatasetError, did_you_mean, printable
from vasomim.files import require_writable
from vasomim.frames.layout import ANATOMY_SUFFIX, IMAGE_SUFFIXES, maps_beside

SUMMARY = 'Draw original, guidance, mask and reconstruction of some frames with a pre-trained checkpoint.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('checkpoint', help='checkpoint of a pre-training; its config is in it')
    parser.add_argument('source', type=Path, help='folder of frames, or one frame')
    parser.add_argument('target', type=Path, help='NAME.png for one picture, or a folder for a picture per frame')
    parser.add_argument('--num', type=int, default=8, help='frames to draw, chosen at random (default: %(default)s)')
    parser.add_argument('--seed', type=seed, default=0, help='seed of the choice and the masks (default: %(default)s)')
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
    add_trust(parser)


def run(options: argparse.Namespace) -> int:
    """Draw; return 1 if frames could not be read, or their maps, which are listed.

    Raises:
        ConfigError: If an option leaves its range.
        CheckpointError: If the checkpoint does not load, or its model reconstructs nothing.
        DatasetError: If the source holds no frame, or all that were chosen are damaged.
        StorageError: If the target cannot be written.
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
    one_picture = options.target.suffix.lower() == '.png'
    require_writable(options.target if one_picture else options.target / 'any.png')
    import torch

    from vasomim.checkpoints.building import load_model
    from vasomim.checkpoints.stored_model import blamed_on_config
    from vasomim.drawing.visualization import reconstruction_figure, write_picture
    from vasomim.engine.abilities import reconstructs
    from vasomim.engine.figures import own_randomness
    from vasomim.frames.inputs import refuse_all_damaged, tell_damaged

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model: Any = load_model(options.checkpoint, device, options.trust_config)
    if not reconstructs(model):
        raise CheckpointError(
            options.checkpoint,
            f'a {type(model).__name__} reconstructs nothing.',
            'Take a checkpoint of a pre-training.',
        )
    model.progress = options.progress
    dataset = dataset_of(model, options.source, options.anatomy_root, filter_of(model.cfg, options.checkpoint))
    chosen = choose(dataset, options.source, options.num, options.seed)
    damaged: list[DatasetError] = []
    with own_randomness(options.seed), torch.no_grad():
        samples = [sample for index in chosen if (sample := load(dataset, index, damaged)) is not None]
        if not samples:
            refuse_all_damaged(options.source, len(chosen), damaged)
        batch = model.data_preprocessor(dataset.collate(samples), False)
        with blamed_on_config(options.checkpoint, 'its model fails on a frame'):
            result = model.reconstruct(batch['inputs'], batch['data_samples'])
    paths = [Path(sample.metainfo['img_path']) for sample in batch['data_samples']]
    if one_picture:
        names = [path.name for path in paths]
        write_picture(options.target, reconstruction_figure(result, model.data_preprocessor.denormalize, names))
        print(f'{printable(options.target)}: {len(paths)} of {len(dataset)} frames')
        return tell_damaged(damaged, len(chosen))
    root = options.source if options.source.is_dir() else options.source.parent
    for index, path in enumerate(paths):
        picture = reconstruction_figure(one(result, index), model.data_preprocessor.denormalize, [path.name])
        write_picture(options.target / path.relative_to(root).with_suffix('.png'), picture)
    print(f'{printable(options.target)}: pictures of {len(paths)} of {len(dataset)} frames')
    return tell_damaged(damaged, len(chosen))


def load(dataset: Any, index: int, damaged: list[DatasetError]) -> dict | None:
    """Return a frame with its anatomy, or None and its error in ``damaged``.

    Not by the dataset's own access, whose errors speak of the options of a training.
    """
    import cv2

    info = dataset.get_data_info(index)
    try:
        return dataset.pipeline({**info, 'skipped': []})
    except DatasetError as error:
        damaged.append(error)
    except (ValueError, cv2.error) as error:
        what = f'it cannot be resized: {" ".join(str(error).split())}'
        damaged.append(DatasetError(info['img_path'], what, 'Leave it out.'))
    return None


def filter_of(config: Any, checkpoint: str | Path) -> str | None:
    """Return the filter that extracted the anatomy in the training of a stored config; None where none did.

    Raises:
        CheckpointError: If the config names something else than a filter.
    """
    from vasomim.checkpoints.stored_config import look_up

    dataset = look_up(config, 'train_dataloader.dataset', dict, checkpoint, {})
    if dataset.get('filter', 'sato') is None:
        return None
    return look_up(dataset, 'filter', str, checkpoint, 'sato')


def dataset_of(model: Any, source: Path, anatomy_root: Path | None, filter: str | None) -> Any:
    """Return the frames of a folder as a data set that gives the model what it was trained with.

    Args:
        model: Of a pre-training.
        source: The folder, or one frame.
        anatomy_root: Of the anatomy maps. Without it those of the folder beside the frames are read if there is one for
            each frame; else they are extracted.
        filter: That of the training, which extracts; None for no anatomy.
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
    config = dict(type='AngiogramFolder', data_root=str(root), pipeline=pipeline, filter=filter)
    beside = maps_beside(root)
    if anatomy_root is None and not beside.is_dir():
        return DATASETS.build(config)
    try:
        return DATASETS.build(dict(config, anatomy_root=str(anatomy_root or beside)))
    except DatasetError as error:
        if anatomy_root is not None or not str(error.where).startswith(str(beside)):
            raise
        print(f'{printable(beside)}: {printable(error.what)} The anatomy is extracted from the frames instead.')
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
