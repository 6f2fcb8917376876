"""Vessels without labels: ridge filters and region growing on NumPy and OpenCV alone."""

from vasomim.anatomy.extraction import extract_anatomy
from vasomim.anatomy.filters import FILTERS, vesselness

__all__ = ['FILTERS', 'extract_anatomy', 'vesselness']
