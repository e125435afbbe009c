"""`hwnas devices new`: write the description of a device, from flags, another description and answers.

Knows the fields of a description and asks through a function it is given; loads no runtime in this process.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas._console import Console
from hwnas._places import quoted, user_path
from hwnas.describe.description_file import check_connection, check_file, setting_notes, to_toml
from hwnas.errors import ConfigError, HwnasError
from hwnas.files import write_whole
from hwnas.measure.connection import listing_setting, naming_setting, reached
from hwnas.results import Result, Shown
from hwnas.types import PRECISIONS, Device, Option

Ask = Callable[[str, str], str]  # (question, default) -> answer; an empty answer leaves the value out

LOCAL = "local"  # the answer that stands for no transport
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEEN = re.compile(r"\s*Seen: .* \(\d{4}-\d\d-\d\d\)\.")
_RUNTIME = "onnxruntime"
_PROBE = {"connect_timeout_s": 8.0, "reconnect_s": 1.0}  # a look at a board must not wait for one that is off
_LOOK_S = 30.0  # for its runtime to start


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeviceOptions:
    """What is known of a new device before anything is asked; None: not said.

    Attributes:
        like: name or path of a description to begin with.
        runtime: registered name.
        threads: the runtime may use.
        precisions: legal on it.
        transport: `local`, `ssh`, `adb`, ...; follows from `host` and `serial` if left out.
        host: for ssh.
        serial: for adb.
        python: command that starts Python on the board.
        options: of the runtime.
        connection: further settings of the connection: `port`, `identity_file`, `folder`, ...
        power_w: stated power while a network runs.
        idle_w: stated power while nothing runs.
        meter: registered name.
        description: for people.
    """

    like: str | None = None
    runtime: str | None = None
    threads: int | None = None
    precisions: tuple[str, ...] | None = None
    transport: str | None = None
    host: str | None = None
    serial: str | None = None
    python: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    connection: Mapping[str, Option] = field(default_factory=dict)
    power_w: float | None = None
    idle_w: float | None = None
    meter: str | None = None
    description: str | None = None

    def check(self) -> None:
        """Refuse what is said without meaning anything.

        Raises:
            ConfigError: a blank, as from a variable that is not set, letters no file can hold, a number that is none.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            texts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
            for text in texts:
                _check_said(each.name, text)
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads}; allowed: a whole number from 1")


def _check_said(what: str, value: object) -> None:
    if isinstance(value, str):
        if not value.strip():
            raise ConfigError(f"{what} is {value!r}, which is blank (from a variable that is not set?)")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{what} is {value!r}; allowed: a text in UTF-8") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{what} is {value}; allowed: a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice(Result):
    """A description that was written.

    Attributes:
        path: of the file.
        described: what is in it.
    """

    path: Path
    described: Device

    def values(self) -> Mapping[str, object]:
        """File and name."""
        return {"path": self.path, "device": self.described.name}

    @property
    def shown(self) -> Shown:
        """Where it is, and what to do with it."""
        device = self.described
        place = str(self.path) if len(self.path.parts) > 1 else f"./{self.path}"  # a path, not a name
        return Shown(
            title=f"New device {device.name}",
            rows=[("written", place), ("runtime", device.runtime), ("reached", reached(device))],
            notes=[
                *([f"Look at the board: hwnas agent --check {quoted(place)}"] if device.connection else []),
                f"What it does badly: hwnas devices audit {quoted(place)}",
                f"Measure it for a run: hwnas profile --set {quoted(f'device.name={place}')}",
            ],
        )


