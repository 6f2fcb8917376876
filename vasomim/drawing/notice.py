"""What every file that leaves this project says, and how a PNG says it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from vasomim.files import write_whole

NOTICE = 'For research only, not for diagnosis.'
NOTICE_FILE = 'NOTICE.txt'

HEADER_END = 33  # Signature and IHDR of a PNG; a text may follow at once.


def text_chunk(text: str, keyword: str = 'Disclaimer') -> bytes:
    """Return a PNG chunk of type tEXt, which viewers show among a picture's properties."""
    body = b'tEXt' + keyword.encode('latin-1') + b'\0' + text.encode('latin-1')
    return struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body))


def encode_png(image: np.ndarray) -> bytes:
    """Return a picture as PNG with the notice as its only text.

    Args:
        image: Grey levels uint8 (H, W), or RGB uint8 (H, W, 3).
    """
    data = cv2.imencode('.png', image if image.ndim == 2 else image[..., ::-1])[1].tobytes()
    return data[:HEADER_END] + text_chunk(NOTICE) + data[HEADER_END:]


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write a picture as PNG with the notice, and make its folder.

    Args:
        path: The file.
        image: As in :func:`encode_png`.

    Raises:
        StorageError: If the file cannot be written.
    """
    write_whole(path, encode_png(image))


def write_notice(folder: str | Path, lines: Iterable[str] = ()) -> None:
    """Write the notice into a folder, and below it what else its reader has to know."""
    write_whole(Path(folder) / NOTICE_FILE, '\n'.join([NOTICE, *lines, '']).encode())
