"""Draw what a pre-trained checkpoint makes of the frames in a folder."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

import vasomim.data  # noqa: F401 - registers
from vasomim.apis.arguments import check_seed
from vasomim.apis.files_read import FilesRead
from vasomim.checkpoints.building import load_model
from vasomim.checkpoints.stored_config import look_up
from vasomim.checkpoints.stored_model import blamed_on_config
from vasomim.drawing.visualization import reconstruction_figure, write_picture
from vasomim.engine.abilities import reconstructs
from vasomim.engine.figures import own_randomness
from vasomim.errors import CheckpointError, ConfigError, DatasetError, did_you_mean, printable
from vasomim.files import require_writable
from vasomim.frames.inputs import refuse_all_damaged
from vasomim.frames.layout import IMAGE_SUFFIXES, maps_beside
from vasomim.registry import DATASETS


@dataclass(frozen=True)
class Visualized:
    """What was drawn.

    Attributes:
        pictures: The files: one for all frames, or one for each.
        frames: Names of the drawn frames, relative to their folder.
        among: Number of frames that they were chosen from.
        files: What became of the chosen ones.
    """

    pictures: tuple[Path, ...]
    frames: tuple[str, ...]
    among: int
    files: FilesRead


def visualize(
    checkpoint: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    num: int = 8,
    seed: int = 0,
    anatomy_root: str | Path | None = None,
    progress: float = 1.0,
    trust_config: bool = False,
    tell: Callable[[str], Any] = print,
) -> Visualized:
    """Draw original, guidance, mask and reconstruction of some frames.

    Frames that cannot be read, or their maps, are named in the result, and the others are drawn.

    Args:
        checkpoint: Of a pre-training; a file, or the folder of a run.
        source: A folder of frames, or one frame.
        target: NAME.png for one picture, or a folder for a picture per frame.
        num: Frames to draw, chosen at random, at least 1.
        seed: Of the choice and the masks, 0 to 2**32 - 1.
        anatomy_root: Folder with the anatomy maps; None for the one beside the frames where it is whole, else they are
            extracted.
        progress: How far the training is thought to be, in [0, 1]: how strongly vessels are masked; 1 is its end.
        trust_config: Build whatever the checkpoint's config says, be it code; for files whose source you trust.
        tell: Takes a line where the folder beside the frames lacks maps.

    Raises:
        ConfigError: If an argument leaves its range.
        CheckpointError: If the checkpoint does not load, or its model reconstructs nothing.
        DatasetError: If the source holds no frame, or all that were chosen are damaged.
        StorageError: If the target cannot be written.
    """
    source, target = Path(source), Path(target)
    check_seed(seed)
    if num < 1:
        raise ConfigError('--num', f'{num} is not positive.', 'Draw at least one frame.')
    if not 0 <= progress <= 1:
        raise ConfigError('--progress', f'{progress} is not in [0, 1].', 'Take 1.0 for the end of the training.')
    if target.suffix.lower() in set(IMAGE_SUFFIXES) - {'.png'}:
        raise ConfigError(
            str(target),
            'pictures are written as PNG.',
            f'Name {target.with_suffix(".png")}, or a folder for a picture per frame.',
        )
    one_picture = target.suffix.lower() == '.png'
    require_writable(target if one_picture else target / 'any.png')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model: Any = load_model(checkpoint, device, trust_config)
    if not reconstructs(model):
        what = f'a {type(model).__name__} reconstructs nothing.'
        raise CheckpointError(checkpoint, what, 'Take a checkpoint of a pre-training.')
    model.progress = progress
    folder = None if anatomy_root is None else Path(anatomy_root)
    dataset = dataset_of(model, source, folder, filter_of(model.cfg, checkpoint), tell)
    chosen = choose(dataset, source, num, seed)
    damaged: list[DatasetError] = []
    with own_randomness(seed), torch.no_grad():
        samples = [sample for index in chosen if (sample := load(dataset, index, damaged)) is not None]
        if not samples:
            refuse_all_damaged(source, len(chosen), damaged)
        batch = model.data_preprocessor(dataset.collate(samples), False)
        with blamed_on_config(checkpoint, 'its model fails on a frame'):
            result = model.reconstruct(batch['inputs'], batch['data_samples'])
    root = source if source.is_dir() else source.parent
    paths = [Path(sample.metainfo['img_path']) for sample in batch['data_samples']]
    grey_levels = model.data_preprocessor.denormalize
    pictures = []
    if one_picture:
        write_picture(target, reconstruction_figure(result, grey_levels, [path.name for path in paths]))
        pictures.append(target)
    else:
        for index, path in enumerate(paths):
            pictures.append(target / path.relative_to(root).with_suffix('.png'))
            write_picture(pictures[-1], reconstruction_figure(one(result, index), grey_levels, [path.name]))
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    return Visualized(tuple(pictures), names, len(dataset), FilesRead(len(chosen), tuple(damaged)))


def load(dataset: Any, index: int, damaged: list[DatasetError]) -> dict | None:
    """Return a frame with its anatomy, or None and its error in ``damaged``.

    Not by the dataset's own access, whose errors speak of the options of a training.
    """
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
    dataset = look_up(config, 'train_dataloader.dataset', dict, checkpoint, {})
    if dataset.get('filter', 'sato') is None:
        return None
    return look_up(dataset, 'filter', str, checkpoint, 'sato')


def dataset_of(
    model: Any, source: Path, anatomy_root: Path | None, filter: str | None, tell: Callable[[str], Any] = print
) -> Any:
    """Return the frames of a folder as a data set that gives the model what it was trained with.

    Args:
        model: Of a pre-training.
        source: The folder, or one frame.
        anatomy_root: Of the anatomy maps. Without it those of the folder beside the frames are read if there is one for
            each frame; else they are extracted.
        filter: That of the training, which extracts; None for no anatomy.
        tell: Takes a line where the folder beside the frames lacks maps.
    """
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
        tell(f'{printable(beside)}: {printable(error.what)} The anatomy is extracted from the frames instead.')
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
