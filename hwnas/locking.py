"""Locks between processes, freed when their holder dies; who holds one is written in it.

Knows files and processes, not what is kept apart.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from hwnas.files import open_own

_MOST_BYTES = 500  # of what a holder writes


@contextmanager
def locked(path: Path, *, what: str, busy: Callable[[str], Exception | None]) -> Iterator[None]:
    """Hold a lock while the context lasts.

    Args:
        path: of the lock's file, which stays.
        what: this process does, for whoever meets the lock meanwhile.
        busy: called with who holds the lock, if anybody does; gives the error to end with, or None to wait.

    Raises:
        ConfigError: the file is a symbolic link, or no regular file.
        OSError: the file cannot be opened.
    """
    fd = open_own(path, create=True)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            error = busy(_holder(fd))
            if error is not None:
                raise error from None
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        now = datetime.now().astimezone().strftime("%H:%M")
        os.write(fd, f"process {os.getpid()} on {socket.gethostname()}, {what} since {now}".encode())
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    """Who wrote into the lock last: the one who holds it, unless it has only just got it."""
    found = os.pread(fd, _MOST_BYTES, 0).decode(errors="replace")
    return found if found.startswith("process ") else "another process"
