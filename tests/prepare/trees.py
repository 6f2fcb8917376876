"""Small published trees, written by hand, whose content is known to the pixel."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from vasomim.prepare.sets.arcade import CATEGORIES

SIZE = 32


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def frame(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def coco_entry(number: int, image: int, category: int, left: float, top: float, side: float) -> dict:
    return {
        'id': number,
        'image_id': image,
        'category_id': category,
        'segmentation': [square(left, top, side)],
        'bbox': [left, top, side, side],
        'area': side * side,
        'iscrowd': 0,
    }


def write_coco(path: Path, images: list[dict], annotations: list[dict], categories: dict[int, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': number, 'name': name} for number, name in categories.items()],
    }
    path.write_text(json.dumps(content))


def write_arcade(root: Path, tasks: tuple[str, ...] = ('syntax', 'stenosis')) -> Path:
    """Two images a split: 1.png, of the higher id, has two objects that overlap; 2.png has one, and is in color."""
    for task in tasks:
        for offset, split in enumerate(('train', 'val', 'test')):
            folder = root / task / split
            seed = 10 * offset + 100 * (task == 'stenosis')
            write_png(folder / 'images' / '1.png', frame(seed))
            write_png(folder / 'images' / '2.png', np.repeat(frame(seed + 1)[..., None], 3, axis=2))
            images = [{'id': 8 - k, 'file_name': f'{k}.png', 'width': SIZE, 'height': SIZE} for k in (2, 1)]
            first, second = (1, 16) if task == 'syntax' else (26, 26)
            annotations = [
                coco_entry(1, 7, second, 8, 8, 4),
                coco_entry(2, 7, first, 4, 4, 8),
                coco_entry(3, 6, second, 20, 20, 6),
            ]
            write_coco(folder / 'annotations' / f'{split}.json', images, annotations, CATEGORIES)
    return root


def write_pairs(root: Path, names: list[str], values: tuple[int, int] = (0, 255)) -> Path:
    """Images and masks: in frame k the columns up to k + 1 are foreground."""
    for k, name in enumerate(names):
        write_png(root / 'images' / f'{name}.png', frame(k))
        mask = np.full((SIZE, SIZE), values[0], np.uint8)
        mask[:, : k + 1] = values[1]
        write_png(root / 'masks' / f'{name}.png', mask)
    return root


VOC = """<annotation><filename>{name}.bmp</filename>
<size><width>{size}</width><height>{size}</height><depth>1</depth></size>
<object><name>{label}</name><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object></annotation>"""


def write_voc(root: Path, names: list[str], label: str = 'Stenosis', box: tuple[int, ...] = (3, 5, 12, 9)) -> Path:
    for k, name in enumerate(names):
        write_png(root / f'{name}.bmp', frame(k))
        (root / f'{name}.xml').write_text(VOC.format(name=name, size=SIZE, label=label, box=box))
    return root
