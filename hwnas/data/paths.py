"""Paths that a user gave, as files and folders that are there. Knows the file system, not what is in a file."""

from __future__ import annotations

from pathlib import Path

from hwnas._places import user_path
from hwnas.errors import DataError
from hwnas.foreign import shown


def existing(argument: str, *, source: str, folder: bool | None) -> Path:
    """The file or folder that a data source's argument names.

    Args:
        argument: a path, perhaps with `~`.
        source: the data source's name, for messages.
        folder: a folder is wanted, not a file; None: either.

    Raises:
        DataError: there is none, it is of the other kind, or a pipe or device.
        ConfigError: it cannot be a path, or begins with `~` and the home is not known.
    """
    what = {True: "folder", False: "file", None: "file or folder"}[folder]
    if not argument:
        raise DataError(f"the source {source!r} needs a {what}: {source}:PATH")
    path = user_path(argument)
    try:
        if (folder is not False and path.is_dir()) or (not folder and path.is_file()):
            return path
        state = "does not exist" if not path.exists() else f"is not a {what}"
    except OSError as e:
        raise DataError(f"the {what} {shown(argument)} cannot be opened: {e.strerror or e}") from e
    raise DataError(f"the {what} {_quoted(path)} {state} (data source {source!r}, seen from {_here()})")


def _quoted(path: Path) -> str:
    """A path as it is, in quotes where its ends would not be seen."""
    text = shown(path)
    return text if text == text.strip() else repr(text)


def _here() -> str:
    try:
        return shown(Path.cwd())
    except OSError:
        return "a folder that no longer exists"
