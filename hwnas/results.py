"""What a command ends with: a type of its own for every command, shown on a terminal or sent by a server alike.

Knows tables, notes and JSON values; never what was done.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A result for people.

    Attributes:
        title: of the table.
        columns: their names; none where a row is a name and a value.
        rows: as many values as there are columns.
        notes: lines below the table.
    """

    title: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Result(ABC):
    """What a command ends with. Its kinds are frozen dataclasses, whose fields are for programs."""

    @property
    @abstractmethod
    def shown(self) -> Shown:
        """The same for people."""

    @property
    def exit_status(self) -> int:
        """Of the command; another than 0 where the result tells of failures too."""
        return 0

    def values(self) -> Mapping[str, object]:
        """Key -> value for programs; units are in the keys. The dataclass's fields, if nothing else is said."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to_json(self) -> dict[str, Any]:
        """One JSON object: what is shown, as `title`, `columns`, `rows` and `notes`, and the values for programs."""
        shown = self.shown
        told: dict[str, object] = {"title": shown.title}
        if shown.columns:
            told["columns"] = shown.columns
        document = json_value({**told, "rows": shown.rows, "notes": shown.notes, **self.values()})
        assert isinstance(document, dict)
        return document


def json_value(value: object) -> object:
    """The same as JSON values: paths as text, dataclasses as objects, numpy as numbers, NaN and infinity as null."""
    if hasattr(value, "to_json"):
        return json_value(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: json_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy, which need not be imported to be met
        return json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
