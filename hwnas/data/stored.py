"""Images as they are stored, one by one: where each lies, not yet opened. Knows files and rows, never pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from hwnas.foreign import shown


class StoredImage(Protocol):
    """One image, wherever it lies. It can be pickled, so that another process opens it."""

    @property
    def path(self) -> Path | None:
        """Its own file; None where it has none."""
        ...

    def open(self) -> Path | IO[bytes]:
        """What `decoding.decode` takes.

        Raises:
            DataError: it cannot be found.
        """
        ...

    def __str__(self) -> str:
        """Where it lies, for people: printable."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own."""

    path: Path

    def open(self) -> Path:
        """The file."""
        return self.path

    def __str__(self) -> str:
        return shown(self.path)


class NamedBytes(io.BytesIO):
    """The content of a file that lies within another, with a name for messages."""

    def __init__(self, content: bytes, *, name: str) -> None:
        super().__init__(content)
        self.name = name


@dataclass(frozen=True, slots=True)
class Listed:
    """An image that a source has found.

    Attributes:
        image: where it lies.
        part: "train", "val" or "test".
        class_name: of its class; "" where it has none.
        label: the number of that class; whatever it is where there are no classes.
    """

    image: StoredImage
    part: str
    class_name: str
    label: int
