"""Carry out a layout's plan: simulate on several cores, write atomically, continue where an earlier run stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError, did_you_mean
from vasomim.files import LOCK, locked, read_json, write_whole
from vasomim.synthetic.annotations import coco_annotations, coco_categories, voc_annotation
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.frame import SyntheticFrame, simulate_cine, simulate_frame
from vasomim.synthetic.imaging import Mask
from vasomim.synthetic.layouts import BOOKKEEPING, LAYOUTS, CocoFile, Layout, Output, Shot, derive_seed, with_truth

_ATTEMPTS = 20  # seeds tried for a frame that must show a narrowing
_VERSION = 1  # raised when the same seed gives other frames


@dataclass(frozen=True)
class Summary:
    """What a run did: frames in the plan, frames simulated now, frames that were there before."""

    frames: int
    written: int
    kept: int


def _encode(pixels: NDArray[np.uint8], path: str) -> bytes:
    done, data = cv2.imencode(Path(path).suffix, pixels)
    if not done:
        raise DatasetError(path, 'OpenCV cannot encode this file.', 'Reinstall opencv-python-headless.')
    return data.tobytes()


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _mask(mask: Mask, path: str) -> bytes:
    return _encode(mask * np.uint8(255), path)


# What an output holds -> its bytes, given the frame and its path.
WRITERS: dict[str, Callable[[SyntheticFrame, str], bytes]] = {
    'image': lambda frame, path: _encode(frame.image, path),
    'vessels': lambda frame, path: _mask(frame.vessels, path),
    'truth': lambda frame, path: _mask(frame.vessels, path),
    'vessels and catheter': lambda frame, path: _mask(frame.vessels | frame.catheter, path),
    'coco syntax': lambda frame, path: _as_json(coco_annotations(frame, 'syntax')),
    'coco stenosis': lambda frame, path: _as_json(coco_annotations(frame, 'stenosis')),
    'voc': lambda frame, path: voc_annotation(frame, Path(path).with_suffix('.bmp').name),
}


def synthesize(
    root: str | Path,
    layout: str,
    frames: int,
    seed: int = 0,
    size: int = 512,
    jobs: int | None = None,
    truth: bool = False,
    report: Callable[[int, int], None] | None = None,
    layouts: Mapping[str, Layout] = LAYOUTS,
) -> Summary:
    """Write a synthetic dataset.

    Files that exist are kept, so that a second call does nothing and a call after an interruption does the rest.

    Args:
        root: Folder of the dataset; made where it does not exist.
        layout: One of ``layouts``.
        frames: Number of images in all, >= 1.
        seed: Seed of the dataset, >= 0.
        size: Height and width of the images, pixels.
        jobs: Processes; None means one for each core this process may use.
        truth: Whether to write masks of all vessels, 0/255, under ``<root>_truth`` by the images' names.
        report: Called with (frames done, frames in all) after each shot.
        layouts: What can be simulated; with the published datasets: :func:`vasomim.prepare.catalog.layouts`.

    Raises:
        DatasetError: If the layout is unknown, a number is out of range, or ``root`` holds another dataset.
        StorageError: If it cannot be written, or another run writes there.
    """
    root = Path(root)
    if layout not in layouts:
        hint = did_you_mean(layout, layouts)
        raise DatasetError(root, f"there is no layout '{layout}'.{hint}", f'Choose one of {", ".join(layouts)}.')
    for name, value, lowest in (('frames', frames, 1), ('seed', seed, 0), ('size', size, 64)):
        if value < lowest:
            raise DatasetError(root, f'{name} is {value}.', f'It must be at least {lowest}.')
    if jobs is not None and jobs < 1:
        raise DatasetError(root, f'{jobs} processes cannot work.', 'Name at least 1, or leave it out for all cores.')
    settings = {'layout': layout, 'frames': frames, 'seed': seed, 'size': size, 'version': _VERSION}
    _refuse_other(root, settings)
    busy = 'another run writes a synthetic dataset here.'
    with locked(
        root / BOOKKEEPING / LOCK, busy, 'Wait until it has ended; the same command then continues.', keep=False
    ):
        return _synthesize(root, settings, layouts[layout], jobs, truth, report)


def _synthesize(
    root: Path,
    settings: dict[str, Any],
    layout: Layout,
    jobs: int | None,
    truth: bool,
    report: Callable[[int, int], None] | None,
) -> Summary:
    _claim(root, settings)
    frames, seed, size = (settings[key] for key in ('frames', 'seed', 'size'))
    plan = layout(frames, seed, SimulatorConfig(size=size))
    shots = with_truth(plan.shots) if truth else plan.shots
    left = [shot for shot in shots if any(not _place(root, output).exists() for output in _outputs(shot))]
    written = sum(len(shot.frames) for shot in left)
    done = frames - written
    if report:
        report(done, frames)
    for number in _run(partial(write_shot, root), left, jobs):
        done += number
        if report:
            report(done, frames)
    for text, content in plan.texts.items():
        if not (root / text).exists():
            write_whole(root / text, content.encode())
    for coco in plan.coco:
        if not (root / coco.path).exists():
            write_whole(root / coco.path, _as_json(_assemble(root, coco, size)))
    return Summary(frames, written, frames - written)


def _claim(root: Path, settings: dict[str, Any]) -> None:
    """Record a run's settings, unless the folder holds them already."""
    record = root / BOOKKEEPING / 'settings.json'
    _refuse_other(root, settings)  # Once more: nobody else writes there now.
    if not record.exists():
        write_whole(record, _as_json(settings))


