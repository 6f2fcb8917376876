"""Read Pascal VOC annotation files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from vasomim.errors import DatasetError
from vasomim.prepare.plan import Repairs
from vasomim.prepare.polygons import read_box

Object = tuple[str, tuple[float, float, float, float]]


def read_voc(path: Path, repairs: Repairs) -> tuple[tuple[int, int], list[Object]]:
    """Read one file.

    Corners are inclusive and count from 1, as Pascal VOC defines: a box from (1, 1) to (1, 1) covers one pixel.

    Args:
        path: The file.
        repairs: Gets the boxes that are cut or left out.

    Returns:
        Width and height of the image, and the class and box of each object.

    Raises:
        DatasetError: If the file is damaged or lacks an element.
    """
    cure = 'Copy the file again, or export it as Pascal VOC.'
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise DatasetError(path, f'cannot be read: {error.strerror}.', cure) from error
    except ElementTree.ParseError as error:
        raise DatasetError(path, f'not valid XML: {error}.', cure) from error
    size = number(path, root, 'size/width'), number(path, root, 'size/height')
    objects: list[Object] = []
    for place, entry in enumerate(root.iter('object'), start=1):
        left, top, right, bottom = (number(path, entry, f'bndbox/{tag}') for tag in ('xmin', 'ymin', 'xmax', 'ymax'))
        name = (entry.findtext('name') or '').strip()
        where = f'{path.name} object {place}'
        # A width of 0 by the numbers would be one pixel wide by the definition, and is an annotator's slip.
        empty = right <= left or bottom <= top
        sides = [left - 1, top - 1, 0 if empty else right - left + 1, 0 if empty else bottom - top + 1]
        box = read_box(sides, int(size[0]), int(size[1]), where, repairs)
        if box is None:
            repairs.add('instances without a usable box left out', where)
        else:
            objects.append((name, box))
    return (int(size[0]), int(size[1])), objects


def number(path: Path, parent: ElementTree.Element, tag: str) -> float:
    """Return the number that an element below ``parent`` holds.

    Raises:
        DatasetError: If there is no such element, or no number in it.
    """
    text = parent.findtext(tag)
    try:
        return float(text or '')
    except ValueError as error:
        what = f"'{text}' in <{tag}> is no number." if text is not None else f'there is no <{tag}> in <{parent.tag}>.'
        raise DatasetError(path, what, 'Copy the file again, or export it as Pascal VOC.') from error
