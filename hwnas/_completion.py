"""What a shell is offered behind an option while it is typed. Knows names; loads nothing heavy, and never fails.

Each takes what is typed so far and gives what it may become.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hwnas import registry


def device_names(incomplete: str) -> list[str]:
    """Devices that are described."""
    return _of(registry.load_object("hwnas.devices:device_names", needed_for="names of devices")(), incomplete)


def limit_keys(incomplete: str) -> list[str]:
    """Metrics that can be limited, up to the value."""
    found = (key.removeprefix("limits.") for key in setting_keys(f"limits.{incomplete}"))
    return [key for key in found if key != "others="]


def setting_keys(incomplete: str) -> list[str]:
    """Keys of a configuration, up to the value: `train.steps=`."""
    from hwnas.config import Config

    schema = Config.model_json_schema()
    return _of((f"{key}=" for key in _leaves(schema, schema.get("$defs", {}))), incomplete)


def strategy_names(incomplete: str) -> list[str]:
    """Strategies of training."""
    return _of(registry.names("strategies"), incomplete)


def _of(known: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def _leaves(schema: Mapping[str, Any], parts: Mapping[str, Any], *, before: str = "") -> Iterator[str]:
    for name, value in schema.get("properties", {}).items():
        named = [each["$ref"] for each in (value, *value.get("anyOf", ()), *value.get("allOf", ())) if "$ref" in each]
        section = parts.get(named[0].rpartition("/")[2], {}) if named else {}
        if section.get("properties"):
            yield from _leaves(section, parts, before=f"{before}{name}.")
        else:
            yield before + name
