"""The prepared layout, the same for every set: where things lie, and how they are read back.

``images/NAME.png`` 8-bit grey in the published size; ``masks/NAME.png`` class indices, 0 = background;
``splits/{train,val,test}.txt`` a name a line under the hash of the names; ``{train,val,test}.json`` COCO, category ids
from 1; ``sides.json`` left or right tree by name, where known; ``dataset.json`` what the set is, written last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError
from vasomim.files import read_json, read_text
from vasomim.frames.layout import existing_folder
from vasomim.prepare.plan import SPLITS
from vasomim.prepare.recognition import recognize

DESCRIPTION = 'dataset.json'
SIDES = 'sides.json'
FINGERPRINT = '.fingerprint'
PREPARE_AGAIN = 'Prepare the set again.'
HASH_PREFIX = '# sha256:'

EMPTY_SPLIT = (
    "Patients and series are not divided; `vasomim prepare ... --group REGEX` finds them in the names, --group '.+' "
    'takes each frame for itself. Or list the frames of each split in a file of its own.'
)
"""What to do about a split without a frame."""


def image_path(root: Path, name: str) -> Path:
    """Return where the image of a frame lies."""
    return root / 'images' / f'{name}.png'


def mask_path(root: Path, name: str) -> Path:
    """Return where the mask of a frame lies."""
    return root / 'masks' / f'{name}.png'


def boxes_path(root: Path, split: str) -> Path:
    """Return where the COCO file of a split lies."""
    return root / f'{split}.json'


def split_path(root: Path, split: str) -> Path:
    """Return where the names of a split lie."""
    return root / 'splits' / f'{split}.txt'


def hash_names(names: Iterable[str]) -> str:
    """Return the SHA-256 of sorted names, a line each."""
    return hashlib.sha256(''.join(f'{name}\n' for name in sorted(names)).encode()).hexdigest()


def split_text(names: Iterable[str]) -> str:
    """Return the content of a split's file."""
    ordered = sorted(names)
    return '\n'.join([HASH_PREFIX + hash_names(ordered), *ordered, ''])


def read_split(root: Path, split: str) -> list[str]:
    """Return the names of a split.

    Raises:
        DatasetError: If the file is missing, or its names are not those that its hash was made of.
    """
    path = split_path(root, split)
    first, *names = read_text(path, DatasetError, PREPARE_AGAIN).splitlines() or ['']
    if first != HASH_PREFIX + hash_names(names):
        raise DatasetError(
            path,
            'its names are not those that its first line was made of: the list was edited or cut short.',
            'Prepare the set again; readers take a part of a split by label_fraction or exclude.',
        )
    return names


def read_description(root: str | Path) -> dict[str, Any]:
    """Return what ``dataset.json`` says of a prepared set.

    Raises:
        DatasetError: If the folder is no prepared set, or its preparation did not finish.
    """
    root = existing_folder(root)
    path = root / DESCRIPTION
    if not path.is_file():
        parts = sorted(entry.parent.name for entry in root.glob(f'*/{DESCRIPTION}'))
        kind = recognize(root)
        if (root / FINGERPRINT).is_file():
            what, cure = 'its preparation did not finish.', 'Run the same `vasomim prepare` again: it continues.'
        elif parts:
            what, cure = 'holds prepared sets, but is none itself.', f'Name one of them: {", ".join(parts)}.'
        elif kind:
            what = f'this looks like {kind.title} as published.'
            cure = f'Prepare it first: vasomim prepare downstream {kind.command} {root} DST'
        else:
            what = f'no prepared set: there is no {DESCRIPTION}.'
            cure = 'Prepare it with `vasomim prepare`.'
        raise DatasetError(root, what, cure)
    content = read_json(path, DatasetError, PREPARE_AGAIN)
    fault = fault_of_description(content)
    if fault:
        raise DatasetError(path, fault, PREPARE_AGAIN)
    return content


def fault_of_description(content: dict[str, Any]) -> str:
    """Return what is wrong with the content of a ``dataset.json``; '' if nothing is."""
    kinds = {'name': str, 'classes': list, 'counts': dict, 'masks': bool, 'boxes': bool}
    wrong = [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]
    if wrong:
        return f'its {", ".join(wrong)} are missing or damaged.'
    if not content['classes'] or not all(isinstance(label, str) for label in content['classes']):
        return 'its classes are no names.'
    counts = content['counts']
    if set(counts) != set(SPLITS) or not all(isinstance(part, dict) and 'frames' in part for part in counts.values()):
        return 'its counts lack a split or its frames.'
    numbers = [number for part in counts.values() for number in part.values()]
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in numbers):
        return 'its counts are no numbers.'
    for key in ('lists', 'repairs'):
        if not isinstance(content.get(key, {}), dict):
            return f'its {key} are damaged.'
    repairs = content.get('repairs', {}).values()
    if not all(isinstance(part, list) and all(isinstance(place, str) for place in part) for part in repairs):
        return 'its repairs are damaged.'
    return ''
