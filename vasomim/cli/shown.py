"""What several verbs print when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vasomim.frames.layout import unread_line

if TYPE_CHECKING:
    from vasomim.apis.files_read import FilesRead


def notice() -> str:
    """Return what everything that leaves this project says."""
    from vasomim.drawing.notice import NOTICE  # Its module imports OpenCV.

    return NOTICE


def show_files(files: FilesRead) -> int:
    """Print which files of a source gave no frame; return the exit status, 1 if there are damaged ones."""
    from vasomim.frames.inputs import left_out, tell_damaged  # They import OpenCV.

    if files.not_images:
        print(left_out(files.not_images))
    if files.unread:
        print(unread_line(files.unread))
    return tell_damaged(files.damaged, files.count)
