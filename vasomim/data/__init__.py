"""Datasets of angiograms and the transforms that treat a frame and its anatomy alike; importing registers them."""

from vasomim import compat

compat.prepare()

from vasomim.data.datasets import XA170K, AngiogramDataset, AngiogramFolder  # noqa: E402
from vasomim.data.packed import PackedAngiograms  # noqa: E402
from vasomim.data.transforms import (  # noqa: E402
    LoadAnatomy,
    LoadAngiogram,
    PackAngiogram,
    PairedFlip,
    PairedResize,
    PairedResizedCrop,
)

__all__ = [
    'XA170K',
    'AngiogramDataset',
    'AngiogramFolder',
    'LoadAnatomy',
    'LoadAngiogram',
    'PackAngiogram',
    'PackedAngiograms',
    'PairedFlip',
    'PairedResize',
    'PairedResizedCrop',
]
