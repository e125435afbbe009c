"""The fields of a device's description, declared once: how each is checked, written and shown.

Reading a description (`hwnas.devices.description`), writing one (`hwnas.describe`) and listing it go through `FIELDS`.
Knows names, types and bounds; not whether an option means anything to its runtime, its meter or its connection.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.foreign import as_written
from hwnas.precisions import KNOWN
from hwnas.types import Device

SCHEMA = 1
_METRICS = ("latency_ms", "size_bytes", "macs", "parameters", "peak_memory_bytes", "memory_bytes", "energy_mj")
_MOST_PROCESSORS = 4096  # more than any machine has
_MOST_OPTIONS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceField:
    """One field of a description.

    Attributes:
        attribute: of `Device`.
        key: in a file; `energy.power_w` is `power_w` in the table `[energy]`.
        check: (key, what is in a file) -> the attribute's value; raises ConfigError.
        label: in a list of what is known of a device; empty: not in it.
        note: beside it in a file, or above it if it is a table.
        prose: it is a text of several lines.
        unit: in a list.
    """

    attribute: str
    key: str
    check: Callable[[str, object], Any]
    label: str = ""
    note: str = ""
    prose: bool = False
    unit: str = ""

    @property
    def table(self) -> str:
        """The table it stands in; empty for what stands above all tables."""
        return self.key.rpartition(".")[0]

    def shown(self, device: Device) -> object:
        """Its value as a list shows it; empty if it says nothing."""
        value = getattr(device, self.attribute)
        if self.prose:
            return " ".join(value.split())
        if value is None:
            return ""
        return f"{value:g} {self.unit}" if self.unit else list(value) if isinstance(value, tuple) else value


def _allowed(key: str, value: object, what: str) -> ConfigError:
    return ConfigError(f"{key} is {as_written(value)}; allowed: {what}")


def _runtime(key: str, value: object) -> str:
    if not isinstance(value, str) or value not in registry.names("runtimes"):
        raise ConfigError(f"{key} is {as_written(value)}; known: {', '.join(registry.names('runtimes'))}")
    return value


def _threads(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_PROCESSORS:
        raise _allowed(key, value, f"a whole number from 1 to {_MOST_PROCESSORS}")
    return value


def _precisions(key: str, value: object) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or any(p not in tuple(KNOWN) for p in value)
        or len({*value}) < len(value)
    ):
        raise _allowed(key, value, f"a list of one or more of {', '.join(KNOWN)}, each once")
    return tuple(value)


def _cores(key: str, value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or any(isinstance(c, bool) or not isinstance(c, int) or not 0 <= c < _MOST_PROCESSORS for c in value)
        or len({*value}) < len(value)
    ):
        raise _allowed(key, value, "a list of processor numbers from 0, each once")
    return tuple(value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _allowed(key, value, "a text")
    return value


def _options(key: str, value: object) -> dict[str, Any]:
    if (
        not isinstance(value, dict)
        or len(value) > _MOST_OPTIONS
        or not all(isinstance(v, str | int | float | bool) for v in value.values())
    ):
        raise _allowed(key, value, "a table of texts, numbers and booleans")
    return value


def _connection(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _allowed(key, value, "a table of texts, numbers, booleans and lists of texts")
    # lists are those of boards; which settings may be one, the connection itself says
    lists = {name: each for name, each in value.items() if isinstance(each, list)}
    for name, each in lists.items():
        if len(each) > _MOST_OPTIONS or not all(isinstance(v, str) for v in each):
            raise _allowed(f"{key}.{name}", each, f"a list of at most {_MOST_OPTIONS} texts")
    others = _options(key, {name: each for name, each in value.items() if name not in lists})
    return {name: tuple(lists[name]) if name in lists else others[name] for name in value}


def _above_0(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise _allowed(key, value, "a number above 0")
    return float(value)


def _from_0(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise _allowed(key, value, "a number from 0")
    return float(value)


def _limits(key: str, value: object) -> dict[str, float]:
    table = _table(key, value)
    return {metric: _above_0(f"{key}.{metric}", limit) for metric, limit in table.items()}


def check_limits(device: Device, *, told: Iterable[str]) -> None:
    """Refuse limits on what nobody tells of a network.

    Args:
        device: the description.
        told: what the device's runtime tells besides (`hwnas.types.TellsCosts`).

    Raises:
        ConfigError: a metric is not known; lists those there are.
    """
    _refuse_unknown(device.limits, known=tuple(dict.fromkeys((*_METRICS, *told))), where=" in [limits]")


# in the order in which a list shows them; a file has those of no table first
FIELDS = (
    DeviceField(attribute="description", key="description", check=_text),
    DeviceField(attribute="runtime", key="runtime", check=_runtime, label="runtime"),
    DeviceField(attribute="threads", key="threads", check=_threads, label="threads", note="of the runtime"),
    DeviceField(
        attribute="precisions", key="precisions", check=_precisions, label="precisions", note="what it may compute in"
    ),
    DeviceField(
        attribute="cores",
        key="cores",
        check=_cores,
        label="pinned to cores",
        note="the measuring process is pinned to",
    ),
    DeviceField(attribute="options", key="options", check=_options, label="options", note="of the runtime"),
    DeviceField(
        attribute="connection",
        key="connection",
        check=_connection,
        label="connection",
        note="how the board is reached; without it: this machine",
    ),
    DeviceField(attribute="meter", key="energy.meter", check=_text, label="energy meter"),
    DeviceField(attribute="power_w", key="energy.power_w", check=_above_0, label="stated power", unit="W"),
    DeviceField(attribute="idle_w", key="energy.idle_w", check=_from_0, label="idle power", unit="W"),
    DeviceField(
        attribute="meter_options", key="energy.options", check=_options, label="its options", note="of the meter"
    ),
    DeviceField(attribute="limits", key="limits", check=_limits, label="limits", note="what the device cannot exceed"),
    DeviceField(attribute="known", key="known", check=_text, label="known", prose=True),
    DeviceField(attribute="unknown", key="unknown", check=_text, label="unknown", prose=True),
)
TABLE_NOTES = {"energy": "without a meter, energy is estimated from the stated power"}  # of tables that are no field


def read_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says, as arguments of `Device`; what it leaves out is left out.

    Args:
        values: the file's, as TOML gives them.

    Raises:
        ConfigError: a key is unknown, or a value is wrong; says which are allowed.
    """
    _refuse_unknown(values, known=("schema", *_keys_in("")), where="")
    if values.get("schema") != SCHEMA or isinstance(values["schema"], bool):  # true == 1 in Python
        raise ConfigError(
            f"schema is {as_written(values.get('schema'))}; this version of hwnas reads schema = {SCHEMA}"
        )
    if "runtime" not in values:  # the only field without a default; refused as a wrong one is, with the known ones
        _runtime("runtime", None)
    found: dict[str, Any] = {}
    for field in FIELDS:
        table = values
        if field.table:
            table = _table(field.table, values.get(field.table, {}))
            _refuse_unknown(table, known=_keys_in(field.table), where=f" in [{field.table}]")
        key = field.key.rpartition(".")[2]
        if key in table:
            found[field.attribute] = field.check(field.key, table[key])
    return found


def _keys_in(table: str) -> tuple[str, ...]:
    """The keys of a table, or those above all tables, the tables themselves included."""
    start = f"{table}." if table else ""
    return tuple(dict.fromkeys(f.key.removeprefix(start).split(".")[0] for f in FIELDS if f.key.startswith(start)))


def _table(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _allowed(key, value, f"a table, written as [{key}]")
    return value


def _refuse_unknown(given: Iterable[str], *, known: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"unknown key {as_written(key)}{where}{hint}; known: {', '.join(known)}")
