"""Files written whole: a reader never sees half of one. Knows bytes, JSON and checksums, not what they mean."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError, IntegrityError
from hwnas.foreign import ForeignFileError, read_foreign
from hwnas.integrity import open_document, seal_document
from hwnas.processes import namespace, started

_LARGEST_DOCUMENT = 256 << 20  # bytes; it may be anybody's
_TEMPORARY = re.compile(r"\..{1,40}\.hwnas\.(?P<pid>\d+)\.(?P<started>\w+)\.(?P<where>[0-9a-f]{8})\.[0-9a-f]{8}\.tmp")
_ELSEWHERE_GRACE_S = 86_400.0  # of a writer on another machine, or in a container, whose processes cannot be seen
_swept: set[Path] = set()  # folders, by this process


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it holds either its old or its new content, whatever happens in between.

    A new file gets the permissions that the umask leaves, a replaced one keeps its own. A symbolic link is replaced,
    not followed.

    Raises:
        OSError: the disk is full or the folder is not writable; the old file is untouched, no
            temporary file stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.absolute()
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)
    writer = f"{os.getpid()}.{started(os.getpid())}.{_where()}"
    temporary = path.with_name(f".{path.name[:40]}.hwnas.{writer}.{secrets.token_hex(4)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        with os.fdopen(fd, "wb") as f:
            mode = _mode(path)
            if mode is not None:
                os.fchmod(fd, mode)
            f.write(data)
            f.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder; what is not ours by its name, and what is being written, stays."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _TEMPORARY.fullmatch(name)
        if found is None:
            continue
        left = folder / name
        with contextlib.suppress(OSError):  # another process was first, or it is not ours to remove
            here = found["where"] == _where()
            gone = started(int(found["pid"])) != found["started"]
            old = time.time() - left.lstat().st_mtime > _ELSEWHERE_GRACE_S
            if gone if here else old:
                left.unlink()


def _where() -> str:
    """A mark of this machine, or of this container: elsewhere the numbers of processes mean others."""
    return hashlib.sha256(f"{socket.gethostname()} {namespace()}".encode()).hexdigest()[:8]


def _mode(path: Path) -> int | None:
    """Permissions of a regular file, None if there is none."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found) if stat.S_ISREG(found) else None


def open_own(path: Path, *, create: bool) -> int:
    """A descriptor for reading and writing of a file of our own, which is never emptied or followed elsewhere.

    Args:
        path: of the file, such as a lock or a file that is appended to.
        create: make it if there is none, with the permissions that the umask leaves.

    Raises:
        ConfigError: it is a symbolic link, or no regular file.
        OSError: it cannot be opened.
    """
    # without waiting: a pipe that stands in the file's place would keep us until its other end is opened
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags | (os.O_CREAT if create else 0), 0o666)
    except OSError:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise _not_ours(path) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_ours(path)
    return fd


def _not_ours(path: Path) -> ConfigError:
    what = "a symbolic link" if path.is_symlink() else "no regular file"
    return ConfigError(f"{path} is {what}, and hwnas writes to it; remove it, or name another folder")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole."""
    write_whole(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_document(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON document with its checksum, indented and whole; `read_document` notices if a byte of it changes.

    Raises:
        OSError: it cannot be written; an older one is untouched.
    """
    write_json(path, seal_document(values))


def read_document(path: Path, *, is_older: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
    """The values of a JSON document that `write_document` wrote.

    Args:
        path: of the file.
        is_older: see `hwnas.integrity.open_document`.

    Raises:
        OSError: it cannot be read.
        IntegrityError: its content is not what was written.
    """
    try:
        data = read_foreign(Path(path), limit_bytes=_LARGEST_DOCUMENT)
    except ForeignFileError as e:
        raise IntegrityError(str(e)) from e
    return open_document(data, is_older=is_older)


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
