"""Files of sealed lines with other values, as one who means it would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwnas.appending import append_sealed, read_sealed


def change_lines(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write a file again with the values of each line changed, and sound checksums."""
    head, *rest = [change(values) for values in read_sealed(path)]
    path.unlink()
    append_sealed(path, rest, first=head)
