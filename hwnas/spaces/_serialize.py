"""Spaces from JSON values. Knows the envelope (schema, type, name), not what a type of space is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hwnas import registry
from hwnas.errors import SpaceError, UnknownNameError

if TYPE_CHECKING:
    from hwnas.spaces.base import Space

SCHEMA = 1
_ENVELOPE: tuple[str, ...] = ("schema", "type", "name")


def check_keys(what: str, given: Mapping[str, Any], *, known: Iterable[str]) -> None:
    """Hold a mapping to exactly the known keys.

    Raises:
        SpaceError: a key is unknown or missing; names it and the known ones.
    """
    names = tuple(known)
    if not isinstance(given, Mapping):
        raise SpaceError(f"{what} must be an object with the keys {', '.join(names)}; got {given!r}")
    unknown = [k for k in given if k not in names]
    missing = [k for k in names if k not in given]
    if unknown or missing:
        problem = f"unknown key {unknown[0]!r}" if unknown else f"missing key {missing[0]!r}"
        raise SpaceError(f"{what}: {problem}; its keys: {', '.join(names)}")


def space_from_json(value: Mapping[str, Any]) -> Space:
    """The space whose `to_json` gave this value.

    Raises:
        SpaceError: not a space, another schema, an unknown type, or a wrong definition.
    """
    if not isinstance(value, Mapping):
        raise SpaceError(f"a space is a JSON object with schema, type and name; got {type(value).__name__}")
    arguments = dict(value)
    envelope = {k: arguments.pop(k) for k in _ENVELOPE if k in arguments}
    check_keys("space", envelope, known=_ENVELOPE)
    if envelope["schema"] != SCHEMA:
        raise SpaceError(
            f"the space has schema {envelope['schema']!r}, this version of hwnas reads {SCHEMA}; "
            f"write it again with this version"
        )
    try:
        cls: type[Space] = registry.load("space_types", str(envelope["type"]))
    except UnknownNameError as e:
        raise SpaceError(str(e)) from e
    return cls.from_arguments(envelope["name"], arguments)
