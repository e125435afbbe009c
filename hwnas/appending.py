"""Files of lines that several processes append to, none of which is lost.

A line counts once its end is on disk: what a killed process or a full disk left without one is dropped on reading
and cut off before the next append. Knows locks and the disk, not what a line says.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def complete_lines(path: Path, *, start: int = 0) -> list[bytes]:
    """The lines of a file without their newlines; a last one that is cut short is left out.

    Args:
        path: of the file.
        start: bytes to leave out at its beginning.

    Raises:
        FileNotFoundError: there is no file.
    """
    with open(path, "rb") as f:
        f.seek(start)
        return f.read().split(b"\n")[:-1]  # what follows the last newline is cut short, or empty


def append_lines(path: Path, lines: Sequence[str], *, first_line: str = "") -> None:
    """Append lines under the file's lock and sync them: all of them, or none.

    Args:
        path: created if `first_line` is given.
        lines: each with its newline.
        first_line: written before them if the file has no complete line yet.

    Raises:
        OSError: the disk is full or the file cannot be written; it holds what it held before.
    """
    with _locked(path, create=bool(first_line)) as fd:
        size = _cut_tail(fd)
        data = "".join([first_line if size == 0 else "", *lines]).encode()
        try:
            _write(fd, data)
            os.fsync(fd)
        except BaseException:
            os.ftruncate(fd, size)  # what was written of it is no entry
            raise


@contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[int]:
    """A file descriptor with the exclusive lock; closing it frees the lock, also when the process dies."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _cut_tail(fd: int) -> int:
    """Cut off a last line without its end, and return the size of what remains."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:  # backwards in pieces until the last newline
        start = max(0, end - 4096)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
