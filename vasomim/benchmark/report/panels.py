"""Pictures of what the methods see: predictions on simulated frames, which anyone may pass on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vasomim.benchmark.report.html import INDEX
from vasomim.benchmark.results.records import FINISHED
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.study.entries import Entries, Protocol, Task
from vasomim.files import write_whole
from vasomim.prepare.catalog import find_set

if TYPE_CHECKING:
    from vasomim.synthetic.frame import SyntheticFrame

SEEDS = (900_001, 900_002)  # Of the frames: far from those of simulated data sets.
SIZE = 512
SHOWN = 240  # Pixels of a panel.
LESIONS = ('arcade_s', 'stenosis')
SEGMENTS = ('arcade_vs',)


@dataclass(frozen=True)
class Picture:
    """A picture of the page: file name, task, heading and text alternative."""

    file: str
    task: str
    title: str
    alt: str


def draw(store: Store, work_dir: Path, folder: Path, protocol: Protocol, entries: Entries) -> int:
    """Draw a sheet for each task whose fine-tuned models are still in the work directory.

    Args:
        store: The results, which name the cells.
        work_dir: Where they trained.
        folder: Gets the pictures and the list of them.
        protocol: Its tasks and methods, in this order; of each the first seed with all labels.
        entries: Their titles.

    Returns:
        0.
    """
    from vasomim.synthetic.config import SimulatorConfig
    from vasomim.synthetic.frame import simulate_frame

    config = SimulatorConfig(size=int(protocol.synthetic.get('size', SIZE)))
    frames = [simulate_frame(seed, config) for seed in SEEDS]
    pictures = []
    for task in (entries.task(name) for name in protocol.tasks):
        found = {}
        for name in protocol.methods:
            model = trained(store, work_dir, protocol, task, name)
            if model is not None:
                found[entries.method(name).title] = model
        if found:
            pictures.append(sheet(task, found, frames, folder))
    content = [vars(picture) for picture in pictures]
    write_whole(folder / INDEX, json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    return 0


def trained(store: Store, work_dir: Path, protocol: Protocol, task: Task, method: str) -> tuple[Path, float] | None:
    """Return the folder of a cell's training and the score from which its boxes are drawn, None where it is gone."""
    name = store.study(protocol.name).get((task.name, method, max(protocol.label_fractions), protocol.seeds[0]))
    cell = store.cell(name) if name is not None else None
    if cell is None or cell.status != FINISHED:
        return None
    folder = work_dir / 'cells' / cell.cell / 'train'
    threshold = cell.score_threshold
    return (folder, 0.5 if threshold is None else threshold) if list(folder.glob('*.pth')) else None


def sheet(task: Task, models: dict[str, tuple[Path, float]], frames: Sequence[SyntheticFrame], folder: Path) -> Picture:
    """Draw the frames, the truth and what each model predicts, a row for each frame."""
    import cv2

    from vasomim.drawing.overlays import contact_sheet
    from vasomim.inference.predictor import Predictor

    columns: dict[str, list[Any]] = {'frame': [np.repeat(frame.image[..., None], 3, axis=-1) for frame in frames]}
    known = find_set(task.dataset)
    if known and known[0].simulate:  # What another set calls a vessel is not known here.
        columns['truth'] = [truth(task, frame) for frame in frames]
    for title, (path, threshold) in models.items():
        predictor = Predictor(path, score=threshold)
        columns[title] = [predictor(frame.image).overlay() for frame in frames]
    rows = [[small(pictures[index]) for pictures in columns.values()] for index in range(len(frames))]
    picture = contact_sheet(rows, list(columns), [''] * len(rows))
    done, content = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    write_whole(folder / f'{task.name}.png', content.tobytes())
    alt = f'{len(frames)} simulated frames, one a row. Columns: {", ".join(columns)}.'
    return Picture(f'{task.name}.png', task.name, f'{task.title} on simulated frames, first seed', alt)


def truth(task: Task, frame: SyntheticFrame) -> Any:
    """Return what the simulator knows, drawn onto the frame as the task asks for it."""
    from vasomim.drawing.overlays import draw_boxes, draw_mask

    if task.task == 'detection':
        corners = [(x, y, x + width, y + height) for x, y, width, height in (lesion.box for lesion in frame.stenoses)]
        return draw_boxes(frame.image, np.array(corners, dtype=float).reshape(-1, 4), [1] * len(corners))
    mask = np.zeros(frame.image.shape, np.uint8)
    if task.dataset in LESIONS:
        for lesion in frame.stenoses:
            mask[lesion.mask > 0] = 1
    elif task.dataset in SEGMENTS:
        for segment in frame.segments:
            mask[segment.mask > 0] = segment.category
    else:
        mask[frame.labelled > 0] = 1
    return draw_mask(frame.image, mask)


def small(picture: Any) -> Any:
    """Return a picture as large as it is shown."""
    import cv2

    how = cv2.INTER_AREA if picture.shape[0] > SHOWN else cv2.INTER_NEAREST
    return cv2.resize(picture, (SHOWN, SHOWN), interpolation=how)