def new_device(
    name: str,
    *,
    given: NewDeviceOptions,
    output: str = "",
    force: bool = False,
    look: bool = True,
    ask: Ask | None = None,
    console: Console,
) -> NewDevice:
    """Write a description, checked by loading it.

    Args:
        name: of the device, also of the file.
        given: what is known already.
        output: folder to write to; the current one if empty.
        force: replace a file that is there.
        look: start the runtime, on the board if it is one, to tell what it runs on.
        ask: for what is not known; None: nothing is asked, defaults are taken.
        console: to speak to.

    Raises:
        ConfigError: the name is taken or cannot be one, or a value is wrong.
        UnknownNameError: a runtime, a transport, a meter or `like` is not known.
        OSError: the file cannot be written.
    """
    given.check()
    path = _path(name, output=output, force=force)
    device = _begin(path.stem, given)
    device = _add_connection(device, given, ask)
    device = _add_runtime(device, given, ask)
    device = _add_energy(device, given, ask)
    text = given.description
    if text is None:
        text = _answer(ask, "description, for lists", device.description or f"{path.stem}, {device.runtime}")
    device = replace(device, description=text)
    check_connection(device)
    if look:
        device = _look_at(device, console)
    document = to_toml(device, like=given.like)
    check_file(path.name, document)  # before it takes the place of a file that is sound
    write_whole(path, document.encode())
    return NewDevice(path=path, described=device)


# ---------------------------------------------------------------- what to write


def _path(name: str, *, output: str, force: bool) -> Path:
    stem = name.removesuffix(".toml")
    if not _NAME.fullmatch(stem):
        raise ConfigError(f"{name!r} cannot name a device; allowed: letters, digits, '-', '_' and '.', as in my-board")
    if stem in registry.load_object("hwnas.devices:device_names", needed_for="the names that are taken")():
        raise ConfigError(f"{stem!r} is a description that ships with hwnas; choose another name, as in my-{stem}")
    path = user_path(output or ".") / f"{stem}.toml"
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already; choose another name, or replace it with --force")
    return path


def _begin(name: str, given: NewDeviceOptions) -> Device:
    """The description to begin with: another one, or what is usual for the runtime."""
    if given.like:
        like: Device = registry.load_object("hwnas.devices:load_device", needed_for="--like")(given.like)
        return replace(like, name=name)
    return Device(name=name, runtime=given.runtime or _RUNTIME)


def _add_connection(device: Device, given: NewDeviceOptions, ask: Ask | None) -> Device:
    transports = registry.names("transports")
    connection = dict(device.connection)
    stated = {"host": given.host, "serial": given.serial}
    # a setting names a board to one transport, or first of all to the built-in one
    named = [t for t in transports if stated.get(naming_setting({"transport": t}))]
    transport = given.transport or min(named, key=lambda t: registry.extra("transports", t) is None, default=None)
    if transport is None:
        default = str(connection.get("transport", LOCAL))
        transport = _answer(ask, f"where is it: {', '.join((LOCAL, *transports))}", default)
    if transport == LOCAL:
        if given.host or given.serial or given.python or given.connection:
            raise ConfigError(
                "transport local is this machine: leave out host, serial, python and other connection settings"
            )
        return replace(device, connection={})
    if transport not in transports:
        raise ConfigError(f"transport is {transport!r}; allowed: {', '.join((LOCAL, *transports))}")
    if connection.get("transport") != transport:  # settings of another way to reach it; Python there stays Python there
        connection = {k: v for k, v in connection.items() if k == "python"}
    connection["transport"] = transport
    key, several = naming_setting(connection), listing_setting(connection)
    if key:
        note = setting_notes("transports", transport).get(key, "which board it is")
        described = connection.pop(key, None) or connection.pop(several, "")
        default = ", ".join(described) if isinstance(described, tuple) else str(described)
        place = stated.get(key) or given.connection.get(key)
        place = place or _answer(ask, f"{key} ({note})", default)
        if not place:
            raise ConfigError(f"transport {transport} needs {f'--{key}' if key in stated else key}, {note}")
        boards = tuple(board.strip() for board in str(place).split(","))
        connection |= {several: boards} if len(boards) > 1 else {key: place}
    default = str(connection.get("python", "python3"))
    connection["python"] = given.python or _answer(ask, "Python there, which has the runtime", default)
    others = {name: value for name, value in given.connection.items() if name != key}
    return replace(device, connection={**connection, **others})


