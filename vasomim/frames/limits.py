"""How large a frame may be."""

MOST_PIXELS = 1 << 26
"""Pixels of a frame, height times width: four times those of the largest detectors, and 64 MiB as grey levels.

A header that announces more is refused before anything is allocated, as it may be a few bytes that ask for terabytes.
"""
