"""How a board is reached: the settings of a device's `connection`, checked, and the transport they name.

A connection leads to one board (`host`), or names several of a kind (`hosts`), each reached with the same settings.
Knows settings and the registry; opens nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.foreign import as_written, printable, quoted
from hwnas.types import Device, Option, Setting


class Transport(Protocol):
    """Starts commands on a board. Its class is called with the settings of the connection that it names in `keys`.

    Attributes:
        keys: the settings it has, beside those of every connection: name -> type.
        named_by: the setting that says which board it is: `host`, `serial`.
        example: a value of that setting, for people.
        board: the board's name, for people.
    """

    keys: Mapping[str, type]
    named_by: str
    example: str
    board: str

    def command(self, arguments: Sequence[str], *, timeout_s: float) -> list[str]:
        """The command here that runs one there, with standard input, output and error passed on.

        It ends when the one there does, and the one there loses its standard input when it is killed.

        Args:
            arguments: program and arguments; a program `~/...` is in the home folder there.
            timeout_s: for connecting, as far as the transport can limit it.
        """
        ...

    def advice(self, words: str) -> str:
        """What a person can do when connecting failed with these words on standard error; "" if nothing is known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The settings every transport shares.

    Attributes:
        transport: registered name.
        python: the program on the board that is Python; `~/venv/bin/python` is one of a virtual environment there.
        folder: of the agent and the artefacts on the board.
        agent: path of an agent put there by hand (`hwnas agent --write`); empty: it is sent.
        connect_timeout_s: for one attempt.
        reconnect_s: a lost board is looked for so long: it may be booting.
        max_file_mb: larger files are not sent.
        cache_mb: artefacts kept on the board; beyond, the least recently used are removed.
    """

    transport: str
    python: str = "python3"
    folder: str = "~/.cache/hwnas-agent"
    agent: str = ""
    connect_timeout_s: float = 20.0
    reconnect_s: float = 300.0
    max_file_mb: float = 512.0
    cache_mb: float = 1024.0


# bounds against slips and hostile descriptions: no honest setting comes near
_DAY_S, _LARGEST_MB = 86_400, 1_000_000
# what a setting may be at most
_LARGEST: Mapping[str, float] = {
    "connect_timeout_s": _DAY_S,
    "reconnect_s": _DAY_S,
    "max_file_mb": _LARGEST_MB,
    "cache_mb": _LARGEST_MB,
}
# Paths on the board. They are quoted for its shell; still nothing that a shell knows is taken in them, nor an option.
_PLACES = ("python", "folder", "agent")
_PLACE = re.compile(r"(~/)?[A-Za-z0-9._/+@][A-Za-z0-9._/+@ -]*")
_LONGEST_TEXT = 4096  # characters
_ANY_BOARD = "board"  # in place of one that is not named yet

_TYPES: Mapping[str, type] = {
    "transport": str,
    "python": str,
    "folder": str,
    "agent": str,
    "connect_timeout_s": float,
    "reconnect_s": float,
    "max_file_mb": float,
    "cache_mb": float,
}
# the types are spelled out, for annotations are texts here; this keeps both alike
assert set(_TYPES) == {f.name for f in fields(Connection)}


def open_connection(options: Mapping[str, Setting]) -> tuple[Connection, Transport]:
    """The checked settings of a `connection` to one board, and its transport. Nothing is contacted.

    Raises:
        ConfigError: a setting is unknown, absent or has a wrong value; lists the known ones.
        UnknownNameError: there is no such transport; lists those there are.
    """
    # before all else: which settings are known depends on it
    name = options.get("transport")
    if not isinstance(name, str):
        raise ConfigError(
            f"a device's connection needs a transport, one of {', '.join(registry.names('transports'))}; "
            f"it has: {quoted(', '.join(options)) or 'nothing'}"
        )
    made = registry.load("transports", name)
    known = {**_TYPES, **made.keys}
    several = listing_setting(options)
    if several in options:
        raise ConfigError(f"connection: {several} names boards of a kind, and here it takes one; see boards_of")
    for key, value in options.items():
        _check(key, value, known=known, transport=name, several=several)
    shared: dict[str, Any] = {key: value for key, value in options.items() if key in _TYPES}
    # each gets what it named, so that a transport need not know the shared settings
    transport: Transport = made({key: value for key, value in options.items() if key in made.keys})
    return Connection(**shared), transport


def check_connection(options: Mapping[str, Setting]) -> None:
    """Check the settings of a description whose boards may not be named yet, as in those that ship.

    Raises:
        ConfigError, UnknownNameError: as for `open_connection`; several boards must be different ones.
    """
    key = naming_setting(options)
    for one in connections(options):
        # a stand-in, which a board that is named replaces
        open_connection({key: _ANY_BOARD, **one} if key else one)


def connections(options: Mapping[str, Setting]) -> tuple[dict[str, Option], ...]:
    """The same settings for each board that is named, in the order of the description; at least one.

    Raises:
        ConfigError: one board is named twice, or both as one and as several.
        UnknownNameError: there is no such transport; lists those there are.
    """
    key, several = naming_setting(options), listing_setting(options)
    if not key or several not in options:
        # a list in another setting is left to `open_connection`, which refuses it by name
        return (dict(options),)  # type: ignore[arg-type]
    if key in options:
        raise ConfigError(
            f"connection: it has both {key} and {several}; name one board in {key}, or all of them in {several}"
        )
    boards = options[several]
    if not isinstance(boards, tuple) or not boards:
        raise _refused(several, boards, f'a list of boards of a kind, like ["{_example(options)}"]')
    again = next((board for i, board in enumerate(boards) if board in boards[:i]), None)
    if again is not None:
        raise ConfigError(f"connection: {several} names {quoted(again)} twice; name each board once")
    return tuple(
        {key if name == several else name: board if name == several else value for name, value in options.items()}  # type: ignore[misc]
        for board in boards
    )


def boards_of(device: Device) -> tuple[Device, ...]:
    """The device as each of its boards is reached, in the order of the description; itself if it is one.

    Raises:
        ConfigError, UnknownNameError: as for `connections`.
    """
    if listing_setting(device.connection) not in device.connection:
        return (device,)
    return tuple(replace(device, connection=one) for one in connections(device.connection))


def listing_setting(options: Mapping[str, Setting]) -> str:
    """The setting that names several boards of a kind: `hosts`, `serials`; "" if the transport names none."""
    key = naming_setting(options)
    return f"{key}s" if key else ""


def naming_setting(options: Mapping[str, Setting]) -> str:
    """The setting that says which board a connection leads to: `host`, `serial`; "" if its transport has none.

    Raises:
        UnknownNameError: there is no such transport; lists those there are.
    """
    name = options.get("transport")
    return str(getattr(registry.load("transports", name), "named_by", "")) if isinstance(name, str) else ""


def reached(device: Device) -> str:
    """How a device is reached, for people: `this machine`, `ssh pi@a, pi@b`, `ssh, host not set`."""
    if not device.connection:
        return "this machine"
    transport, key = device.connection.get("transport", ""), naming_setting(device.connection)
    if not key:
        return str(transport)
    places = [str(board.connection[key]) for board in boards_of(device) if board.connection.get(key)]
    return f"{transport} {', '.join(places)}" if places else f"{transport}, {key} not set"


def command_to_name_it(device: Device) -> str:
    """The command that describes the user's own board, "" if the description says where it is."""
    key = naming_setting(device.connection)
    if not key or any(board.connection.get(key) for board in boards_of(device)):
        return ""
    return f"hwnas devices new my-{device.name} --like {device.name} --{key} {_example(device.connection)}"


