"""By what a folder is recognized as a published dataset, and what to say where it is another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.prepare.boxes import COCO_PLACES
from vasomim.prepare.catalog import all_datasets
from vasomim.prepare.published import PublishedDataset


@dataclass(frozen=True)
class Kind:
    """What a folder is: the word that prepares it, and how a message calls it."""

    command: str
    title: str


PREPARED = Kind('', 'a set that is prepared already')
CADICA = Kind('pretrain', 'CADICA')


def recognize(root: Path) -> Kind | None:
    """Tell which published dataset a folder is; None if it resembles none."""
    if is_prepared(root):
        return PREPARED
    for dataset in all_datasets():
        if title := dataset.recognize(root):
            return Kind(dataset.name, title)
    if (root / 'selectedVideos').is_dir():
        return CADICA
    title = recognize_folder(root)
    return Kind('folder', title) if title else None


def is_prepared(root: Path) -> bool:
    """Return whether a folder is a prepared set."""
    return (root / 'dataset.json').is_file() and (root / 'splits').is_dir()


def recognize_folder(root: Path) -> str:
    """Tell somebody's own labels."""
    if (root / 'images').is_dir() and (root / 'masks').is_dir():
        return 'a folder of images and masks'
    boxes = any(root.rglob('*.xml')) or any(path for pattern in COCO_PLACES for path in root.glob(pattern))
    return 'a folder of images and boxes' if boxes else ''


def find_root(dataset: PublishedDataset, source: Path) -> Path:
    """Return the folder of a published dataset: ``source``, or the first of its kind up to two levels below it.

    Raises:
        DatasetError: If there is no such dataset; the message names what there is instead.
    """
    places = [source]
    for level in ('*', '*/*'):
        places += sorted(path for path in source.glob(level) if path.is_dir() and not path.name.startswith('.'))
    for place in places:
        if dataset.recognize(place) == dataset.title and not is_prepared(place):
            return place
    kinds = {place: kind for place in places if (kind := recognize(place))}
    if not kinds:
        raise DatasetError(source, f"this is not the layout of '{dataset.name}'.", dataset.cure)
    place, kind = next(iter(kinds.items()))
    if kind.command == dataset.name:
        raise DatasetError(
            place, f'this looks like {kind.title} alone.', f'{dataset.cure} Here that is {place.parent}.'
        )
    raise other_set(place, kind, dataset.cure)


def refuse_other_sets(root: Path) -> None:
    """Check that a folder which is to be read as anybody's is no dataset that has a layout of its own.

    Raises:
        DatasetError: If it is, or holds one.
    """
    common = {'folder', *(dataset.name for dataset in all_datasets() if dataset.common)}
    for place in (root, *sorted(path for path in root.glob('*') if path.is_dir())):
        kind = recognize(place)
        if kind and kind.command not in common and (kind is not PREPARED or place == root):
            raise other_set(place, kind, 'Their own commands know classes, lists and patients that `folder` does not.')


def other_set(place: Path, kind: Kind, cure: str) -> DatasetError:
    """Return the error that a folder is another set."""
    if kind is PREPARED:
        return DatasetError(place, f'this looks like {kind.title}.', 'Use it as it is: `vasomim train ... --data`.')
    return DatasetError(place, f'this looks like {kind.title}; did you mean `{kind.command}`?', cure)
