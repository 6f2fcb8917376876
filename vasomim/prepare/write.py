"""Write a plan in the prepared layout: each file whole or not at all, and continuing where a run stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vasomim import __version__
from vasomim.errors import DatasetError, StorageError
from vasomim.files import read_regular, write_whole
from vasomim.frames.images import read_grey
from vasomim.prepare.destination import LOCK
from vasomim.prepare.masks import to_indices
from vasomim.prepare.orientation import as_shown
from vasomim.prepare.plan import SPLITS, Frame, Plan, Repairs
from vasomim.prepare.polygons import paint
from vasomim.prepare.prepared import (
    DESCRIPTION,
    FINGERPRINT,
    SIDES,
    boxes_path,
    hash_names,
    image_path,
    mask_path,
    split_path,
    split_text,
)

VERSION = 3  # Raised when the same source gives other files, or their fingerprint is made otherwise.


def write_plan(plan: Plan, root: Path, report: Callable[[int, int], None] | None = None) -> Repairs:
    """Write a prepared set.

    Args:
        plan: What it holds.
        root: Its folder. Files of an interrupted run of the same plan are kept.
        report: Called with (frames done, frames in all).

    Returns:
        The repairs of the plan and those found on writing.

    Raises:
        DatasetError: If ``root`` holds another set, a file is damaged, or a mask or image has an unexpected size.
        StorageError: If writing fails.
    """
    root = Path(root)
    plan = replace(plan, frames=tuple(map(as_shown, plan.frames)))
    repairs = Repairs()
    repairs.update(plan.repairs)
    try:
        claim(root, fingerprint(plan))
        for folder in ('images', 'splits', *(('masks',) if plan.masks else ())):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(plan.frames, start=1):
            write_frame(plan, frame, root)
            if report:
                report(number, len(plan.frames))
        for split in SPLITS:
            frames = [frame for frame in plan.frames if frame.split == split]
            write_whole(split_path(root, split), split_text(frame.name for frame in frames).encode())
            if plan.boxes:
                write_whole(boxes_path(root, split), json.dumps(coco(plan, frames, root)).encode())
        sides = {frame.name: frame.side for frame in plan.frames if frame.side}
        if sides:
            write_whole(root / SIDES, json.dumps(sides, indent=0).encode())
        write_whole(root / DESCRIPTION, json.dumps(describe(plan, repairs, root), indent=2).encode())
        for part in (part for place in (root, *root.iterdir()) if place.is_dir() for part in place.glob('.*.part')):
            part.unlink()  # Of a run that was killed.
    except OSError as error:
        raise StorageError.of(error.filename or root, error) from error
    return repairs


def fingerprint(plan: Plan) -> str:
    """Return a hash of what decides the content of a prepared set: names, splits, truth, and the bytes of the files.

    Neither sizes nor dates would do: a mask of BMP that was corrected has the size that it had, and an archive that is
    unpacked again gives its files new dates.

    Raises:
        DatasetError: If a file cannot be read.
    """
    digest = hashlib.sha256(f'{VERSION} {plan.name} {plan.classes} {plan.grey_values}'.encode())
    for frame in plan.frames:
        files = [hash_file(path) for path in (frame.image, frame.mask) if path]
        objects = [
            (each.category, each.box, [polygon.tolist() for polygon in each.polygons]) for each in frame.instances
        ]
        digest.update(repr((frame.name, frame.split, files, objects)).encode())
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Return a hash of the bytes of a file.

    Raises:
        DatasetError: If it cannot be read.
    """
    return hashlib.sha256(read_regular(path, DatasetError)).hexdigest()


def claim(root: Path, mark: str) -> None:
    """Record what is prepared in a folder; refuse one that holds something else.

    Raises:
        DatasetError: If it does.
    """
    path = root / FINGERPRINT
    if path.is_file():
        if path.read_bytes() != mark.encode():
            what = 'it holds a set prepared from other data, with other options or by another version.'
            raise DatasetError(root, what, 'Choose another DST, or delete this folder first.')
        return
    if root.exists() and (not root.is_dir() or any(entry.name != LOCK for entry in root.iterdir())):
        raise DatasetError(root, 'exists and is no prepared set.', 'Choose a DST that is new or empty.')
    root.mkdir(parents=True, exist_ok=True)
    write_whole(path, mark.encode())


def write_frame(plan: Plan, frame: Frame, root: Path) -> None:
    """Write the image of a frame, and its mask where the plan has masks; files that are there are kept.

    Raises:
        DatasetError: If the image has another size than the annotation says.
    """
    image, mask = image_path(root, frame.name), mask_path(root, frame.name)
    if image.is_file() and (mask.is_file() or not plan.masks):
        return
    pixels = read_grey(frame.image)
    height, width = pixels.shape
    if frame.size not in (None, (width, height)):
        what = f'the image is {width} x {height} pixels, its annotation says {frame.size}.'
        raise DatasetError(frame.image, what, 'Annotation and image do not belong together: unpack the archive again.')
    if plan.masks:  # First, so that an image without a mask never lies there.
        if frame.mask is not None:
            indices = to_indices(frame.mask, plan.grey_values or {}, (height, width))
        else:
            indices = paint(frame.instances, height, width)
        write_whole(mask, encode(indices), sync=False)
    write_whole(image, encode(pixels), sync=False)  # Encoded anew, so that no text of the published file travels along.


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels as PNG."""
    done, data = cv2.imencode('.png', pixels)
    if not done:  # OpenCV without its PNG codec.
        raise DatasetError('OpenCV', 'it cannot encode PNG files.', 'Reinstall opencv-python-headless.')
    return data.tobytes()


def coco(plan: Plan, frames: Sequence[Frame], root: Path) -> dict[str, Any]:
    """Return the COCO file of one split; ids count from 1 in the order of the names."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, frame in enumerate(sorted(frames, key=lambda each: each.name), start=1):
        width, height = frame.size or read_grey(image_path(root, frame.name)).shape[::-1]
        images.append({'id': number, 'file_name': f'{frame.name}.png', 'width': width, 'height': height})
        for each in frame.instances:
            entry: dict[str, Any] = {
                'id': len(annotations) + 1,
                'image_id': number,
                'category_id': each.category,
                'iscrowd': 0,
            }
            entry |= {'bbox': list(each.box), 'area': each.box[2] * each.box[3]}
            if each.polygons:
                entry['segmentation'] = [polygon.ravel().tolist() for polygon in each.polygons]
            annotations.append(entry)
    categories = [{'id': number, 'name': name} for number, name in enumerate(plan.classes, start=1)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def describe(plan: Plan, repairs: Repairs, root: Path) -> dict[str, Any]:
    """Return the content of ``dataset.json``."""
    counts = {}
    for split in SPLITS:
        frames = [frame for frame in plan.frames if frame.split == split]
        counts[split] = {'frames': len(frames)}
        if all(frame.mask is None for frame in plan.frames):
            counts[split]['instances'] = sum(len(frame.instances) for frame in frames)
            counts[split]['frames_without_instances'] = sum(not frame.instances for frame in frames)
    return {
        'name': plan.name,
        'classes': list(plan.classes),
        'masks': plan.masks,
        'boxes': plan.boxes,
        'counts': counts,
        'lists': {split: hash_names(frame.name for frame in plan.frames if frame.split == split) for split in SPLITS},
        'splits': plan.split_rule,
        'synthetic': plan.synthetic,
        'repairs': dict(repairs.places),
        'version': __version__,
    }
