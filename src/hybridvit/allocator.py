"""Memory that tensors give back stays with the process.

glibc returns every large block to the system as soon as it is freed, and the system clears each page again for the next tensor:
on a CPU a twelfth to a quarter of one picture's time. The price is that the process never shrinks.
"""

import ctypes
import platform

# glibc, malloc/malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_memory() -> bool:
    """Keep freed memory for the next tensor, in this process and those it forks from now on.

    Returns: whether the C library can; glibc does, musl's and macOS's cannot.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Never trimmed, never mapped apart, and one arena, as those of threads take no block over 64 MB.
    return all([mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_MMAP_MAX, 0), mallopt(M_ARENA_MAX, 1)])
