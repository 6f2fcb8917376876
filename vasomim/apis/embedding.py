"""Embed frames by a frozen encoder; with labels, judge the embeddings."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vasomim.apis.arguments import check_seed
from vasomim.apis.files_read import FilesRead
from vasomim.apis.probing import Probed, probe, read_labels
from vasomim.apis.tracking import tracked
from vasomim.drawing.notice import NOTICE
from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.files import LOCK, locked, require_writable, write_json, write_whole
from vasomim.frames.inputs import list_sources, read_sources, refuse_all_damaged
from vasomim.inference.features import FeatureExtractor, embed


@dataclass(frozen=True)
class Embedded:
    """Embeddings of frames.

    Attributes:
        features: float32 (N, C).
        names: Of the frames, relative to the source, (N,); one of a cine has its number in its name.
        size: Side to which frames were resized, pixels.
        probing: What the embeddings are worth; None without labels.
        files: What became of the files.
        target: The file that was written; None where none was named.
    """

    features: np.ndarray
    names: tuple[str, ...]
    size: int
    probing: Probed | None
    files: FilesRead
    target: Path | None


def extract_features(
    checkpoint: str | Path,
    source: str | Path,
    target: str | Path | None = None,
    *,
    pool: str = 'mean',
    size: int | None = None,
    batch_size: int = 32,
    device: str | None = None,
    labels: str | Path | None = None,
    k: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> Embedded:
    """Embed the frames of a source by a frozen encoder; with labels, judge it by k-NN and a linear probe.

    A file that cannot be read is named in the result, and the others are embedded.

    Args:
        checkpoint: Any with a plain ViT: of a pre-training, fine-tuned, or of another project; a file, or the folder of
            a run.
        source: An image, a DICOM file, or a folder of them.
        target: The .npz file to write (``features`` and ``names``), beside a .json of its name with the rest; None
            writes nothing.
        pool: 'mean' of the patch tokens, or the 'class' token.
        size: Side to which frames are resized, a multiple of the patch, pixels; None for that of the encoder.
        batch_size: Frames at once, at least 1.
        device: 'cpu', 'cuda' or 'cuda:N'; None for a GPU if there is one.
        labels: A CSV file with the columns name, label and, if you like, split (train, val, test); or the sides.json of
            a prepared set, whose splits are then used.
        k: Neighbors of k-NN, at least 1.
        seed: Of splits by series, where none are given, and of the bootstrap.
        progress: Whether to show a progress bar.

    Raises:
        CheckpointError: If the checkpoint holds no plain ViT.
        DatasetError: If the source holds no frame that can be read, or the labels do not fit.
        ConfigError: If an argument is wrong.
        StorageError: If the target cannot be written, or another run writes it.
    """
    check_seed(seed)
    if k < 1:
        raise ConfigError('--k', f'{k} is not positive.', 'Take 20.')
    guard: AbstractContextManager[None] = nullcontext()
    if target is not None:
        target = Path(target)
        if target.suffix != '.npz':
            raise ConfigError(target, 'only .npz files are written.', 'Name it with .npz.')
        require_writable(target)
        lock = target.with_name(f'.{target.name}{LOCK}')
        guard = locked(lock, f'another run writes {target.name} here.', 'Wait until it has ended.', keep=False)
    with guard:
        known = None if labels is None else read_labels(Path(labels))
        not_images: list[str] = []
        unread: list[str] = []
        root, files = list_sources(Path(source), not_images=not_images, unread=unread)
        extractor = FeatureExtractor(checkpoint, pool, size, device)
        names: list[str] = []
        parts = []
        damaged: list[DatasetError] = []
        batches = embed(extractor, read_sources(root, files, damaged), batch_size)
        for frames, part in tracked(batches, 'batches', progress):
            names += [printable(frame.source if frame.index is None else frame.target) for frame in frames]
            parts.append(part)
        if not parts:
            refuse_all_damaged(root, len(files), damaged)
        features = np.concatenate(parts)
        if target is not None:
            buffer = io.BytesIO()
            np.savez(buffer, features=features, names=np.array(names), notice=np.array(NOTICE))
            write_whole(target, buffer.getvalue())
        probed = None
        if known is not None and labels is not None:
            probed = probe(names, features, known, labels, source, k, seed)
        if target is not None:
            facts = {
                'notice': NOTICE,
                'checkpoint': printable(checkpoint),
                'pool': extractor.pool,
                'size': extractor.size,
                'frames': len(names),
                'width': int(features.shape[1]),
                'unreadable': [printable(error.where) for error in damaged],
                **({'probing': probed.as_json()} if probed is not None else {}),
            }
            write_json(target.with_suffix('.json'), facts)
    read = FilesRead(len(files), tuple(damaged), tuple(not_images), tuple(unread))
    return Embedded(features, tuple(names), extractor.size, probed, read, target)
