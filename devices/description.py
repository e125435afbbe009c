"""Read device descriptions: the TOML files beside this module, or the user's own.

A description may be anybody's: everything in it is checked when it is read, the options of its runtime and meter and
the settings of its connection too, as far as that needs neither. What fields there are says `hwnas.device_fields`.
Neither connects to a device nor loads its runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas._places import user_path
from hwnas._toml import read_toml
from hwnas.device_fields import check_limits, read_fields
from hwnas.errors import ConfigError, HwnasError, MissingPackageError, UnknownNameError
from hwnas.foreign import as_written, is_file_name, quoted
from hwnas.measure.connection import check_connection
from hwnas.precisions import by_exactness
from hwnas.types import Device

_FOLDER = Path(__file__).parent
_LARGEST_WHOLE = 1 << 63  # TOML's own bound
_LONGEST_TEXT = 4096


def device_names() -> tuple[str, ...]:
    """Names of the shipped descriptions, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_device(name_or_path: str | Path) -> Device:
    """The device of a shipped name or of a TOML file; the file's name without its ending names the device.

    Args:
        name_or_path: anything with a folder or ending in `.toml` is a path.

    Raises:
        UnknownNameError: no shipped description has that name; lists those there are.
        ConfigError: the file cannot be read, or a key or value in it is wrong; says which are allowed.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or len(Path(text).parts) > 1:
        path = user_path(text)
    elif text in device_names():
        path = _FOLDER / f"{text}.toml"
    else:
        raise UnknownNameError("device", text, (*device_names(), "or the path of a .toml file"))
    values = read_toml(path, what="device description")
    _check_numbers(path, values)
    try:
        device = Device(name=path.stem, **read_fields(values))
        check_device(device)
        if "precisions" in values:
            _check_precisions(device)
    except MissingPackageError:
        raise
    except HwnasError as e:
        raise ConfigError(f"{path}: {e}") from e
    return device


def check_device(device: Device) -> None:
    """Check the parts of a description that others than this module know: runtime, connection, meter.

    Nothing is contacted or started, and a runtime that is not installed here is left to the machine that has it.

    Raises:
        ConfigError, UnknownNameError: a name or a setting is not known, or is not what it may be.
    """
    if not is_file_name(device.name):
        raise ConfigError(
            f"{as_written(device.name)} cannot name a device, which its file does; allowed: letters, digits, '-', '_' "
            "and '.', as in my-board"
        )
    for key, value in (*device.options.items(), *device.meter_options.items()):
        if isinstance(value, str) and (len(value) > _LONGEST_TEXT or not value.isprintable()):
            raise ConfigError(f"option {quoted(key)} is {as_written(value)}; allowed: a text in one line")
    if device.runtime not in registry.names("runtimes"):
        raise UnknownNameError("runtime", quoted(device.runtime), registry.names("runtimes"))
    check_limits(device, told=_told(device.runtime))
    check_runtime = _hook("runtimes", device.runtime)
    if check_runtime is not None:
        check_runtime(device)
    if device.connection:
        check_connection(device.connection)
    if device.meter:
        check_meter = _hook("meters", device.meter)
        if check_meter is not None:
            check_meter(device.meter_options)
    elif device.meter_options:
        raise ConfigError("energy.options are those of a meter, and energy.meter names none")


def _check_precisions(device: Device) -> None:
    """What a description names must be among what the runtime computes on one device or another."""
    try:
        known = getattr(registry.load("runtimes", device.runtime), "precisions", device.precisions)
    except MissingPackageError:
        return
    wrong = [p for p in device.precisions if p not in known]
    if wrong:
        raise ConfigError(
            f"runtime {device.runtime!r} does not compute in {wrong[0]!r}; it supports "
            f"{', '.join(by_exactness(known))}: leave the others out of precisions"
        )


def _told(runtime: str) -> tuple[str, ...]:
    """What a runtime tells of a run besides its time; nothing if it is not installed here."""
    try:
        return tuple(getattr(registry.load("runtimes", runtime), "metrics", ()))
    except MissingPackageError:
        return ()


def _hook(kind: str, name: str) -> Callable[[Any], None] | None:
    """How a runtime or a meter checks its options; None if it does not, or is not installed here."""
    try:
        found: Callable[[Any], None] | None = getattr(registry.load(kind, name), "check_options", None)
    except MissingPackageError:
        return None
    return found


def _check_numbers(path: Path, values: Mapping[str, Any]) -> None:
    """No number that nothing could be done with: beyond 64 bits, infinite or none."""
    tables = [values]
    while tables:  # (they may be nested as deep as somebody likes)
        for key, value in tables.pop().items():
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, dict):
                    tables.append(one)
                elif (isinstance(one, int) and not -_LARGEST_WHOLE <= one < _LARGEST_WHOLE) or (
                    isinstance(one, float) and not math.isfinite(one)
                ):
                    raise ConfigError(
                        f"{path}: {quoted(key)} is {as_written(one)}; allowed: a finite number of 64 bits"
                    )
