"""Published masks of two grey values, whichever these are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey
from vasomim.prepare.plan import Repairs

SHOWN = 6
SEVERAL = 32  # Grey values up to which the masks may show classes; blurred edges have more.
BLURRING = ('.jpg', '.jpeg')


def find_grey_values(
    paths: Sequence[Path],
    threshold: int | None = None,
    report: Callable[[int, int], None] | None = None,
    repairs: Repairs | None = None,
) -> dict[int, int]:
    """Find the two grey values of a set of masks: the lower one is the background.

    All masks are looked at, as one that is uniform does not tell which of its values it has.

    Args:
        paths: The masks.
        threshold: Grey levels above it are foreground, whatever they are; None: there must be two of them.
        report: Called with (masks looked at, masks in all).
        repairs: Told where more pixels are foreground than background, as in masks that somebody inverted.

    Returns:
        Class index of each grey value.

    Raises:
        DatasetError: If the masks hold one value or more than two.
    """
    if threshold is not None:
        return {value: int(value > threshold) for value in range(256)}
    first: dict[int, Path] = {}
    pixels = np.zeros(256, np.int64)
    for number, path in enumerate(paths, start=1):
        counts = np.bincount(read_grey(path, mask=True).ravel(), minlength=256)
        pixels += counts
        for value in np.flatnonzero(counts).tolist():
            first.setdefault(value, path)
        if len(first) > 2:
            used = sorted(first)
            blurred = path.suffix.lower() in BLURRING or len(used) > SEVERAL
            some = ', '.join(map(str, used[:SHOWN])) + (', ...' if len(used) > SHOWN else '')
            raise DatasetError(
                path,
                f'a set of masks has two grey values; up to this one they are {some}.',
                'Save masks as PNG, as JPEG blurs them, or pass --threshold N: grey levels above N are foreground.'
                if blurred
                else 'Several classes are not read: save masks of one of them, with two grey values.',
            )
        if report:
            report(number, len(paths))
    if len(first) < 2:
        value, path = next(iter(first.items()))
        raise DatasetError(
            path.parent,
            f'every pixel of its {len(paths)} masks is {value}.',
            'Masks of two grey values are needed; look at one of them.',
        )
    low, high = sorted(first)
    if repairs is not None and pixels[high] > pixels[low]:
        share = f'{paths[0].parent}: {100 * pixels[high] / pixels.sum():.0f} % are {high}'
        repairs.add('folder of masks with more foreground (brighter) than background: inverted?', share)
    return {low: 0, high: 1}


def to_indices(path: Path, grey_values: Mapping[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a mask as class indices.

    Args:
        path: The file.
        grey_values: Class index of each grey value.
        size: Height and width of the image.

    Raises:
        DatasetError: If it is damaged, of another size than its image, or holds another grey value.
    """
    mask = read_grey(path, mask=True)
    if mask.shape != size:
        raise DatasetError(
            path,
            f'the mask is {mask.shape[1]} x {mask.shape[0]} pixels, its image {size[1]} x {size[0]}.',
            'Export it at the size of its image, or correct the pairing of their names.',
        )
    table = np.full(256, 255, np.uint8)
    table[list(grey_values)] = list(grey_values.values())
    indices = table[mask]
    if indices.max() == 255:
        raise DatasetError(
            path,
            f'it holds the grey value {mask[indices == 255][0]}; the masks of this set have {sorted(grey_values)}.',
            'Correct the mask.',
        )
    return indices
