"""How this process computes with torch: its threads, and what it does with memory that tensors leave."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

from hwnas.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3), as <malloc.h> of glibc has them
_NEVER = 2**31 - 1


def prepare_torch(threads: int | None) -> None:
    """Let torch use so many threads in this process (None leaves them), and use memory that tensors left again.

    Raises:
        ConfigError: the machine has fewer cores.
    """
    keep_freed_memory()
    if threads is None:
        return
    import torch

    available = os.cpu_count() or 1
    if threads > available:
        raise ConfigError(f"train.threads is {threads}, but this machine has {available} cores")
    # sets this process alone: workers of runtimes have their device's number
    torch.set_num_threads(threads)


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory of tensors that are gone for the next ones; whether it can be asked to.

    glibc asks the system for each tensor above 32 MiB, which clears its pages, and gives it back behind it. Without
    that, passes over images of 224 px take half of the processor time and 3 % more memory, training steps a fifth less
    time and a quarter more memory (`benchmarks/pass_time.py`; tensors do not fit each other's places exactly). Memory
    is then given back when the process ends. Processes that time networks are others, and compute as they would
    without.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def training_device() -> str:
    """Where this process trains: "cuda" where torch finds a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