def _refuse_other(root: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that was made with other settings, or that holds something else."""
    record = root / BOOKKEEPING / 'settings.json'
    if record.exists():
        found = read_json(record, DatasetError, f'Delete {root} and run again.')
        if found != settings:
            other = {key: value for key, value in found.items() if settings.get(key) != value}
            raise DatasetError(
                root, f'holds a synthetic dataset with other settings: {other}.', 'Use these, or choose another folder.'
            )
    elif root.exists() and (not root.is_dir() or any(path.name != BOOKKEEPING for path in root.iterdir())):
        raise DatasetError(root, 'exists and is not a synthetic dataset.', 'Choose a folder that is new or empty.')


def _outputs(shot: Shot) -> Iterator[Output]:
    for outputs in shot.frames:
        yield from outputs


def _place(root: Path, output: Output) -> Path:
    """Return where an output goes; truth lies beside the root, so that readers of the layout do not meet it."""
    path, content = output
    if content == 'truth':
        return root.with_name(f'{root.resolve().name}_truth') / Path(path).with_suffix('.png')
    return root / path


def write_shot(root: Path, shot: Shot) -> int:
    """Simulate one shot, write those of its files that are missing, and return its number of frames."""
    for frame, outputs in zip(_simulate(shot), shot.frames, strict=True):
        for output in outputs:
            path = _place(root, output)
            if not path.exists():
                write_whole(path, WRITERS[output[1]](frame, path.name), sync=False)
    return len(shot.frames)


def _simulate(shot: Shot) -> list[SyntheticFrame]:
    frames: list[SyntheticFrame] = []
    for attempt in range(_ATTEMPTS):
        seed = derive_seed(shot.seed, attempt) if attempt else shot.seed
        if len(shot.frames) == 1:
            frames = [simulate_frame(seed, shot.config)]
        else:
            frames = simulate_cine(seed, len(shot.frames), shot.config, shot.rate, shot.start)
        if not shot.stenosis or all(frame.stenoses for frame in frames):
            return frames
    raise DatasetError(
        shot.frames[0][0][0], f'no narrowing could be placed with {_ATTEMPTS} seeds.', 'Choose another seed.'
    )


def _assemble(root: Path, coco: CocoFile, size: int) -> dict[str, Any]:
    """Return a COCO dictionary made of its frames' own annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, name, own in coco.images:
        images.append({'id': image_id, 'file_name': name, 'width': size, 'height': size})
        for entry in read_json(root / own, DatasetError, 'Delete it, and run the same command again.', kind=list):
            annotations.append({'id': len(annotations) + 1, 'image_id': image_id, **entry})
    return {'images': images, 'annotations': annotations, 'categories': coco_categories()}


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker() -> None:
    cv2.setNumThreads(1)  # The processes share the cores among themselves.


def _run(work: Callable[[Shot], int], shots: Iterable[Shot], jobs: int | None) -> Iterator[int]:
    """Yield the results of ``work`` on each shot as they come, from ``jobs`` processes."""
    shots = list(shots)
    jobs = min(jobs or available_cores(), len(shots))
    if jobs <= 1:
        yield from map(work, shots)
        return
    # Spawned, not forked: a fork of a process that runs threads may never return.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        queue = iter(shots)
        running: set[Future[int]] = {pool.submit(work, shot) for shot in islice(queue, 4 * jobs)}
        try:
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                    running |= {pool.submit(work, shot) for shot in islice(queue, 1)}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
