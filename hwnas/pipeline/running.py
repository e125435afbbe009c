"""The whole way in one call, for one device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hwnas._console import Console, format_seconds
from hwnas._places import quoted
from hwnas.config import Config
from hwnas.limits import round_up
from hwnas.pipeline import deploying, profiling, searching
from hwnas.pipeline.costs import load_costs, reachable_limits
from hwnas.pipeline.memory import refuse_too_large
from hwnas.pipeline.training import refuse_other_run, train
from hwnas.workspace import Workspace


def run_all(config: Config, *, console: Console) -> dict[str, Any]:
    """Train, profile, search, export, verify and report; each stage goes on from what it finds.

    Raises:
        InfeasibleError: no network keeps the limits; found out before the training.
        HwnasError: a stage failed; the ones before it are kept.
    """
    work = Workspace(config.single)
    refuse_other_run(work)
    refuse_too_large(work)
    seconds = {}
    result: dict[str, Any] = {}
    stages = (
        ("profile", profiling.profile),
        ("train", train),
        ("search", searching.search),
        ("export", deploying.export),
    )
    for name, stage in stages:
        console.note(f"-- {name}")
        begun = time.monotonic()
        result = stage(config, console=console)
        seconds[name] = round(time.monotonic() - begun, 1)
        if name == "profile":  # the device comes first, to tell a limit that cannot be kept before the training
            reachable_limits(work, load_costs(work))
        if name != "export":
            console.table(result["title"], result.get("columns", ()), result["rows"])
    folder = config.output.folder
    most = round_up(2 * result["manifest"]["measured"]["latency_ms"]["fastest"])
    return {
        **result,
        "rows": [*result["rows"], ("time", _times(seconds))],
        "notes": [
            *result.get("notes", ()),
            f"Other budgets of the same study: hwnas query {quoted(folder)} --limit latency_ms={most}",
            f"Your own images and device: edit {folder}/config.toml ([data] source, [device] name), "
            f"name another [output] folder, and start it with: hwnas run FILE",
        ],
        "seconds": seconds,
    }


def _times(seconds: Mapping[str, float]) -> str:
    """`33 s: profile 20 s, train 5 s`, stages of less than a second left out."""
    parts = ", ".join(f"{name} {format_seconds(s)}" for name, s in seconds.items() if s >= 1)
    return f"{format_seconds(sum(seconds.values()))}{f': {parts}' if parts else ''}"
