"""Limits that are checked before memory is allocated, so that a crafted or damaged header cannot exhaust it."""

from __future__ import annotations

MOST_PIXELS = 1 << 26  # Of a frame: 8192 x 8192, four times the side of the largest angiographic detectors in use.
