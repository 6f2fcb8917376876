"""What became of the files of a source."""

from __future__ import annotations

from dataclasses import dataclass

from vasomim.errors import DatasetError


@dataclass(frozen=True)
class FilesRead:
    """Which files of a source gave frames, and which did not.

    Attributes:
        count: Number of files that were to be read.
        damaged: The error of each that could not be read, or not to its end.
        not_images: DICOM files without an image, relative to the source.
        unread: Pictures and cines of kinds that are not read, relative to the source.
    """

    count: int
    damaged: tuple[DatasetError, ...] = ()
    not_images: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
