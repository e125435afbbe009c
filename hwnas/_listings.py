"""What `hwnas query`, `devices` and `spaces` show, as a command's result.

Knows the registry and finished studies; must never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas._places import quoted
from hwnas.device_fields import FIELDS
from hwnas.errors import ConfigError
from hwnas.limits import as_limits
from hwnas.measure.connection import command_to_name_it, reached
from hwnas.quantities import limit_text, metric_name
from hwnas.query import query
from hwnas.report.choice import missing_error_text, preference_text
from hwnas.search.study_file import load_study
from hwnas.types import Device

_STUDY_PLACES = ("study.safetensors", "search/study.safetensors")  # in the folder of a run


def all_devices() -> dict[str, Any]:
    """The devices that are described, in the order of their names."""
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="the list of devices")
    names = registry.load_object("hwnas.devices:device_names", needed_for="the list of devices")()
    found: list[Device] = [load_device(name) for name in names]
    return {
        "title": "Devices",
        "columns": ["name", "runtime", "precisions", "reached by", "tables"],
        "rows": [(d.name, d.runtime, list(d.precisions), reached(d), shipped_tables(d) or None) for d in found],
        "notes": [
            "All that is known of one: hwnas devices show NAME",
            "Your own: hwnas devices new NAME; then name its file in [device] name.",
        ],
        "descriptions": {d.name: d.description for d in found},
    }


def one_device(name: str) -> dict[str, Any]:
    """Everything a description says.

    Args:
        name: of a shipped description, or the path of one.

    Raises:
        UnknownNameError: there is no such device; lists the known.
        ConfigError: the description is wrong.
    """
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="a device")
    d: Device = load_device(name)
    tables, own = shipped_tables(d), command_to_name_it(d)
    rows: list[tuple[str, object]] = []
    for field in FIELDS:
        if field.attribute == "connection":
            rows.append(("reached by", reached(d)))
            rows.append((field.label, {k: v for k, v in d.connection.items() if k != "transport"}))
            continue
        if field.attribute == "known":
            rows.append(("shipped tables", tables))
        if field.label:
            rows.append((field.label, field.shown(d)))
    return {
        "title": f"{d.name}: {d.description}",
        "rows": [row for row in rows if row[1] not in ("", [], {}, None)],
        "notes": [f"Describe yours: {own}" if own else f"Measure it: hwnas profile --set device.name={name}"],
        "device": asdict(d),
    }


def shipped_tables(device: Device) -> list[str]:
    """What ships for a device: the precisions of its tables, and `audit`."""
    folder: Path = registry.load_object("hwnas.latency_tables:folder", needed_for="the list of tables")() / device.name
    prefix = f"{device.runtime}-"
    found = sorted(path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.jsonl"))
    return [*found, *(["audit"] if (folder / "audit" / "audit.json").is_file() else [])]


def all_spaces() -> dict[str, Any]:
    """The search spaces and their sizes, in the order of their names."""
    rows = []
    for name in registry.names("spaces"):
        space = registry.load("spaces", name)()
        rows.append((name, space.count(), len(space.choices), len(space.slots), len(space.distinct_blocks())))
    return {
        "title": "Search spaces",
        "columns": ["name", "distinct networks", "choices", "slots", "distinct blocks"],
        "rows": rows,
        "notes": ["The choices of one: hwnas spaces NAME"],
    }


def one_space(name: str) -> dict[str, Any]:
    """The choices of a space.

    Raises:
        UnknownNameError: there is no such space; lists the known.
    """
    space = registry.load("spaces", name)()
    return {
        "title": f"{name}: {len(space.choices)} choices",
        "columns": ["choice", "options"],
        "rows": [(choice.name, list(choice.options)) for choice in space.choices],
        "notes": [f"{len(space.slots)} slots, {len(space.distinct_blocks())} distinct blocks"],
        "networks": space.count(),
    }


def best_networks(
    study: Path,
    *,
    limits: Mapping[str, float],
    metric: str,
    top: int,
    device: str = "",
    tolerance: float | None = None,
) -> dict[str, Any]:
    """The answer to a budget question.

    Args:
        study: the folder of a run, or a study's file.
        limits: see `hwnas.query.query`.
        metric: what to be best in.
        top: how many networks at most.
        device: which of the devices, in a run for several; without it, the only one that was searched for.
        tolerance: see `hwnas.query.query`.

    Raises:
        ConfigError: the folder has no finished study, or several, or none of this device.
        InfeasibleError: no network of the study keeps the limits.
        StudyError: the study cannot be read, or has no such metric.
    """
    opened = load_study(_study_file(study, device))
    answers = query(opened, limits=limits, metric=metric, top=top, tolerance=tolerance)
    first = answers[0]
    metrics = [metric, *(m for m in first.values if m != metric)]
    asked = ", ".join(f"{metric_name(x.metric)} {limit_text(x)}" for x in as_limits(limits, opened.directions))
    return {
        "title": f"Best {metric_name(metric)}, {asked or 'without limits'}",
        "columns": ["trial", *metrics],
        "rows": [(a.number, *(a.values[m] for m in metrics)) for a in answers],
        "notes": [
            f"{preference_text(first)[0].upper()}{preference_text(first)[1:]}.",
            *_kinds({m: first.sources[m] for m in metrics if m in first.sources}),
            *filter(None, [missing_error_text(first)]),
            "The architecture is shown by --json.",
        ],
        "limits": dict(limits),
        "answers": [
            {
                "trial": a.number,
                "architecture": a.architecture,
                "values": a.values,
                "upper": a.upper,
                "sources": a.sources,
                "preference": asdict(a.preference),
            }
            for a in answers
        ],
    }


def _kinds(sources: Mapping[str, str]) -> list[str]:
    """How the values came about: `Estimated: latency, size. Computed: MACs, parameters.`"""
    by_source: dict[str, list[str]] = {}
    for metric, source in sources.items():
        by_source.setdefault(source, []).append(metric_name(metric))
    told = [f"{source[0].upper()}{source[1:]}: {', '.join(names)}." for source, names in by_source.items() if source]
    return [" ".join(told)] if told else []


def _study_file(path: Path, device: str) -> Path:
    if not path.is_dir():
        return path
    only = next((path / place for place in _STUDY_PLACES if (path / place).is_file()), None)
    if only is not None and not device:
        return only
    found = {p.parent.name: p for p in sorted(path.glob("search/*/study.safetensors"))}
    if device in found:
        return found[device]
    if len(found) == 1 and not device:
        return next(iter(found.values()))
    if found:
        raise ConfigError(
            f"{path} has {f'no study of device {device!r}' if device else 'a study for each device'}; "
            f"give --device {' or '.join(found)}"
        )
    if only is not None:
        raise ConfigError(f"{path} is a run for one device; ask it without --device")
    raise ConfigError(
        f"{path} has no finished study ({' or '.join(_STUDY_PLACES)}); make one with: hwnas search {quoted(path)}"
    )
