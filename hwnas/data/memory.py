"""Ask whether memory is left before it is taken. Knows the operating system only."""

from __future__ import annotations

import os
from pathlib import Path

from hwnas.errors import DataError


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, within the limits of a container; None where nothing tells."""
    found = [value for value in (_meminfo(), _cgroup()) if value is not None]
    return min(found) if found else None


def require_memory(n_bytes: int, *, what: str) -> None:
    """Refuse what does not fit into the memory that is left.

    Args:
        n_bytes: that will be taken.
        what: named in the error.

    Raises:
        DataError: there is less.
    """
    free = available_memory()
    if free is not None and n_bytes > free:
        raise DataError(
            f"{what} take {n_bytes / 1e9:,.3g} GB of memory, but {free / 1e9:.3g} GB are free; give fewer or smaller "
            "images, or use a machine with more memory"
        )


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup() -> int | None:
    """What a container's limit leaves, reclaimable file cache counted as free."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text(encoding="utf-8"))  # "max" where there is none
        used = int((folder / "memory.current").read_text(encoding="utf-8"))
        cache = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        return limit - used + int(cache.get("inactive_file", 0))
    except (OSError, ValueError):
        return None
