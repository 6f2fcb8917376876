"""Beer-Lambert attenuation: path lengths through tubes and ellipsoids, and what is left of the beam behind them."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from vasomim.synthetic.imaging import Array, Image

_FINEST = 0.3  # px; radii below keep their cross-section at this radius, thinned out
_GROWTH = 1.2  # ratio of neighboring kernel radii
_WIDE = 4.3  # px; the widest disc that fits a kernel of 11 x 11, which OpenCV convolves without a detour over the DFT
_TILE = 64  # px
_BORDER = 7  # px around a tile; the widest kernel reaches 5 px, and bilinear sharing one more
_PHASES = 4  # positions in a pixel at which wide discs are stamped


@lru_cache(maxsize=4096)
def _disc(radius: float, dx: float = 0.0, dy: float = 0.0) -> Image:
    """Return a disc, moved by dx and dy, with edges by area (8 x 8 samples a pixel); its sum is pi radius^2."""
    half = int(np.ceil(radius + 0.5 + max(dx, dy)))
    fine = (np.arange((2 * half + 1) * 8) + 0.5) / 8 - half - 0.5
    inside = ((fine[:, None] - dy) ** 2 + (fine[None, :] - dx) ** 2 < radius**2).astype(np.float64)
    disc = inside.reshape(2 * half + 1, 8, 2 * half + 1, 8).mean(axis=(1, 3))
    return (disc * (np.pi * radius**2 / disc.sum())).astype(np.float32)


def _add(total: Image, patch: Image, x0: int, y0: int) -> None:
    """Add a patch whose first pixel is (x0, y0), as far as it lies in the image."""
    size = total.shape[0]
    height, width = patch.shape
    if x0 >= 0 and y0 >= 0 and x0 + width <= size and y0 + height <= size:
        total[y0 : y0 + height, x0 : x0 + width] += patch
        return
    ya, yb, xa, xb = max(y0, 0), min(y0 + height, size), max(x0, 0), min(x0 + width, size)
    if ya < yb and xa < xb:
        total[ya:yb, xa:xb] += patch[ya - y0 : yb - y0, xa - x0 : xb - x0]


def _sweep_thin(total: Image, x: Array, y: Array, radii: Array, weights: Array) -> None:
    """Add thin tubes: all samples of about one radius and one tile by a convolution."""
    level = np.log(np.maximum(radii, _FINEST) / _FINEST) / np.log(_GROWTH)
    lower = np.floor(level).astype(np.int64)
    small, large = _FINEST * _GROWTH**lower, _FINEST * _GROWTH ** (lower + 1)
    # Mixing neighboring discs by area keeps the tube's volume, and so its attenuation.
    upper_share = np.where(radii > _FINEST, (radii**2 - small**2) / (large**2 - small**2), 0.0)
    weights = weights * np.where(radii > _FINEST, 1.0, (radii / _FINEST) ** 2)
    level = np.concatenate([lower, lower + 1])
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    weights = np.concatenate([(1 - upper_share) * weights, upper_share * weights])
    # Vessels fill a small part of the frame: only tiles that hold samples of a radius are convolved.
    column, row = np.floor(x / _TILE).astype(np.int64), np.floor(y / _TILE).astype(np.int64)
    across = total.shape[0] // _TILE + 4
    found, group = np.unique((level * across + row + 1) * across + column + 1, return_inverse=True)
    width = _TILE + 2 * _BORDER
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = x - left, y - top
    # Each sample is shared bilinearly among the four pixels around it.
    flat = (group * width + top - row * _TILE + _BORDER) * width + left - column * _TILE + _BORDER
    index = np.concatenate([flat, flat + 1, flat + width, flat + width + 1])
    share = [(1 - fx) * (1 - fy) * weights, fx * (1 - fy) * weights, (1 - fx) * fy * weights, fx * fy * weights]
    tiles = np.bincount(index, np.concatenate(share), minlength=len(found) * width * width).astype(np.float32)
    for key, sources in zip(found.tolist(), tiles.reshape(-1, width, width), strict=True):
        kernel = _disc(_FINEST * _GROWTH ** (key // across // across))
        x0, y0 = (key % across - 1) * _TILE - _BORDER, (key // across % across - 1) * _TILE - _BORDER
        _add(total, cv2.filter2D(sources, -1, kernel, borderType=cv2.BORDER_CONSTANT), x0, y0)


def _sweep_wide(total: Image, x: Array, y: Array, radii: Array, weights: Array) -> None:
    """Add wide tubes: one stamp per sample, at a quarter of a pixel and 1.5 % of the radius."""
    left = np.floor(x * _PHASES + 0.5).astype(np.int64)
    top = np.floor(y * _PHASES + 0.5).astype(np.int64)
    level = np.rint(np.log(radii) / np.log(1.015)).astype(np.int64)
    exact = 1.015**level
    shares = (weights * (radii / exact) ** 2).astype(np.float32)
    for a, b, radius, share in zip(left.tolist(), top.tolist(), exact.tolist(), shares, strict=True):
        stamp = _disc(radius, a % _PHASES / _PHASES, b % _PHASES / _PHASES)
        half = stamp.shape[0] // 2
        _add(total, stamp * share, a // _PHASES - half, b // _PHASES - half)


def tube_path_length(points: Array, radii: Array, lengths: Array, size: int) -> Image:
    """Return how far each pixel's ray runs inside tubes.

    A ray at distance d from the axis of a cylinder of radius r, tilted by the angle g to the beam, runs
    2 sqrt(r^2 - d^2) / sin(g) inside it. The same profile comes from sweeping a disc of radius r along the projected
    axis, weighted with the axis' length in space, and needs no case for tubes that point to the source.

    Args:
        points: Projected samples of the axes, pixels (x, y), (N, 2), about one pixel apart or closer.
        radii: Radius of the tube at each sample, pixels, (N,), >= 0.
        lengths: Length of axis that each sample stands for, in space, mm (times a density, if any), (N,).
        size: The square image's height and width.

    Returns:
        Path lengths, mm, (size, size).
    """
    x, y = points[:, 0], points[:, 1]
    reach = radii + 2
    near = (x > -reach) & (x < size - 1 + reach) & (y > -reach) & (y < size - 1 + reach) & (radii > 0)
    total = np.zeros((size, size), np.float32)
    thin, wide = near & (radii <= _WIDE / _GROWTH), near & (radii > _WIDE / _GROWTH)
    if thin.any():
        _sweep_thin(total, x[thin], y[thin], radii[thin], lengths[thin])
    if wide.any():
        _sweep_wide(total, x[wide], y[wide], radii[wide], lengths[wide])
    return total


def ellipsoid_path_length(source: Array, directions: Array, center: Array, semi_axes: Array, frame: Array) -> Image:
    """Return how far rays run inside an ellipsoid.

    Args:
        source: Where the rays start, mm, (3,).
        directions: Unit directions, (H, W, 3).
        center: The ellipsoid's center, mm, (3,).
        semi_axes: Half axes, mm, (3,).
        frame: Rows are the directions of the half axes, (3, 3).

    Returns:
        Path lengths, mm, (H, W); 0 where a ray misses.
    """
    scaled = (frame / np.asarray(semi_axes)[:, None]).astype(np.float32)
    start = scaled @ (np.asarray(source) - np.asarray(center)).astype(np.float32)
    along = directions.astype(np.float32) @ scaled.T
    a = np.einsum('...i,...i->...', along, along)
    b = along @ start
    c = float(start @ start) - 1.0
    return (2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a).astype(np.float32)


def transmission(path_length: Image, coefficient: float) -> Image:
    """Return the share of the beam that passes, in (0, 1]: exp(-coefficient x path length) (Beer-Lambert).

    Args:
        path_length: mm, any shape.
        coefficient: Linear attenuation coefficient, 1/mm.
    """
    return np.exp(-np.float32(coefficient) * path_length)
