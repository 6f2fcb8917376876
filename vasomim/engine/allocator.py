"""Keep freed memory in the process instead of giving it back to the system after every tensor."""

from __future__ import annotations

import ctypes
import platform

# Parameters of mallopt(3), with the numbers of glibc's malloc.h.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # Bytes; glibc refuses more.
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse the memory of freed tensors.

    Without this every activation of some megabytes is mapped, filled with zeros by the kernel page by page, and
    unmapped: on a CPU up to half of a training step. Tensors above 32 MiB are mapped as before, and the process holds
    on to the largest amount that it ever used.

    Returns:
        Whether it is done; False where the C library is another than glibc.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    library = ctypes.CDLL(None)
    return all(
        library.mallopt(parameter, value) == 1
        for parameter, value in ((MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), (TRIM_THRESHOLD, NEVER))
    )
