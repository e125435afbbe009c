"""The whole way in one call."""

from __future__ import annotations

import time
from typing import Any

from hwnas._console import Console
from hwnas.config import Config
from hwnas.pipeline.costs import load_costs, reachable_limits
from hwnas.pipeline.deploying import export
from hwnas.pipeline.profiling import profile
from hwnas.pipeline.searching import search
from hwnas.pipeline.training import refuse_other_run, train
from hwnas.pipeline.workspace import Workspace


def run_all(config: Config, *, console: Console) -> dict[str, Any]:
    """Train, profile, search, export, verify and report; each stage goes on from what it finds.

    Raises:
        InfeasibleError: no network keeps the limits; found out before the training.
        HwnasError: a stage failed; the ones before it are kept.
    """
    work = Workspace(config)
    refuse_other_run(work)
    started = time.monotonic()
    seconds = {}
    result: dict[str, Any] = {}
    for name, stage in (("profile", profile), ("train", train), ("search", search), ("export", export)):
        console.note(f"-- {name}")
        begun = time.monotonic()
        result = stage(config, console=console)
        seconds[name] = round(time.monotonic() - begun, 1)
        if name == "profile":  # the device comes first, to tell a limit that cannot be kept before the training
            reachable_limits(work, load_costs(work))
        if name != "export":
            console.table(result["title"], result.get("columns", ()), result["rows"])
    folder = config.output.folder
    return {
        **result,
        "rows": [*result["rows"], ("time", f"{time.monotonic() - started:.0f} s {seconds}")],
        "notes": [
            *result.get("notes", ()),
            f"Other budgets of the same study: hwnas query {folder} --limit latency_ms=...",
            f"Your own images and device: edit {folder}/config.toml ([data] source, [device] name), "
            f"name another [output] folder, and start it with: hwnas run FILE",
        ],
        "seconds": seconds,
    }
