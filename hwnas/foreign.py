"""What comes from elsewhere: how much of a file is read, where a name may lead, and how a text is shown.

Descriptions, deployments and boards' replies may be anybody's. Knows paths, bytes and characters; not what they mean.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

_PIECE = 1 << 20  # bytes
_SHOWN = 300  # characters of a foreign text within a message
_WORDS = 600  # characters of what a program said
_NAME = 120  # characters of a name


class ForeignFileError(ValueError):
    """A file or a name from elsewhere that is not taken; the message says why, and begins with neither."""


def printable(text: str, *, limit: int | None = None) -> str:
    r"""One line without anything a terminal would act on: escape sequences, direction marks, lone surrogates.

    Line breaks and spaces of any kind become spaces; every other character that cannot be printed is written as Python
    would (`\x1b`).

    Args:
        text: from anywhere.
        limit: characters kept, with a mark where more were; None: all.
    """
    shown = "".join(c if c.isprintable() else " " if c.isspace() else _escape(c) for c in text)
    if limit is not None and len(shown) > limit:
        shown = f"{shown[:limit]}… ({len(text)} characters)"
    return shown


def shown(name: Path | str) -> str:
    """A path or name as it may be printed anywhere: bytes that are not UTF-8 and control characters are escaped."""
    return printable(os.fsdecode(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def quoted(value: object) -> str:
    """A foreign value within a message: in one line and bounded; texts without quotation marks."""
    return printable(value, limit=_SHOWN) if isinstance(value, str) else as_written(value)


def as_written(value: object) -> str:
    """A foreign value within a message as Python would write it, in one line and bounded."""
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{printable(repr(value[:_SHOWN]))}… ({len(value)} characters)"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; brackets within brackets
        return "a value too large to show"
    return printable(text, limit=_SHOWN)


def words_of(data: bytes | bytearray, *, last: bool = False) -> str:
    """What a program said, for a message: the printable lines of its output, bounded; "" if there are none.

    Args:
        data: its output, or a part of it.
        last: its end counts, not its beginning.
    """
    lines = (" ".join(line.split()) for line in data.decode(errors="replace").splitlines())
    told = printable("; ".join(line for line in lines if any(c.isalnum() for c in line)))
    return told if len(told) <= _WORDS else f"… {told[-_WORDS:]}" if last else f"{told[:_WORDS]} …"


def read_foreign(path: Path, *, limit_bytes: int, start: int = 0) -> bytes:
    """The content of a regular file of bounded size.

    Nothing that blocks or never ends (a pipe, a device) is opened for long enough to be read.

    Args:
        path: of the file; links are followed.
        limit_bytes: larger files are refused before memory is taken.
        start: bytes to leave out at its beginning.

    Raises:
        ForeignFileError: it is no regular file, or larger.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError as e:  # a NUL in the name
        raise ForeignFileError("its name holds a NUL") from e
    with os.fdopen(descriptor, "rb") as file:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            raise ForeignFileError("it is no regular file")
        if told.st_size - start <= limit_bytes:
            file.seek(start)
            data = file.read(max(0, told.st_size - start))
            while len(data) <= limit_bytes and (more := file.read(_PIECE)):  # longer than it says, as those of /proc
                data += more
            if len(data) <= limit_bytes:
                return data
    raise ForeignFileError(f"it is larger than {limit_bytes:,} bytes")


def inner_path(folder: Path, name: str) -> Path:
    """The path of a file that a description in a folder names, if it is one of that folder's own regular files.

    Args:
        folder: of the description.
        name: as it stands there: relative, with `/` between the parts.

    Raises:
        ForeignFileError: the name leads out of the folder (absolute, `..`, a symbolic link), or to no regular file.
    """
    if not name or "\0" in name or name != printable(name):
        raise ForeignFileError("it is no file name")
    pure = PurePosixPath(name)
    if pure.is_absolute() or PureWindowsPath(name).drive or "\\" in name or ".." in pure.parts or not pure.parts:
        raise ForeignFileError("it leads out of the folder; allowed: a file within it")
    path = Path(folder)
    for part in pure.parts:
        path /= part
        if path.is_symlink():
            raise ForeignFileError("it is, or goes through, a symbolic link; allowed: a file within the folder")
    if path.exists() and not path.is_file():
        raise ForeignFileError("it is no regular file")
    return path


def is_file_name(name: str) -> bool:
    """Whether a foreign name may name a file or a folder of ours: one printable part, not hidden, no option."""
    return (
        0 < len(name) <= _NAME
        and name == printable(name)
        and name == name.strip()
        and name[0] not in ".-~"
        and not set(name) & set("/\\:")
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
