"""How a trained supernet becomes a folder: whole or not at all, and never over something else.

Knows files and cards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hwnas._places import user_path
from hwnas.errors import ConfigError
from hwnas.foreign import is_file_name
from hwnas.zoo.card import read_card
from hwnas.zoo.entry import Entry


def new_place(folder: Path | str) -> Path:
    """Where an entry is to be, a link followed; its last part is the entry's name.

    Raises:
        ConfigError: its name is none of an entry, or there is something already; an empty folder is nothing.
    """
    folder = user_path(folder)
    if folder.is_symlink():
        folder = folder.resolve()
    if not is_file_name(folder.resolve().name):
        raise ConfigError(
            f"{folder} cannot be the folder of a supernet: its last part is the name; give letters, digits, - and _"
        )
    here = folder.resolve() == Path.cwd()  # a folder that is worked in cannot be replaced
    if folder.exists() and (here or not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; name a new folder, or remove it first")
    return folder


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when it is whole; nothing is left of one that is not.

    Args:
        folder: as `new_place` gives it.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch, "entry")
        made.mkdir()
        yield made
        made.replace(folder)  # an empty folder is replaced, another one is refused


def seal(entry: Entry, names: list[str]) -> Entry:
    """The entry with a card that names its files, read again.

    Args:
        entry: whose files are written.
        names: of them.

    Raises:
        OSError: the card cannot be written.
    """
    files = {name: hashlib.sha256((entry.folder / name).read_bytes()).hexdigest() for name in sorted(set(names))}
    dataclasses.replace(entry.card, files=files).write(entry.folder)
    return Entry(folder=entry.folder, card=read_card(entry.folder))
