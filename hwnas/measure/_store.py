"""Files on the board, named by their SHA-256 alone: received in pieces, verified, kept while there is room.

Knows a folder and two limits; never what the files are for. A name from elsewhere never becomes a path. Nothing here
reads the board's clock, which may be wrong: the order of use is a count kept in the files' modification times.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError
from hwnas.files import sha256_file

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,10})?")
_RESERVE_BYTES = 1 << 20  # left free on the disk: others live there


def is_suffix(text: str) -> bool:
    """Whether a file here may end so: it travels with the hash, because runtimes look at it."""
    return _SUFFIX.fullmatch(text) is not None


def is_stored_name(name: str) -> bool:
    """Whether a file here of this name is one of ours: a hash with an ending."""
    return _DIGEST.fullmatch(name[:64]) is not None and is_suffix(name[64:])


class Store:
    """The folder of one board's files. One process at a time."""

    def __init__(self, folder: Path, *, max_file_bytes: int, cache_bytes: int) -> None:
        """Make the folder.

        Args:
            folder: files whole in it, `partial/` beneath it.
            max_file_bytes: larger files are refused.
            cache_bytes: of all files together; the least recently used make room.
        """
        self._folder, self._partial = folder, folder / "partial"
        self._max_file_bytes, self._cache_bytes = max_file_bytes, cache_bytes
        self._partial.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str, suffix: str) -> Path:
        """Where a file is or would be.

        Raises:
            ConfigError: this is no hash, or no ending of a file name.
        """
        if not _DIGEST.fullmatch(sha256) or not is_suffix(suffix):
            raise ConfigError(f"{sha256!r} with ending {suffix!r} is not the name of a file in the store")
        return self._folder / f"{sha256}{suffix}"

    def offer(self, sha256: str, suffix: str, *, size_bytes: int, pinned: Collection[Path]) -> dict[str, Any]:
        """Whether a file is here, or how much of it, and whether the rest would fit; room is made for it.

        Args:
            sha256: of the whole file.
            suffix: with the dot.
            size_bytes: of the whole file.
            pinned: files that must stay.
        """
        path = self.path(sha256, suffix)
        if size_bytes > self._max_file_bytes:
            raise ConfigError(f"a file of {size_bytes} bytes is larger than the {self._max_file_bytes} allowed")
        if path.is_file():
            # hashed each time: flash cards lose bits, and a wrong model gives wrong times in silence
            if sha256_file(path) == sha256:
                self.touch(path)
                return {"have": True}
            path.unlink()  # the disk did not keep it
        partial = self._partial / sha256
        received = partial.stat().st_size if partial.is_file() else 0
        if received > size_bytes:
            partial.unlink()
            # longer than it can be: of a transfer under another size
            received = 0
        free_bytes = self._make_room(size_bytes, received, pinned={*pinned, partial})
        return {"have": False, "received_bytes": received, "full": free_bytes is not None, "free_bytes": free_bytes}

    def put(self, sha256: str, suffix: str, *, size_bytes: int, offset: int, data: bytes) -> dict[str, Any]:
        """The next piece of a file that was offered.

        Returns:
            `state`: `more`, `stored` (whole and verified), `corrupt` (begin again) or `full`.
        """
        path, partial = self.path(sha256, suffix), self._partial / sha256
        received = partial.stat().st_size if partial.is_file() else 0
        end = offset + len(data)
        # out of step with the caller: from the beginning again is the one state both agree on
        if offset != received or not offset <= end <= size_bytes <= self._max_file_bytes:
            partial.unlink(missing_ok=True)
            return {"state": "corrupt"}
        try:
            with open(partial, "ab") as file:
                file.write(data)
                file.flush()
                if end == size_bytes:
                    # a board that is switched off must not keep a file that is whole by name alone
                    os.fsync(file.fileno())
        except OSError as e:
            partial.unlink(missing_ok=True)
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return {"state": "full", "free_bytes": self._free_bytes()}
        if end < size_bytes:
            return {"state": "more"}
        if sha256_file(partial) != sha256:
            partial.unlink()
            return {"state": "corrupt"}
        # atomic, after the hash: a name in the store is a promise
        partial.replace(path)
        self.touch(path)
        return {"state": "stored"}

    def touch(self, path: Path) -> None:
        """Make this the most recently used file."""
        count = 1 + max((round(p.stat().st_mtime) for p in self._files() if p != path), default=0)
        with suppress(OSError):  # a file system that keeps no times: eviction has no order then
            os.utime(path, (count, count))

    def drop(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)

    def _make_room(self, size_bytes: int, received: int, *, pinned: Collection[Path]) -> int | None:
        """Remove what was not used for longest until the file fits. Gives the bytes free if it never does."""
        # halves go first: a whole file may be used again
        halves = [p for p in self._partial.iterdir() if p not in pinned and is_stored_name(p.name)]
        wholes = sorted((p for p in self._files() if p not in pinned), key=lambda p: p.stat().st_mtime)
        for victim in [*halves, *wholes, None]:
            in_cache = sum(p.stat().st_size for p in self._files()) + size_bytes
            # the file at hand is partly there already
            fits = self._free_bytes() >= size_bytes - received + _RESERVE_BYTES
            # with nothing left to remove, a cache that is too small is no reason to refuse a file that fits the disk
            if fits and (in_cache <= self._cache_bytes or victim is None):
                return None
            if victim is not None:
                victim.unlink()
        return self._free_bytes()

    def _files(self) -> list[Path]:
        """Those that are ours by their names: the folder may be one that others use too."""
        return [p for p in self._folder.iterdir() if is_stored_name(p.name) and p.is_file() and not p.is_symlink()]

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free
