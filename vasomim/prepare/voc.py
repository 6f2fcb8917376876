"""Read Pascal VOC annotation files."""

from __future__ import annotations

import codecs
import math
import re
from pathlib import Path
from xml.etree import ElementTree

from vasomim.errors import DatasetError
from vasomim.files import read_regular
from vasomim.frames.images import image_size
from vasomim.frames.limits import MOST_PIXELS
from vasomim.prepare.instances import attribute, degrees_of, turned_corners
from vasomim.prepare.plan import Repairs
from vasomim.prepare.polygons import box_of, read_box

Object = tuple[str, tuple[float, float, float, float]]

AGAIN = 'Copy the file again, or export it as Pascal VOC.'
MOST_BYTES = 1 << 26  # An object takes about 300.
DECLARED = re.compile(rb'<\?xml[^>]*?encoding\s*=\s*["\']([^"\']*)["\']')
NO_SCRIPTS = ('idna', 'punycode', 'raw-unicode-escape', 'unicode-escape', 'undefined')  # Not what a text is stored in.
MARKS = ((codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'))


def read_voc(path: Path, image: Path, repairs: Repairs) -> tuple[tuple[int, int], list[Object]]:
    """Read one file.

    Corners are inclusive and count from 1, as Pascal VOC defines: a box from (1, 1) to (1, 1) covers one pixel.

    Args:
        path: The file.
        image: Its image, whose size counts where the file names none.
        repairs: Gets the boxes that are cut, turned or left out, and sizes that are not named.

    Returns:
        Width and height of the image, and the class and box of each object.

    Raises:
        DatasetError: If the file is damaged or lacks an element.
    """
    root = parse_xml(path)
    size = read_size(path, root, image, repairs)
    objects: list[Object] = []
    for place, entry in enumerate(root.iter('object'), start=1):
        name = (entry.findtext('name') or '').strip()
        if not name:
            raise DatasetError(path, f'its object {place} has no name.', AGAIN)
        where = f'{path.name} object {place}'
        box = read_box(corners(path, entry, where, repairs), *size, where, repairs)
        if box is None:
            repairs.add('instances without a usable box left out', where)
        else:
            objects.append((name, box))
    return size, objects


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file.

    Raises:
        DatasetError: If it is damaged, or declares entities, which can expand to any size.
    """
    text = decode(path, read_regular(path, DatasetError, AGAIN, MOST_BYTES))
    if '<!ENTITY' in text:
        raise DatasetError(path, 'it declares entities, which annotations have no use for.', AGAIN)
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DatasetError(path, f'not valid XML: {error}.', AGAIN) from error


def decode(path: Path, data: bytes) -> str:
    """Return the text of an XML file by the encoding that it declares; Python knows more of them than its parser.

    Raises:
        DatasetError: If the encoding is not known, or the bytes are not in it.
    """
    declared = DECLARED.match(data[:200].lstrip())
    name = declared[1].decode('latin-1') if declared else 'utf-8'
    marked = next((codec for mark, codec in MARKS if data.startswith(mark)), '')
    if marked:
        name = marked
    elif declared and name.lower().startswith(('utf-16', 'utf-32', 'utf16', 'ucs-2', 'unicode')):
        name = 'utf-8'  # The declaration could not be found among letters of two bytes.
    try:
        if codecs.lookup(name).name.replace('_', '-') in NO_SCRIPTS:
            raise LookupError(name)
        return data.decode(name)
    except LookupError as error:
        if data.isascii():  # Means the same in all that have been used for XML.
            return data.decode('ascii')
        what = f"it declares the encoding '{name}', which is not known."
        raise DatasetError(path, what, 'Save it as UTF-8, and declare that.') from error
    except ValueError as error:
        raise DatasetError(path, f"it is not in its encoding '{name}': {error}.", 'Save it as UTF-8.') from error


def read_size(path: Path, root: ElementTree.Element, image: Path, repairs: Repairs) -> tuple[int, int]:
    """Return width and height as a file names them; those of the image itself where it says 0 x 0, as some tools do.

    Raises:
        DatasetError: If they are no numbers of pixels, or the image has none either.
    """
    width, height = (number(path, root, f'size/{side}') for side in ('width', 'height'))
    if width == height == 0:
        own = image_size(image)
        if own is None:
            what = 'it names the size 0 x 0, and its image cannot be read.'
            raise DatasetError(path, what, f'Copy {image.name} again.')
        repairs.add('sizes of 0 x 0 taken from the image itself', path.name)
        return own[1], own[0]
    for side in (width, height):
        if not 0 < side <= MOST_PIXELS or side != int(side):
            raise DatasetError(path, f'it names the size {width:g} x {height:g}.', 'Write the size of its image.')
    return int(width), int(height)


def corners(path: Path, entry: ElementTree.Element, where: str, repairs: Repairs) -> list[float]:
    """Return left, top, width and height of an object's box; of one that was turned, of the box around it.

    Raises:
        DatasetError: If there is no box, one that was turned in a way that is not known, or a value is no number.
    """
    if entry.find('robndbox') is not None:
        what = f'its object {where.rpartition(" ")[2]} is a turned box (robndbox).'
        raise DatasetError(path, what, 'Turned boxes are not read: export upright ones (bndbox).')
    left, top, right, bottom = (number(path, entry, f'bndbox/{tag}') for tag in ('xmin', 'ymin', 'xmax', 'ymax'))
    # A width of 0 by the numbers would be one pixel wide by the definition, and is an annotator's slip.
    empty = right <= left or bottom <= top
    box = [left - 1, top - 1, 0 if empty else right - left + 1, 0 if empty else bottom - top + 1]
    named = [{'name': each.findtext('name'), 'value': each.findtext('value')} for each in entry.iter('attribute')]
    degrees = degrees_of(attribute(named, 'rotation'), f'{path}: object {where.rpartition(" ")[2]}')
    if degrees and not empty:
        repairs.add('boxes that are turned: the box around each taken', where)
        return list(box_of([turned_corners(box, degrees)]))
    return box


def number(path: Path, parent: ElementTree.Element, tag: str) -> float:
    """Return the finite number that an element below ``parent`` holds.

    Raises:
        DatasetError: If there is no such element, or no number in it.
    """
    text = parent.findtext(tag)
    try:
        value = float(text or '')
        if not math.isfinite(value):
            raise ValueError(f'{value} is not finite')
    except ValueError as error:
        what = f"'{text}' in <{tag}> is no number." if text is not None else f'there is no <{tag}> in <{parent.tag}>.'
        raise DatasetError(path, what, AGAIN) from error
    return value
