"""Masks and boxes drawn onto frames."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from vasomim.drawing.visualization import BACKGROUND, GAP, TITLE, caption, enlarge, grey, write_text

Image = np.ndarray

FIRST = (255, 170, 0)
OPACITY = 0.55


def color(label: int) -> tuple[int, int, int]:
    """RGB of a class, 1 or more; neighbors differ clearly."""
    if label == 1:
        return FIRST
    hue = (0.11 + 0.618034 * (label - 1)) % 1.0  # Steps of the golden ratio never come close to an earlier hue soon.
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_mask(frame: Image, labels: Image) -> Image:
    """Lay classes in color over a frame.

    Args:
        frame: Grey levels, uint8 (H, W).
        labels: Class indices, (H, W); 0 stays as it is.

    Returns:
        RGB picture, uint8 (H, W, 3).
    """
    picture = grey(frame)
    for label in np.unique(labels[labels > 0]):
        here = labels == label
        picture[here] = np.rint((1 - OPACITY) * picture[here] + OPACITY * np.array(color(int(label))))
    return picture


def draw_boxes(frame: Image, boxes: Image, labels: Sequence[int], scores: Sequence[float] | None = None) -> Image:
    """Draw boxes onto a frame.

    Args:
        frame: Grey levels, uint8 (H, W).
        boxes: x1, y1, x2, y2 in pixels, (N, 4).
        labels: Class of each box, 1 or more.
        scores: Score of each box, written beside it.

    Returns:
        RGB picture, uint8 (H, W, 3).
    """
    picture = np.ascontiguousarray(grey(frame))
    for index, box in enumerate(np.rint(np.asarray(boxes)).astype(int)):
        left, top, right, bottom = (int(value) for value in box)
        shade = color(int(labels[index]))
        cv2.rectangle(picture, (left, top), (right, bottom), shade, 1, cv2.LINE_AA)
        if scores is not None:
            at = (left, max(10, top - 4))
            write_text(picture, f'{scores[index]:.2f}', at, size=0.35, shade=shade)
    return picture


def contact_sheet(
    rows: Sequence[Sequence[Image]], titles: Sequence[str], captions: Sequence[str], footer: str = ''
) -> Image:
    """Put pictures into rows of equal panels.

    Args:
        rows: RGB pictures, uint8 (H, W, 3), a list per row; they are shown as large as the largest of them.
        titles: One per column.
        captions: One per row, written onto its first picture.
        footer: A line below all of them.

    Returns:
        RGB picture, uint8 (height, width, 3).

    Raises:
        ValueError: If there is no picture.
    """
    if not rows:
        raise ValueError('no picture to show')
    panels = [[enlarge(picture) for picture in row] for row in rows]
    height = max(picture.shape[0] for row in panels for picture in row)
    width = max(picture.shape[1] for row in panels for picture in row)
    bottom = TITLE + len(rows) * (height + GAP)
    shape = bottom + (TITLE if footer else 0), len(titles) * (width + GAP) + GAP, 3
    sheet = np.full(shape, BACKGROUND, np.uint8)
    write_text(sheet, footer, (GAP + 2, bottom + TITLE - 8))
    for column, title in enumerate(titles):
        left = GAP + column * (width + GAP)
        write_text(sheet, title, (left + 2, TITLE - 8))
        for index, row in enumerate(panels):
            top = TITLE + index * (height + GAP)
            picture = caption(row[column], captions[index]) if column == 0 else row[column]
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet
