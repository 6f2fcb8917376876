"""Transforms that treat a frame and its anatomy map alike: one crop, one flip.

A pipeline's dictionary holds ``img``, uint8 grey (H, W), and, unless the dataset goes without, ``anatomy``, uint8
(H, W) in {0, 1}. Random numbers come from NumPy's global generator, which the loader's workers seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from vasomim.anatomy import extract_anatomy
from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey, read_mask
from vasomim.registry import TRANSFORMS

TRIES = 10
EXTRACT_AGAIN = (
    '`vasomim extract FRAMES MAPS`, with the folders of the frames and of their maps, makes broken and missing maps '
    'again and keeps the sound ones.'
)
META_KEYS = ('img_path', 'sample_idx', 'skipped', 'ori_shape', 'img_shape')


@TRANSFORMS.register_module()
class LoadAngiogram(BaseTransform):
    """Reads ``img_path`` into ``img`` as 8-bit grey."""

    def transform(self, results: dict) -> dict:
        """Read.

        Raises:
            DatasetError: If the frame is missing, damaged or not of 8 bits.
        """
        if 'img' not in results:  # A packed frame is there already.
            results['img'] = read_grey(results['img_path'], thorough=False)
        results['ori_shape'] = results['img_shape'] = results['img'].shape
        return results


@TRANSFORMS.register_module()
class LoadAnatomy(BaseTransform):
    """Puts the vessels into ``anatomy``: reads ``anatomy_path``, or extracts them by ``anatomy_filter``.

    Without either nothing happens, so that methods that need no anatomy share the pipeline. Comes before any crop: the
    filters' widths are those of the frame as it was recorded.
    """

    def transform(self, results: dict) -> dict:
        """Read or extract.

        Raises:
            DatasetError: If the map is missing, damaged, no mask, or of another size than its frame.
        """
        if 'anatomy_path' in results:
            try:
                results['anatomy'] = read_mask(results['anatomy_path'])
            except DatasetError as error:
                raise DatasetError(error.where, error.what, EXTRACT_AGAIN) from error
            check_size(results)
        elif 'anatomy_filter' in results:
            results['anatomy'] = extract_anatomy(results['img'], results['anatomy_filter'])
        return results


def check_size(results: dict) -> None:
    """Compare a stored map with its frame.

    Raises:
        DatasetError: If their sizes differ.
    """
    (height, width), (map_height, map_width) = results['img'].shape, results['anatomy'].shape
    if (height, width) != (map_height, map_width):
        raise DatasetError(
            results['anatomy_path'],
            f'a map of {map_width} x {map_height} pixels for a frame of {width} x {height}, {results["img_path"]}.',
            EXTRACT_AGAIN,
        )


@TRANSFORMS.register_module()
class PairedResizedCrop(BaseTransform):
    """Crops a random rectangle and resizes it: frames bicubic and smoothed when shrunk, maps by nearest pixel.

    Crops are drawn from the distribution of torchvision's RandomResizedCrop.

    Args:
        size: Height and width of the result; one number for a square.
        scale: Range of the crop's share of the frame's area.
        ratio: Range of width over height, drawn evenly on a logarithmic scale.

    Raises:
        ValueError: If a range is empty or not positive.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        for name, (low, high) in {'scale': scale, 'ratio': ratio}.items():
            if not 0 < low <= high < math.inf:
                raise ValueError(f'{name} is a range of positive numbers, lowest first, not ({low}, {high}).')
        self.size = as_pair(size)
        self.scale = scale
        self.ratio = ratio

    def transform(self, results: dict) -> dict:
        """Crop and resize."""
        top, left, height, width = self.draw_crop(*results['img'].shape)
        return resize_pair(results, self.size, (slice(top, top + height), slice(left, left + width)))

    def draw_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw top, left, height and width of a crop; the largest central one if none of ten tries fits."""
        for _ in range(TRIES):
            area = height * width * np.random.uniform(*self.scale)
            ratio = math.exp(np.random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            tall, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < tall <= height and 0 < wide <= width:
                return np.random.randint(height - tall + 1), np.random.randint(width - wide + 1), tall, wide
        tall = max(1, min(height, round(width / self.ratio[0])))
        wide = max(1, min(width, round(height * self.ratio[1])))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


@TRANSFORMS.register_module()
class PairedResize(BaseTransform):
    """Resizes whole frames and maps to one size, whatever the ratio of their sides was.

    Args:
        size: Height and width of the result; one number for a square.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = as_pair(size)

    def transform(self, results: dict) -> dict:
        """Resize."""
        return resize_pair(results, self.size)


