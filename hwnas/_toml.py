"""Writes TOML that people edit: every key with a comment, absent keys as commented examples.

The standard library reads TOML but does not write it. Knows values, not what they configure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Value = str | bool | int | float | Sequence["Value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a section.

    Attributes:
        key: bare: letters, digits, `_` and `-`.
        value: None: the key is absent, and `example` is written as a comment.
        comment: one line.
        example: what a value could look like, as TOML.
    """

    key: str
    value: Value | None
    comment: str = ""
    example: str = ""


def format_value(value: Value) -> str:
    """A value as TOML.

    Raises:
        ValueError: TOML could hold it, but a configuration must not: NaN and infinity.
        TypeError: TOML cannot hold it.
    """
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written to a configuration")
        return repr(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(format_value(v) for v in value) + "]"
    raise TypeError(f"a {type(value).__name__} cannot be written to a configuration")


def format_section(name: str, entries: Iterable[Entry], *, comment: str) -> str:
    """A section with aligned comments, ending in a newline."""
    lines = []
    for entry in entries:
        if entry.value is not None:
            lines.append((f"{entry.key} = {format_value(entry.value)}", entry.comment))
        else:
            lines.append((f"# {entry.key} = {entry.example}", entry.comment))
    width = min(44, max((len(text) for text, _ in lines), default=0))
    body = [f"{text:<{width}}  # {note}" if note else text for text, note in lines]
    return "\n".join([f"# {comment}", f"[{name}]", *body, ""])
