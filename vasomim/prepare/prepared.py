"""The prepared layout, the same for every set: where things lie, and how they are read back.

``images/NAME.png`` 8-bit grey in the published size; ``masks/NAME.png`` class indices, 0 = background;
``splits/{train,val,test}.txt`` a name a line under the hash of the names; ``{train,val,test}.json`` COCO, category ids
from 1; ``sides.json`` left or right tree by name, where known; ``dataset.json`` what the set is, written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vasomim.errors import DatasetError
from vasomim.frames.layout import existing_folder
from vasomim.prepare.plan import SPLITS
from vasomim.prepare.published import recognize

DESCRIPTION = 'dataset.json'
SIDES = 'sides.json'
FINGERPRINT = '.fingerprint'
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
    try:
        first, *names = path.read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(path, f'this split cannot be read: {error}.', 'Prepare the set again.') from error
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
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise DatasetError(path, f'not valid JSON: {error}.', 'Prepare the set again.') from error
    lacking = [key for key in ('name', 'classes', 'counts', 'masks', 'boxes') if key not in content]
    if lacking or set(content['counts']) != set(SPLITS):
        raise DatasetError(path, f'it lacks {", ".join(lacking) or "a split"}.', 'Prepare the set again.')
    return content
