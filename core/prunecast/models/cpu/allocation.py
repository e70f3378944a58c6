"""Settings of glibc's memory allocator for the tensors of torch on a CPU."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_DEFAULT_MMAP_THRESHOLD = 128 << 10  # glibc starts with it, and raises it dynamically unless it is set
_LARGEST_MMAP_THRESHOLD = 32 << 20  # maximum that glibc accepts on 64 bits
_KEPT_BYTES = 256 << 20


def return_freed_memory() -> None:
    """Make glibc return the memory of every freed tensor to the system at once.

    For weights that are replaced one by one. With torch's alignment, a new weight does not fit into the freed block of
    one of equal size, so retained blocks cannot be reused, and peak memory would double. No effect with another C
    library. See mallopt(3).
    """
    _set(_MMAP_THRESHOLD, _DEFAULT_MMAP_THRESHOLD)


def keep_freed_memory() -> None:
    """Make glibc keep up to 256 MiB of freed memory for later allocations.

    By default glibc returns the memory of a freed tensor to the system, which clears it page by page before it is used
    again. Every forward pass allocates tensors of the same sizes, so this costs time. No effect with another C library.
    See mallopt(3).
    """
    _set(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    _set(_TRIM_THRESHOLD, _KEPT_BYTES)


def _set(option: int, value: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(option, value)
