"""Files to be measured, written when they are asked for and removed when they were measured.

So few are on disk at a time, and writing one takes no time of a board that measures another. Knows how a thing is
written from whoever asks; never what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from hwnas.types import Artefact

T = TypeVar("T")


class Exports(Mapping[str, Artefact], Generic[T]):
    """Key -> artefact of things that are not written yet. One thread at a time."""

    def __init__(
        self, things: Mapping[str, T], write: Callable[[T, Path], Artefact], *, folder: Path, suffix: str
    ) -> None:
        """Write nothing yet.

        Args:
            things: key -> what is to be written.
            write: (thing, path) -> its artefact.
            folder: for the files.
            suffix: of their names, without the dot.
        """
        self._things, self._write = things, write
        self._paths = {key: folder / f"{i}.{suffix}" for i, key in enumerate(things)}
        self._written: dict[str, Artefact] = {}

    def __getitem__(self, key: str) -> Artefact:
        """The artefact, written if it is not."""
        if key not in self._written:
            self._written[key] = self._write(self._things[key], self._paths[key])
        return self._written[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove the files of some; asked for again they would be written again."""
        for key in keys:
            artefact = self._written.pop(key, None)
            if artefact is not None:
                artefact.path.unlink(missing_ok=True)