@TRANSFORMS.register_module()
class PairedFlip(BaseTransform):
    """Mirrors left and right at random.

    Args:
        prob: How often, in [0, 1].

    Raises:
        ValueError: If ``prob`` is no probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob lies between 0 and 1, not at {prob}.')
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Flip or not."""
        if np.random.random() < self.prob:
            for key in pair(results):
                results[key] = cv2.flip(np.asarray(results[key]), 1)
        return results


@TRANSFORMS.register_module()
class PackAngiogram(BaseTransform):
    """Packs for the model: ``inputs`` uint8 (1, H, W), ``data_samples`` with ``anatomy`` uint8 (1, H, W) in {0, 1}.

    The sample knows ``img_path``, ``sample_idx``, ``skipped``, ``ori_shape`` and ``img_shape``.
    """

    def transform(self, results: dict) -> dict:
        """Pack."""
        sample = DataSample()
        for key in META_KEYS:  # One by one, as DataSample(metainfo=...) makes deep copies.
            if key in results:
                sample.set_field(results[key], key, field_type='metainfo')
        if 'anatomy' in results:
            sample.set_field(as_tensor(results['anatomy']), 'anatomy', dtype=torch.Tensor)
        return {'inputs': as_tensor(results['img']), 'data_samples': sample}


def pair(results: dict) -> list[str]:
    """Return the keys of the frame and, if it is there, its anatomy."""
    return [key for key in ('img', 'anatomy') if key in results]


def resize_pair(results: dict, size: tuple[int, int], window: tuple[slice, slice] = (slice(None), slice(None))) -> dict:
    """Resize the frame and the anatomy, or the same window of both, to (height, width)."""
    for key in pair(results):
        results[key] = resize(results[key][window], size, smooth=key == 'img')
    results['img_shape'] = size
    return results


def resize(pixels: NDArray[np.uint8], size: tuple[int, int], smooth: bool) -> NDArray[np.uint8]:
    """Resize (H, W) to (height, width): bicubic, or by nearest pixel.

    Bicubic as Pillow does it, and with it torchvision: the kernel widens with the factor of shrinking. OpenCV's does
    not, so that 512 pixels shrunk to 224 differ by up to 20 grey levels where vessels are thin.
    """
    height, width = size
    if not smooth:
        return pixels[middles(pixels.shape[0], height)].take(middles(pixels.shape[1], width), axis=1)
    columns = resize_rows(cv2.transpose(pixels), width)  # Width before height, as PyTorch and Pillow round in between.
    return resize_rows(cv2.transpose(columns), height)


def middles(pixels: int, wanted: int) -> NDArray[np.int64]:
    """Return which of some pixels in a row lies under the middle of each wanted one; in integers, so never rounded."""
    return (2 * np.arange(wanted) + 1) * pixels // (2 * wanted)


def resize_rows(pixels: NDArray, rows: int) -> NDArray[np.uint8]:
    """Resize 8-bit (H, W) to (rows, W), bicubic with a kernel that widens on shrinking.

    Four neighbouring columns pass as the four channels of a pixel: PyTorch's fast code for 8 bits computes four
    channels at once, also for one that is alone.
    """
    height, width = pixels.shape
    quads = -(-width // 4)
    if width != 4 * quads:
        pixels = cv2.copyMakeBorder(pixels, 0, 0, 0, 4 * quads - width, cv2.BORDER_CONSTANT)
    channels = torch.from_numpy(pixels).view(1, height, quads, 4).permute(0, 3, 1, 2)
    resized = interpolate(channels, (rows, quads), mode='bicubic', antialias=True)
    return resized.permute(0, 2, 3, 1).reshape(rows, 4 * quads)[:, :width].numpy()


def as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return (H, W) as a tensor (1, H, W); what must not be written to, a packed frame's bytes, is copied."""
    return torch.from_numpy(np.require(pixels, requirements=['C', 'W']))[None]


def as_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width).

    Raises:
        ValueError: If they are not one or two positive numbers.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f'size is a height and a width in pixels, not {size}.')
    return height, width
