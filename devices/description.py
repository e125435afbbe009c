"""Read device descriptions: the TOML files beside this module, or the user's own.

A description may be anybody's: everything in it is checked when it is read, the options of its runtime and meter and
the settings of its connection too, as far as that needs neither. Knows the fields of a description; neither connects to
a device nor loads its runtime.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas._places import user_path
from hwnas._toml import read_toml
from hwnas.errors import ConfigError, HwnasError, MissingPackageError, UnknownNameError
from hwnas.foreign import as_written, is_file_name, quoted
from hwnas.measure.connection import check_connection
from hwnas.types import PRECISIONS, Device

SCHEMA = 1
_FOLDER = Path(__file__).parent
_KEYS = (
    *("schema", "runtime", "threads", "cores", "precisions"),
    *("description", "known", "unknown", "options", "connection", "energy", "limits"),
)
_ENERGY_KEYS = ("meter", "power_w", "idle_w", "options")
_LIMITS = (
    *("latency_ms", "size_bytes", "macs", "parameters", "peak_memory_bytes", "memory_bytes", "arena_bytes"),
    *("flash_bytes", "energy_mj"),
)
_LARGEST_WHOLE = 1 << 63  # TOML's own bound
_MOST_PROCESSORS = 4096  # more than any machine has
_LONGEST_TEXT, _MOST_OPTIONS = 4096, 256


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
    device = _device(path, values)
    try:
        check_device(device)
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


def _device(path: Path, values: Mapping[str, Any]) -> Device:
    for key in values:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"{path}: unknown key {as_written(key)}{hint}; known: {', '.join(_KEYS)}")
    if values.get("schema") != SCHEMA or isinstance(values["schema"], bool):
        raise ConfigError(
            f"{path}: schema is {as_written(values.get('schema'))}; this version of hwnas reads schema = {SCHEMA}"
        )
    runtime = values.get("runtime")
    if runtime not in registry.names("runtimes"):
        raise ConfigError(f"{path}: runtime is {as_written(runtime)}; known: {', '.join(registry.names('runtimes'))}")
    precisions = values.get("precisions", list(PRECISIONS))
    if (
        not isinstance(precisions, list)
        or not precisions
        or any(p not in PRECISIONS for p in precisions)
        or len({*precisions}) < len(precisions)
    ):
        raise ConfigError(
            f"{path}: precisions is {as_written(precisions)}; allowed: a list of one or more of "
            f"{', '.join(PRECISIONS)}, each once"
        )
    energy = _table(path, "energy", values)
    for key in energy:
        if key not in _ENERGY_KEYS:
            raise ConfigError(f"{path}: unknown key {as_written(key)} in [energy]; known: {', '.join(_ENERGY_KEYS)}")
    limits = _table(path, "limits", values)
    for key in limits:
        if key not in _LIMITS:
            near = difflib.get_close_matches(key, _LIMITS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"{path}: unknown key {as_written(key)} in [limits]{hint}; known: {', '.join(_LIMITS)}")
    return Device(
        name=path.stem,
        runtime=runtime,
        threads=_positive(path, "threads", values.get("threads", 1)),
        cores=_cores(path, values.get("cores", [])),
        precisions=tuple(precisions),
        options=_options(path, "options", values),
        connection=_options(path, "connection", values),
        meter=_text(path, "energy.meter", energy.get("meter", "")),
        meter_options=_options(path, "options", energy),
        power_w=_amount(path, "energy.power_w", energy.get("power_w")),
        idle_w=_amount(path, "energy.idle_w", energy.get("idle_w"), zero=True),
        limits={key: _limit(path, f"limits.{key}", value) for key, value in limits.items()},
        description=_text(path, "description", values.get("description", "")),
        known=_text(path, "known", values.get("known", "")),
        unknown=_text(path, "unknown", values.get("unknown", "")),
    )


def _table(path: Path, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {key} is {as_written(found)}; allowed: a table, written as [{key}]")
    return found


def _options(path: Path, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = values.get(key, {})
    if (
        not isinstance(found, dict)
        or len(found) > _MOST_OPTIONS
        or not all(isinstance(v, str | int | float | bool) for v in found.values())
    ):
        raise ConfigError(f"{path}: {key} is {as_written(found)}; allowed: a table of texts, numbers and booleans")
    return found


def _text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} is {as_written(value)}; allowed: a text")
    return value


def _cores(path: Path, value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or any(isinstance(c, bool) or not isinstance(c, int) or not 0 <= c < _MOST_PROCESSORS for c in value)
        or len({*value}) < len(value)
    ):
        raise ConfigError(
            f"{path}: cores is {as_written(value)}; allowed: a list of processor numbers from 0, each once"
        )
    return tuple(value)


def _amount(path: Path, key: str, value: object, *, zero: bool = False) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 or (zero and value == 0)):
        raise ConfigError(f"{path}: {key} is {as_written(value)}; allowed: a number {'from' if zero else 'above'} 0")
    return float(value)


def _limit(path: Path, key: str, value: object) -> float:
    amount = _amount(path, key, value)
    assert amount is not None  # TOML has no null
    return amount


def _positive(path: Path, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_PROCESSORS:
        raise ConfigError(f"{path}: {key} is {as_written(value)}; allowed: a whole number from 1 to {_MOST_PROCESSORS}")
    return value
