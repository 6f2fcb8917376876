"""Pictures of masked and reconstructed frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torch import Tensor

from vasomim.errors import printable
from vasomim.files import write_whole

if TYPE_CHECKING:
    from vasomim.models import Reconstruction

Image = np.ndarray

PANEL = 224  # A panel's smallest side in pixels: smaller frames are enlarged by a whole factor.
GAP = 6
TITLE = 26
BACKGROUND = 24
INK = (235, 235, 235)
HIDDEN = (88, 102, 122)  # RGB of a masked patch, bluish so that no tissue looks like it.
VESSEL = (255, 170, 0)  # RGB of the guidance.
FONT = cv2.FONT_HERSHEY_SIMPLEX


def reconstruction_figure(
    result: Reconstruction, denormalize: Callable[[Tensor], Tensor], names: Sequence[str] = ()
) -> Image:
    """Draw a masked and reconstructed batch.

    Args:
        result: The batch, on any device.
        denormalize: Normalized frames (B, 3, H, W) to grey levels, uint8 (B, H, W).
        names: Up to B names, written onto the originals.

    Returns:
        RGB picture, uint8 (height, width, 3): a row per frame; columns as in :func:`draw_rows`.
    """
    guidance = None if result.guidance is None else result.guidance[:, 0].float().cpu().numpy()
    return draw_rows(
        denormalize(result.original).cpu().numpy(),
        denormalize(result.reconstruction).cpu().numpy(),
        result.mask[:, 0].cpu().numpy() > 0.5,
        guidance,
        names,
    )


def draw_rows(
    originals: Image, reconstructions: Image, masks: Image, guidance: Image | None = None, names: Sequence[str] = ()
) -> Image:
    """Draw frames side by side: original, guidance laid over it, what the encoder sees, reconstruction.

    Args:
        originals: Grey levels, uint8 (B, H, W).
        reconstructions: Grey levels, uint8 (B, H, W).
        masks: bool (B, H, W), True = masked.
        guidance: In [0, 1], (B, H, W); None leaves the column out.
        names: Up to B names, written onto the originals.

    Returns:
        RGB picture, uint8 (height, width, 3).

    Raises:
        ValueError: If the shapes differ or there is no frame.
    """
    given = [originals, reconstructions, masks] + ([] if guidance is None else [guidance])
    if originals.ndim != 3 or not len(originals) or any(image.shape != originals.shape for image in given):
        raise ValueError(f'frames of one shape (B, H, W) are needed, not {[image.shape for image in given]}')
    titles = ['original', 'guidance', f'masked ({masks.mean():.0%})', 'reconstruction']
    rows = []
    for index, original in enumerate(originals):
        visible = np.where(masks[index][..., None], HIDDEN, grey(original)).astype(np.uint8)
        panels = [grey(original), visible, grey(reconstructions[index])]
        if guidance is not None:
            panels.insert(1, overlay(original, guidance[index]))
        panels = [enlarge(panel) for panel in panels]
        if index < len(names):
            panels[0] = caption(panels[0], names[index])
        rows.append(panels)
    if guidance is None:
        titles.remove('guidance')
    height, width = rows[0][0].shape[:2]
    canvas = np.full((TITLE + len(rows) * (height + GAP), len(titles) * (width + GAP) + GAP, 3), BACKGROUND, np.uint8)
    for column, title in enumerate(titles):
        left = GAP + column * (width + GAP)
        write_text(canvas, title, (left + 2, TITLE - 8))
        for row, panels in enumerate(rows):
            top = TITLE + row * (height + GAP)
            canvas[top : top + height, left : left + width] = panels[column]
    return canvas


def grey(image: Image) -> Image:
    """Return grey levels (H, W) as RGB (H, W, 3)."""
    return np.repeat(image[..., None], 3, axis=-1)


def overlay(image: Image, guidance: Image) -> Image:
    """Lay guidance in [0, 1], (H, W), in color over grey levels (H, W); RGB (H, W, 3)."""
    share = 0.8 * np.clip(guidance, 0.0, 1.0)[..., None]
    return np.rint((1 - share) * image[..., None] + share * np.array(VESSEL)).astype(np.uint8)


def enlarge(panel: Image) -> Image:
    """Enlarge a panel by the smallest whole factor that makes its smaller side ``PANEL`` pixels or more."""
    factor = max(1, -(-PANEL // min(panel.shape[:2])))
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def caption(panel: Image, name: str) -> Image:
    """Write a name into the lower left corner of a panel, cut in front where it is too long."""
    if not name:
        return panel
    name, fits = printable(name), panel.shape[1] // 8
    text = name if len(name) <= fits else '..' + name[2 - fits :]
    at, panel = (5, panel.shape[0] - 7), panel.copy()
    write_text(panel, text, at, size=0.38, shade=(0, 0, 0), thickness=3)
    write_text(panel, text, at, size=0.38)
    return panel


def write_text(
    picture: Image,
    text: str,
    at: tuple[int, int],
    size: float = 0.5,
    shade: tuple[int, int, int] = INK,
    thickness: int = 1,
) -> None:
    """Write a line into a picture; the one place that calls OpenCV for it, which dies of what it cannot encode.

    Args:
        picture: RGB uint8 (H, W, 3), changed in place.
        text: Anything; what is not printable is written as :func:`vasomim.errors.printable` does it.
        at: Lower left corner, (x, y) in pixels.
        size: Of the letters.
        shade: RGB.
        thickness: Of the lines.
    """
    cv2.putText(picture, printable(text), at, FONT, size, shade, thickness, cv2.LINE_AA)


def write_picture(path: str | Path, picture: Image) -> None:
    """Write an RGB picture as PNG, all at once or not at all, and make its folder.

    Raises:
        StorageError: If the file cannot be written; one that was there stays.
    """
    write_whole(path, cv2.imencode('.png', picture[..., ::-1])[1].tobytes(), sync=False)  # Drawn again if it is lost.
