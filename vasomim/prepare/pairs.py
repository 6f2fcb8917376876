"""Sets with a mask of two grey values for each frame."""

from __future__ import annotations

from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.frames.layout import IMAGE_SUFFIXES, composed
from vasomim.prepare.masks import find_grey_values
from vasomim.prepare.plan import Frame, Plan, Repairs
from vasomim.prepare.published import Report, is_simulated
from vasomim.prepare.splitting import Choices, listed_splits


def mask_plan(
    name: str,
    classes: tuple[str, ...],
    root: Path,
    frames: tuple[Frame, ...],
    rule: str,
    repairs: Repairs,
    choices: Choices,
    report: Report | None,
) -> Plan:
    """Return the plan of a set with a mask for each frame.

    Raises:
        DatasetError: If they have other than two grey values.
    """
    masks = [frame.mask for frame in frames if frame.mask]
    grey_values = find_grey_values(masks, choices.threshold, report, repairs)
    return Plan(name, classes, frames, True, False, rule, grey_values, repairs, is_simulated(root))


def read_pairs(name: str, classes: tuple[str, ...], root: Path, choices: Choices, report: Report | None = None) -> Plan:
    """Read images and masks of the same names, divided by lists where there are some.

    Raises:
        DatasetError: If an image has no mask or the reverse, or a list names what is not there.
    """
    repairs = Repairs()
    images, masks = images_by_stem(root / 'images'), images_by_stem(root / 'masks')
    for here, there, what in ((images, masks, 'image has no mask'), (masks, images, 'mask has no image')):
        lone = [stem for stem in here if stem not in there]
        if lone:
            kind = what.partition(' ')[0]
            raise DatasetError(
                here[lone[0]],
                f'this {what} of its name, one of {len(lone)} such {kind}s in {len(here)}.',
                f'Add what is missing, or take the {kind} away.',
            )
    split_of, rule = listed_splits(root, list(images), repairs, choices)
    frames = tuple(Frame(stem, split_of[stem], path, masks[stem]) for stem, path in images.items() if stem in split_of)
    return mask_plan(name, classes, root, frames, rule, repairs, choices, report)


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
