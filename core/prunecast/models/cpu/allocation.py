"""Memory for torch: how the C library hands it out on a processor, and how torch says that there is none left."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_USUAL_MMAP_THRESHOLD = 128 << 10  # what glibc starts with, and raises by itself unless it is set
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no larger one on 64 bits
_KEPT = 256 << 20


def return_freed_memory() -> None:
    """Let the allocator of glibc give the memory of every freed tensor back to the system at once.

    For weights that are replaced one by one: aligned as torch wants them they do not fit where one of their size was
    freed, so what is kept is of no use, and in the end there are two copies of them. See mallopt(3).
    """
    _set(_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)


def keep_freed_memory() -> None:
    """Let the allocator of glibc keep up to 256 MB of freed memory for what is allocated next.

    By default it gives the memory of a freed tensor back to the system, which clears it, page by page, for the next:
    every forward pass allocates tensors of the sizes of the last. Where the C library is another, nothing is done. See
    mallopt(3).
    """
    _set(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    _set(_TRIM_THRESHOLD, _KEPT)


def _set(option: int, value: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(option, value)
