"""Read device descriptions: the TOML files beside this module, or the user's own.

Knows the fields of a description; neither connects to a device nor loads its runtime.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas._places import user_path
from hwnas._toml import read_toml
from hwnas.errors import ConfigError, UnknownNameError
from hwnas.types import PRECISIONS, Device

SCHEMA = 1
_FOLDER = Path(__file__).parent
_KEYS = (
    *("schema", "runtime", "threads", "cores", "precisions"),
    *("description", "known", "unknown", "options", "connection", "energy", "limits"),
)
_ENERGY_KEYS = ("meter", "power_w", "idle_w", "options")


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
    return _device(path, read_toml(path, what="device description"))


def _device(path: Path, values: Mapping[str, Any]) -> Device:
    for key in values:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"{path}: unknown key {key!r}{hint}; known: {', '.join(_KEYS)}")
    if values.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: schema is {values.get('schema')!r}; this version of hwnas reads schema = {SCHEMA}")
    runtime = values.get("runtime")
    if runtime not in registry.names("runtimes"):
        raise ConfigError(f"{path}: runtime is {runtime!r}; known: {', '.join(registry.names('runtimes'))}")
    precisions = values.get("precisions", list(PRECISIONS))
    if not isinstance(precisions, list) or not precisions or any(p not in PRECISIONS for p in precisions):
        raise ConfigError(
            f"{path}: precisions is {precisions!r}; allowed: a list of one or more of {', '.join(PRECISIONS)}"
        )
    energy = _table(path, "energy", values)
    for key in energy:
        if key not in _ENERGY_KEYS:
            raise ConfigError(f"{path}: unknown key {key!r} in [energy]; known: {', '.join(_ENERGY_KEYS)}")
    limits = _table(path, "limits", values)
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
        raise ConfigError(f"{path}: {key} is {found!r}; allowed: a table, written as [{key}]")
    return found


def _options(path: Path, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict) or not all(isinstance(v, str | int | float | bool) for v in found.values()):
        raise ConfigError(f"{path}: {key} is {found!r}; allowed: a table of texts, numbers and booleans")
    return found


def _text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} is {value!r}; allowed: a text")
    return value


def _cores(path: Path, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or any(isinstance(c, bool) or not isinstance(c, int) or c < 0 for c in value):
        raise ConfigError(f"{path}: cores is {value!r}; allowed: a list of processor numbers from 0")
    return tuple(value)


def _amount(path: Path, key: str, value: object, *, zero: bool = False) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 or (zero and value == 0)):
        raise ConfigError(f"{path}: {key} is {value!r}; allowed: a number {'from' if zero else 'above'} 0")
    return float(value)


def _limit(path: Path, key: str, value: object) -> float:
    amount = _amount(path, key, value)
    assert amount is not None  # TOML has no null
    return amount


def _positive(path: Path, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{path}: {key} is {value!r}; allowed: a whole number from 1")
    return value
