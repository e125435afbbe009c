"""Reads TOML as people save it, and writes TOML that people edit: every key with a comment, absent ones as examples.

The standard library reads TOML but does not write it. Knows values, not what they configure.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError
from hwnas.foreign import ForeignFileError, read_foreign

_MOST_BYTES = 1 << 20  # what people write is a thousandth of it; a device file never ends

_BARE = re.compile(r"[A-Za-z0-9_-]+")

Value = str | bool | int | float | Sequence["Value"] | Mapping[str, "Value"]


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


def read_toml(path: Path, *, what: str) -> dict[str, Any]:
    """The values of a file; a byte order mark, as some editors write it, is left out.

    Args:
        path: of the file.
        what: it is; named in errors.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, or not TOML.
    """
    try:
        data = read_foreign(path, limit_bytes=_MOST_BYTES)
    except (OSError, ForeignFileError) as e:
        raise ConfigError(f"the {what} {path} cannot be read: {getattr(e, 'strerror', None) or e}") from e
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"the {what} {path} cannot be read: it is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise ConfigError(f"the {what} {path} cannot be read: line {line} is not UTF-8; save it as UTF-8") from e
    return parse_toml(text.replace("\r\n", "\n"), where=str(path))


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """The values in a text.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{where} is not TOML: {e}") from e
    except (ValueError, RecursionError) as e:  # a number of thousands of digits; thousands of brackets
        raise ConfigError(f"{where} is not TOML that can be read: {e}") from e


def format_value(value: Value) -> str:
    """A value as TOML.

    Raises:
        ConfigError: TOML could hold it, but a configuration must not: NaN and infinity.
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
            raise ConfigError(f"{value} cannot be written to a configuration")
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {format_value(v)}" for key, v in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(format_value(v) for v in value) + "]"
    raise TypeError(f"a {type(value).__name__} cannot be written to a configuration")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def format_section(name: str, entries: Iterable[Entry], *, comment: str) -> str:
    """A section with aligned comments, ending in a newline."""
    lines = []
    for entry in entries:
        if entry.value is not None:
            lines.append((f"{entry.key} = {format_value(entry.value)}", entry.comment))
        else:
            lines.append((f"# {entry.key} = {entry.example}", entry.comment))
    # a longer value pushes its own comment to the right, not all of them
    width = min(44, max((len(text) for text, _ in lines), default=0))
    body = [f"{text:<{width}}  # {note}" if note else text for text, note in lines]
    return "\n".join([f"# {comment}", f"[{name}]", *body, ""])
