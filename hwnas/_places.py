"""Paths as people write them, and the folder for what can be made again. Knows the home folder, not what is kept where.

Runs on boards too.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from hwnas.errors import ConfigError


def user_path(text: str | Path) -> Path:
    """A path with `~` in its place: shells leave it alone in `--output=~/x`, and files have no shell.

    Raises:
        ConfigError: it cannot be a path, or begins with `~` and nobody knows that home.
    """
    if "\0" in str(text):
        raise ConfigError(f"{str(text)!r} cannot be a path: it has a NUL character")
    try:
        return Path(text).expanduser()
    except RuntimeError as e:
        raise ConfigError(f"{str(text)!r} begins with ~, but the home folder is not known; write the whole path") from e


def quoted(path: str | Path) -> str:
    """A path as a shell takes it, for commands that are shown to be copied: one with spaces stands in quotes."""
    return shlex.quote(str(path))


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME` where that is absolute, as its specification wants it; else `~/.cache`.

    Raises:
        ConfigError: neither is known.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError as e:
        raise ConfigError("the home folder is not known; set XDG_CACHE_HOME to a folder for caches, or HOME") from e
