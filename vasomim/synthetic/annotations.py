"""Truth of a frame in the formats of published datasets: COCO dictionaries and Pascal VOC files."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from vasomim.synthetic.anatomy import CATEGORY_IDS, STENOSIS_CATEGORY
from vasomim.synthetic.frame import SyntheticFrame
from vasomim.synthetic.imaging import Mask
from vasomim.synthetic.masks import bounding_box, outline


def coco_categories() -> list[dict[str, Any]]:
    """Return ARCADE's 26 categories: the SYNTAX segments, and stenosis."""
    names = {**CATEGORY_IDS, 'stenosis': STENOSIS_CATEGORY}
    return [{'id': category, 'name': name, 'supercategory': ''} for name, category in names.items()]


def coco_annotations(frame: SyntheticFrame, task: str) -> list[dict[str, Any]]:
    """Return a frame's instances without their ids.

    Args:
        frame: The frame.
        task: 'syntax' for its segments, 'stenosis' for its narrowings.

    Raises:
        ValueError: For another task.
    """
    if task == 'syntax':
        instances = [(segment.category, segment.mask) for segment in frame.segments]
    elif task == 'stenosis':
        instances = [(STENOSIS_CATEGORY, stenosis.mask) for stenosis in frame.stenoses]
    else:
        raise ValueError(f"a task is 'syntax' or 'stenosis', not {task!r}")
    return [entry for category, mask in instances if (entry := _instance(category, mask)) is not None]


def _instance(category: int, mask: Mask) -> dict[str, Any] | None:
    polygons = outline(mask)
    if not polygons:
        return None
    return {
        'category_id': category,
        'segmentation': polygons,
        'area': float(mask.sum()),
        'bbox': [float(value) for value in bounding_box(mask)],
        'iscrowd': 0,
        'attributes': {'occluded': False},
    }


def voc_annotation(frame: SyntheticFrame, name: str) -> bytes:
    """Return the Pascal VOC file of a frame's narrowings.

    Args:
        frame: The frame.
        name: The image's file name.
    """
    root = ElementTree.Element('annotation')
    for tag, text in (('folder', 'data'), ('filename', name), ('path', name)):
        ElementTree.SubElement(root, tag).text = text
    ElementTree.SubElement(ElementTree.SubElement(root, 'source'), 'database').text = 'Synthetic'
    height, width = frame.image.shape
    size = ElementTree.SubElement(root, 'size')
    for tag, value in (('width', width), ('height', height), ('depth', 1)):
        ElementTree.SubElement(size, tag).text = str(value)
    ElementTree.SubElement(root, 'segmented').text = '0'
    for stenosis in frame.stenoses:
        x, y, w, h = stenosis.box
        found = ElementTree.SubElement(root, 'object')
        for tag, text in (('name', 'Stenosis'), ('pose', 'Unspecified'), ('truncated', '0'), ('difficult', '0')):
            ElementTree.SubElement(found, tag).text = text
        box = ElementTree.SubElement(found, 'bndbox')
        # Corners are inclusive and count from 1 in Pascal VOC.
        for tag, value in (('xmin', x + 1), ('ymin', y + 1), ('xmax', x + w), ('ymax', y + h)):
            ElementTree.SubElement(box, tag).text = str(value)
    ElementTree.indent(root, '    ')
    return ElementTree.tostring(root, encoding='utf-8')
