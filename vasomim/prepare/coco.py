"""Read COCO annotation files, checked: what the tools that use them only notice as a score of zero is an error here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError, did_you_mean
from vasomim.files import read_json
from vasomim.frames.layout import composed, is_image, walk
from vasomim.frames.limits import MOST_PIXELS
from vasomim.prepare.instances import read_instance
from vasomim.prepare.plan import Instance, Repairs

NEEDED = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id'),
    'categories': ('id', 'name'),
}
"""What the entries of each list of a COCO file hold."""

CROWDS = {'': False, '0': False, '0.0': False, 'false': False, '1': True, '1.0': True, 'true': True}


@dataclass(frozen=True)
class CocoImage:
    """An entry of a COCO file: its image, the size the file names, and its instances.

    Attributes:
        path: The image.
        place: Its path in the folder of the images, with forward slashes.
        size: Width and height, as the file says.
        instances: Its objects.
    """

    path: Path
    place: str
    size: tuple[int, int]
    instances: tuple[Instance, ...]


def load_coco(path: Path) -> dict[str, Any]:
    """Read a COCO file.

    Raises:
        DatasetError: If it cannot be read, is not JSON, lacks a list, or repeats the id of an image or a category.
    """
    content: dict[str, Any] = read_json(path, DatasetError, 'Unpack or download the archive again.')
    for key, needed in NEEDED.items():
        if not isinstance(content.get(key), list):
            raise DatasetError(path, f"no COCO file: it has no list '{key}'.", 'Export the annotations as COCO JSON.')
        for entry in content[key]:
            lacking = [name for name in needed if not isinstance(entry, dict) or name not in entry]
            if lacking:
                raise DatasetError(path, f"an entry of '{key}' has no '{lacking[0]}'.", 'Export the file again.')
            for name in needed:
                check_value(path, key, name, entry)
        twice = repeated_ids(content[key])
        if twice and key != 'annotations':  # Those are numbered anew; nothing refers to them.
            what = f"{len(twice)} ids stand more than once in '{key}' (first: {twice[0]})."
            raise DatasetError(path, what, 'Ids have to differ, or annotations land on wrong images.')
    return content


def check_value(path: Path, key: str, name: str, entry: Mapping[str, Any]) -> None:
    """Check the kind of a value: ids of categories are whole numbers, others may be texts as well; names are texts.

    Raises:
        DatasetError: If it is of another kind.
    """
    value = entry[name]
    if name in ('width', 'height'):
        sound, cure = is_length(value), 'Width and height are numbers of pixels; export the file again.'
    elif name in ('file_name', 'name'):
        whole = isinstance(value, int) and not isinstance(value, bool) and name == 'name'
        sound, cure = whole or (isinstance(value, str) and bool(value.strip())), 'Names are texts; correct it.'
    else:
        of_category = name == 'category_id' or (key == 'categories' and name == 'id')
        sound = not isinstance(value, bool) and isinstance(value, int if of_category else int | float | str)
        cure = 'Ids are whole numbers; export the file again.'
    if not sound:
        which = f"the image '{entry['file_name']}'" if name in ('width', 'height') else f"an entry of '{key}'"
        raise DatasetError(path, f'{which} has the {name} {value!r}.', cure)


def is_length(value: Any) -> bool:
    """Return whether a value is a number of pixels that an image may have."""
    return isinstance(value, int | float) and 0 < value <= MOST_PIXELS and value == int(value)


def is_crowd(entry: Mapping[str, Any], place: str) -> bool:
    """Return whether an annotation is one outline of many objects; exporters write numbers, truth values or texts.

    Raises:
        DatasetError: If ``iscrowd`` is none of these.
    """
    value = entry.get('iscrowd')
    text = '' if value is None else str(value).strip().lower()
    if text not in CROWDS:
        raise DatasetError(place, f'its iscrowd is {value!r}.', 'Write 0, or 1 for an outline of many objects.')
    return CROWDS[text]


def repeated_ids(entries: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the ids that more than one entry has."""
    return [number for number, times in Counter(entry['id'] for entry in entries).items() if times > 1]


def check_categories(path: Path, content: Mapping[str, Any], published: Mapping[int, str]) -> None:
    """Compare the categories of a COCO file with the published ones; a file may lack some that it does not use.

    Raises:
        DatasetError: If one has another name or id than published, or an annotation uses one that is not listed.
    """
    listed = {entry['id']: str(entry['name']) for entry in content['categories']}
    expected = ', '.join(f'{number}: {name}' for number, name in published.items())
    for number, name in listed.items():
        if name not in published.values():
            hint = did_you_mean(name, published.values()) or did_you_mean(name.lower(), published.values())
            raise DatasetError(path, f"there is no category '{name}'.{hint}", f'Published are {expected}.')
        if published.get(number) != name:
            what = f"category '{name}' has the id {number}, which is not the published one."
            raise DatasetError(path, what, f'Published are {expected}.')
    check_used(path, content)


