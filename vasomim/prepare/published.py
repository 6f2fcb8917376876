"""What the publishers of the downstream sets say, and by what a folder is recognized as one of these sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.frames.layout import IMAGE_SUFFIXES, composed
from vasomim.prepare.plan import SPLITS

SEGMENTS = (
    *('1', '2', '3', '4', '5', '6', '7', '8', '9', '9a', '10', '10a', '11', '12', '12a', '13', '14', '14a', '15'),
    *('16', '16a', '16b', '16c', '12b', '14b'),
)
"""ARCADE's names of the SYNTAX segments, in the order of their category ids 1 to 25."""

COCO_PLACES = ('*.json', 'annotations/*.json', '*/_annotations.coco.json')
"""Where COCO files lie in anybody's folder; the last is Roboflow's layout, with the images beside them."""

STENOSIS_ID = 26
ARCADE_CATEGORIES = {**dict(enumerate(SEGMENTS, start=1)), STENOSIS_ID: 'stenosis'}

RIGHT_SEGMENTS = frozenset(('1', '2', '3', '4', '16', '16a', '16b', '16c'))
"""Segments of the right coronary artery; all others belong to the left one (SYNTAX score, segments 1-4 and 16)."""

FRAMES: dict[str, dict[str, int]] = {
    'arcade_v': {'train': 1000, 'val': 200, 'test': 300},
    'arcade_vs': {'train': 1000, 'val': 200, 'test': 300},
    'arcade_s': {'train': 1000, 'val': 200, 'test': 300},
    'caxf': {'train and val': 337, 'test': 201},
    'xcav': {'all': 221},
    'stenosis': {'all': 8325},
}
"""Published numbers of frames. 'all' where the published split cannot be had, 'train and val' where val is ours."""

INSTANCES: dict[str, dict[str, int]] = {
    'arcade_vs': {'train': 4976, 'val': 1168, 'test': 1672},
    'arcade_s': {'train': 1625, 'val': 406, 'test': 386},
}
"""Published numbers of annotated objects."""


@dataclass(frozen=True)
class Kind:
    """A published set: the word that prepares it, and how a message calls it."""

    command: str
    title: str


PREPARED = Kind('', 'a set that is prepared already')


def recognize(root: Path) -> Kind | None:
    """Tell which published set a folder is; None if it resembles none."""
    if (root / 'dataset.json').is_file() and (root / 'splits').is_dir():
        return PREPARED
    if any((root / task / split / 'annotations').is_dir() for task in ('syntax', 'stenosis') for split in SPLITS):
        return Kind('arcade', 'ARCADE')
    for split in SPLITS:
        if (root / split / 'annotations' / f'{split}.json').is_file():
            task = root.resolve().name
            return Kind('arcade', f'ARCADE {task}' if task in ('syntax', 'stenosis') else 'one task of ARCADE')
    if (root / 'selectedVideos').is_dir():
        return Kind('pretrain', 'CADICA')
    if any(root.glob('CVAI-*/images')):
        return Kind('xcav', 'XCAV')
    if (root / 'images').is_dir() and (root / 'masks').is_dir():
        return Kind('caxf', 'CAXF') if (root / 'test.txt').is_file() else Kind('folder', 'a folder of images and masks')
    if any(path.with_suffix('.bmp').is_file() for path in root.glob('*.xml')):
        return Kind('stenosis', 'the Stenosis set')
    if any(root.rglob('*.xml')) or any(path for pattern in COCO_PLACES for path in root.glob(pattern)):
        return Kind('folder', 'a folder of images and boxes')
    return None


def find_root(command: str, source: Path) -> Path:
    """Return the folder of a published set: ``source``, or the only one of its kind up to two levels below it.

    Args:
        command: What the set should be: 'arcade', 'xcav', 'caxf' or 'stenosis'.
        source: Where archives were unpacked.

    Raises:
        DatasetError: If there is no such set; the message names what there is instead.
    """
    places = [source]
    for level in ('*', '*/*'):
        places += sorted(path for path in source.glob(level) if path.is_dir() and not path.name.startswith('.'))
    kinds = {place: kind for place in places if (kind := recognize(place))}
    found = [place for place, kind in kinds.items() if kind.command == command and is_whole(place, kind)]
    if found:
        return found[0]
    cure = {
        'arcade': 'Name the folder that holds syntax/ and stenosis/, with {train,val,test}/{images,annotations} each.',
        'xcav': 'Name the folder that holds CVAI-*/images and CVAI-*/ground_truth.',
        'caxf': 'Name the folder that holds images/, masks/, train.txt and test.txt.',
        'stenosis': 'Name the folder that holds the .bmp frames with an .xml file for each.',
    }[command]
    if not kinds:
        raise DatasetError(source, f"this is not the layout of '{command}'.", cure)
    place, kind = next(iter(kinds.items()))
    if kind.command == command:
        raise DatasetError(place, f'this looks like {kind.title} alone.', f'{cure} Here that is {place.parent}.')
    raise other_set(place, kind, cure)


def refuse_other_sets(root: Path) -> None:
    """Check that a folder which is to be read as anybody's is none of the sets that have a layout of their own.

    Raises:
        DatasetError: If it is, or holds one.
    """
    for place in (root, *sorted(path for path in root.glob('*') if path.is_dir())):
        kind = recognize(place)
        if kind and (kind.command in ('arcade', 'xcav', 'pretrain') or (kind is PREPARED and place == root)):
            raise other_set(place, kind, 'Their own commands know classes, lists and patients that `folder` does not.')


def other_set(place: Path, kind: Kind, cure: str) -> DatasetError:
    """Return the error that a folder is another set."""
    if kind is PREPARED:
        return DatasetError(place, f'this looks like {kind.title}.', 'Use it as it is: `vasomim train ... --data`.')
    return DatasetError(place, f'this looks like {kind.title}; did you mean `{kind.command}`?', cure)


def is_whole(place: Path, kind: Kind) -> bool:
    """Return whether a folder is a set's root, not one task of ARCADE."""
    return kind.command != 'arcade' or kind.title == 'ARCADE'


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images that lie in a folder itself, by their name without ending, its letters composed, in order.

    Raises:
        DatasetError: If there is none, or two differ in their endings only.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'):
            stem = composed(path.stem)
            if stem in found:
                what = f'{found[stem].name} and {path.name} differ in their endings only.'
                raise DatasetError(folder, what, 'Rename or remove one of them.')
            found[stem] = path
    if not found:
        raise DatasetError(folder, 'no image here.', f'Put images there, as {", ".join(IMAGE_SUFFIXES)}.')
    return found
