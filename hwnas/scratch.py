"""Temporary folders that go with their process: at its end by themselves, or with the next process if it was killed.

All are made in one place for each user, under names that tell who made them. Knows folders and processes, not what is
kept in them. Runs on boards too.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwnas.processes import namespace, started

_NAME = re.compile(r"[a-z-]+\.(?P<pid>\d+)\.(?P<started>\w+)\.\w+")
_swept: set[Path] = set()  # by this process


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A new folder while the context lasts.

    Args:
        what: it is for: small letters and `-`.

    Raises:
        OSError: there is no place for one; says which were tried.
    """
    place = _place()
    if place not in _swept:
        _swept.add(place)
        sweep(place)
    folder = tempfile.mkdtemp(prefix=f"{what}.{os.getpid()}.{started(os.getpid())}.", dir=place)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove the folders of processes that are gone; what is not ours by its name, and what lives, stays."""
    for folder in place.iterdir():
        found = _NAME.fullmatch(folder.name)
        if found is not None and started(int(found["pid"])) != found["started"]:
            shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path:
    """The folder of this user on this machine, or in this container: elsewhere the numbers of processes mean others.

    A folder that somebody else made first, or may write to, is not used: names in the shared one can be guessed.
    """
    general = Path(tempfile.gettempdir())
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = general / f"hwnas-{user}-{socket.gethostname()}-{namespace()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
    except OSError:
        return general
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022  # writable by no other
    return place if ours else general