def check_board_is_named(device: Device) -> None:
    """Refuse a description whose board nobody has named yet, as those that ship.

    Raises:
        ConfigError: it has a transport, and not where that leads to; names the command that sets it.
    """
    command = command_to_name_it(device)
    if command:
        raise ConfigError(f"device {device.name!r} is {reached(device)}; describe yours with: {command}")


def where_to(options: Mapping[str, Setting]) -> str:
    """What a connection leads to, for people who decide whether it may: its settings in one bounded line."""
    return ", ".join(f"{printable(key)} {quoted(value)}" for key, value in options.items())


def _example(options: Mapping[str, Setting]) -> str:
    """What a board may be called, for people."""
    default = naming_setting(options).upper()
    return str(getattr(registry.load("transports", str(options["transport"])), "example", default))


def _check(key: str, value: Setting, *, known: Mapping[str, type], transport: str, several: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"connection: unknown setting {quoted(key)!r}{hint}; transport {transport!r} knows: "
            f"{', '.join(sorted([*known, *filter(None, [several])]))}"
        )
    wanted, largest = known[key], _LARGEST.get(key, float("inf"))
    if wanted is str:
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT or any(ord(c) < ord(" ") for c in value):
            raise _refused(key, value, "a text without control characters")
        if key in _PLACES and not (_PLACE.fullmatch(value) or (key == "agent" and not value)):
            raise _refused(
                key, value, "a path on the board, of letters, digits, spaces and . _ / + @ -; ~/ is the home folder"
            )
        if key == "python" and " " in value:
            raise _refused(key, value, "one program on the board without arguments, like ~/venv/bin/python")
    # `bool` is an `int` in Python; infinity and NaN fail the comparison
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise _refused(key, value, "a number above 0")
    elif wanted is int and not isinstance(value, int):
        raise _refused(key, value, "a whole number from 1")
    elif value > largest:
        raise _refused(key, value, f"at most {largest}")


def _refused(key: str, value: Setting, allowed: str) -> ConfigError:
    return ConfigError(f"connection: {key} is {as_written(value)}; allowed: {allowed}")