def _add_runtime(device: Device, given: NewDeviceOptions, ask: Ask | None) -> Device:
    runtime = given.runtime or _answer(ask, f"runtime: {', '.join(registry.names('runtimes'))}", device.runtime)
    known = registry.names("runtimes")
    if runtime not in known:
        raise ConfigError(f"runtime is {runtime!r}; known: {', '.join(known)}")
    # options of another runtime would mean nothing; those of the description this one is like stay
    if runtime != device.runtime or not given.like:
        device = replace(device, runtime=runtime, **_usual_options(runtime))
    where = f" (this machine has {os.cpu_count()})" if not device.connection else ""
    threads: object = (
        given.threads if given.threads is not None else _answer(ask, f"threads{where}", str(device.threads))
    )
    precisions: Iterable[str] = given.precisions or _split(_answer(ask, "precisions", ", ".join(device.precisions)))
    return replace(
        device,
        threads=_whole("threads", threads),
        precisions=tuple(precisions),
        options={**device.options, **given.options},
    )


def _usual_options(runtime: str) -> dict[str, Any]:
    """Options and precisions of the first shipped description of a runtime; none if there is none."""
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="usual options")
    names = registry.load_object("hwnas.devices:device_names", needed_for="usual options")()
    for device in map(load_device, names):
        if device.runtime == runtime:
            return {"options": dict(device.options), "precisions": device.precisions}
    return {"options": {}, "precisions": PRECISIONS}


def _add_energy(device: Device, given: NewDeviceOptions, ask: Ask | None) -> Device:
    meters = registry.names("meters")
    meter = given.meter
    if meter is None:
        meter = _answer(ask, f"energy meter: {', '.join(meters)}, or none", device.meter or "none")
    meter = "" if meter == "none" else meter
    if meter and meter not in meters:
        raise ConfigError(f"meter is {meter!r}; known: {', '.join(meters)}, or none")
    power: object = given.power_w
    if power is None:
        stated = "" if device.power_w is None else f"{device.power_w:g}"
        power = _answer(ask, "power while it runs a network, in watts (none: not known)", stated or "none")
    idle = given.idle_w if given.idle_w is not None else device.idle_w
    return replace(
        device,
        meter=meter,
        meter_options=device.meter_options if meter == device.meter else {},  # of another meter they mean nothing
        power_w=None if power in ("none", "") else _number("power", power),
        idle_w=idle,
    )


def _look_at(device: Device, console: Console) -> Device:
    """With what its runtime says it runs on; a board that does not answer is no reason not to describe it."""
    from hwnas.measure import first_reachable

    probed = replace(device, connection={**device.connection, **_PROBE}) if device.connection else device
    try:
        with console.progress(f"looking at {reached(device)}") as progress:
            progress(0, 1, "")
            with first_reachable(probed, tell=console.note, start_timeout_s=_LOOK_S) as worker:
                context = worker.context()
            progress(1, 1, "")
    except HwnasError as e:
        console.warn(f"its runtime could not be started, so nothing was read from it: {e}")
        return device
    date = datetime.now(UTC).date().isoformat()
    seen = f"{context.get('hardware', 'unknown')}, {device.runtime} {context.get('runtime_version', '')} ({date})"
    told = _SEEN.sub("", device.known).strip()  # by the description this one is like
    return replace(device, known=f"{told} Seen: {seen}.".strip())


# ---------------------------------------------------------------- answers


def _answer(ask: Ask | None, question: str, default: str) -> str:
    return default if ask is None else ask(question, default).strip()


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[\s,]+", text) if part)


def _whole(what: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ConfigError(f"{what} is {value!r}; allowed: a whole number from 1") from None


def _number(what: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{what} is {value!r}; allowed: a number")
    return number
