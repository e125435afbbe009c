"""What `hwnas query`, `devices` and `spaces` show, as a command's result.

Knows the registry and finished studies; must never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.query import query

_STUDY_PLACES = ("study.safetensors", "search/study.safetensors")  # in the folder of a run


def all_devices() -> dict[str, Any]:
    """The devices that are described, in the order of their names."""
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="the list of devices")
    names = registry.load_object("hwnas.devices:device_names", needed_for="the list of devices")()
    found = [load_device(name) for name in names]
    return {
        "title": "Devices",
        "columns": ["name", "runtime", "threads", "precisions", "description"],
        "rows": [(d.name, d.runtime, d.threads, list(d.precisions), d.description) for d in found],
        "notes": ["Your own: a file like devices/cpu.toml, named by its path in [device] name."],
    }


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


def best_networks(study: Path, *, limits: Mapping[str, float], metric: str, top: int) -> dict[str, Any]:
    """The answer to a budget question.

    Args:
        study: the folder of a run, or a study's file.
        limits: see `hwnas.query.query`.
        metric: what to be best in.
        top: how many networks at most.

    Raises:
        ConfigError: the folder has no finished study.
        InfeasibleError: no network of the study keeps the limits.
        StudyError: the study cannot be read, or has no such metric.
    """
    answers = query(_study_file(study), limits=limits, metric=metric, top=top)
    metrics = [metric, *(m for m in answers[0].values if m != metric)]
    asked = ", ".join(f"{m} within {v:g}" for m, v in limits.items()) or "without limits"
    kinds = [f"{m} is {answers[0].sources[m]}" for m in metrics if m in answers[0].sources]
    return {
        "title": f"Best {metric}, {asked}",
        "columns": ["trial", *metrics],
        "rows": [(a.number, *(a.values[m] for m in metrics)) for a in answers],
        "notes": [*([", ".join(kinds)] if kinds else []), "The architecture is shown by --json."],
        "limits": dict(limits),
        "answers": [
            {
                "trial": a.number,
                "architecture": a.architecture,
                "values": a.values,
                "upper": a.upper,
                "sources": a.sources,
            }
            for a in answers
        ],
    }


def _study_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for place in _STUDY_PLACES:
        if (path / place).is_file():
            return path / place
    raise ConfigError(
        f"{path} has no finished study ({' or '.join(_STUDY_PLACES)}); make one with: hwnas search {path}"
    )