def check_used(path: Path, content: Mapping[str, Any]) -> None:
    """Check that every annotation's category is listed, and that categories have names of their own.

    Raises:
        DatasetError: If one is not listed, or two share a name.
    """
    names = Counter(str(entry['name']) for entry in content['categories'])
    for name, times in names.items():
        if times > 1:
            what = f"{times} categories are called '{name}'."
            raise DatasetError(path, what, 'Classes are told apart by their names: rename or join them.')
    listed = {entry['id'] for entry in content['categories']}
    unknown = Counter(entry['category_id'] for entry in content['annotations'] if entry['category_id'] not in listed)
    if unknown:
        number, times = unknown.most_common(1)[0]
        what = f'{times} annotations have the category id {number}, which the file does not list.'
        raise DatasetError(path, what, 'Add the category to the file, or correct the annotations.')


def wrong_boxes(content: Mapping[str, Any]) -> list[Any]:
    """Return the ids of the annotations of a prepared set that have no image, or no box inside it."""
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    return [
        entry['id']
        for entry in content['annotations']
        if entry['image_id'] not in sizes or not fits(entry.get('bbox'), *sizes[entry['image_id']])
    ]


def fits(box: Any, width: int, height: int) -> bool:
    """Return whether a box lies inside an image of this size and is at least a pixel wide and high."""
    if not isinstance(box, list) or len(box) != 4 or any(type(side) not in (int, float) for side in box):
        return False
    left, top, wide, high = box
    if max(box) > MOST_PIXELS:  # Before whole numbers of any length are added to others.
        return False
    return min(wide, high) >= 1 and min(left, top) >= 0 and left + wide <= width + 1e-6 and top + high <= height + 1e-6


def place_of(name: str, here: Collection[str]) -> str:
    """Return which of the files in ``here`` a ``file_name`` means; itself, with forward slashes, if none.

    Exporters begin it at the folder of the images, above that folder, or at the root of their own disk.

    Args:
        name: The entry.
        here: Paths of files, their letters composed.
    """
    parts = composed(name).replace('\\', '/').split('/')
    places = ('/'.join(parts[start:]) for start in range(len(parts)))
    return next((place for place in places if place in here), '/'.join(parts))


def read_coco(
    path: Path,
    folder: Path,
    content: Mapping[str, Any],
    class_of: Callable[[int], int | None],
    repairs: Repairs,
    skip_missing: bool = False,
    label: str | None = None,
    painted: bool = True,
) -> list[CocoImage]:
    """Return the images of a COCO file with their instances.

    Args:
        path: The file, for errors.
        folder: Where its images lie, in sub-folders or not.
        content: What :func:`load_coco` read from it.
        class_of: The class, 1 to K, of a category id; None leaves the annotation out, which is counted.
        repairs: Gets what was changed.
        skip_missing: Whether images that are not on disk are left out instead of being an error.
        label: Names the file in the list of repairs.
        painted: Whether masks are made of the outlines; if not, boxes are enough.

    Raises:
        DatasetError: If images are missing on disk, an annotation cannot be understood, or no object is left.
    """
    label = label or path.name
    everything, repairs = repairs, Repairs()
    for number in repeated_ids(content['annotations']):
        repairs.add('annotation ids that stood more than once made unique', f'{label} id {number}')
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for entry in content['annotations']:
        by_image[entry['image_id']].append(entry)
    here = {composed(file): file for file in walk(folder, '')} if folder.is_dir() else {}
    names = [place_of(str(image['file_name']), here) for image in content['images']]
    missing = [name for name in names if name not in here]
    if missing and not skip_missing:
        what = f'{len(missing)} of {len(names)} images are missing on disk (first: {missing[0]}, in {folder}).'
        raise DatasetError(path, what, 'Unpack the archive again, or pass --skip-missing to leave them out.')
    for name in missing:
        repairs.add('images missing on disk left out', f'{label} {name}')
    for name in sorted(file for file in here.keys() - set(names) if is_image(Path(file))):
        repairs.add('images without an entry left out', f'{label} {name}')
    found = []
    for image, name in zip(content['images'], names, strict=True):
        entries = by_image.pop(image['id'], [])
        if name not in here:
            continue
        width, height = int(image['width']), int(image['height'])
        instances = []
        for entry in entries:
            place = f'{label} annotation {entry["id"]} of {name}'
            category = class_of(entry['category_id'])
            if category is None:
                repairs.add('annotations of other classes left out', place)
                continue
            if is_crowd(entry, place):  # It is none of the objects.
                repairs.add('annotations of crowds left out', place)
                continue
            instance = read_instance(entry, category, width, height, place, repairs, painted)
            if instance is not None:
                instances.append(instance)
        found.append(CocoImage(folder / here[name], name, (width, height), tuple(instances)))
    for entry in (entry for entries in by_image.values() for entry in entries):
        place = f'{label} annotation {entry["id"]}'
        repairs.add('annotations of images that are not listed left out', place)
    if not any(image.instances for image in found):
        why = '; '.join(repairs.lines()) or 'none is listed'
        raise DatasetError(path, f'no usable annotation: {why}.', 'Export or unpack the file again.')
    everything.update(repairs)
    return found
