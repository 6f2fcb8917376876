"""A bar while frames are gone through whose number nobody knows before: a cine tells it at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.progress import track

Item = TypeVar('Item')


def tracked(items: Iterable[Item], noun: str, shown: bool) -> Iterable[Item]:
    """Hand on the items of an iterable, and show a bar meanwhile that goes when they end.

    Args:
        items: What is gone through.
        noun: What they are.
        shown: Whether to show it.
    """
    return track(items, description=noun, transient=True) if shown else items
