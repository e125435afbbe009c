"""Devices that are profiled after a run's search."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from hwnas.config import Config
from hwnas.testing.run import describe_fake_device
from hwnas.types import PRECISIONS, Option
from hwnas.workspace import Workspace
from tests.sealed import change_lines


def profiled_later(
    config: Config,
    *,
    name: str = "later",
    slower: float = 2.0,
    precisions: Sequence[str] = PRECISIONS,
    options: Mapping[str, Option] | None = None,
) -> str:
    """The description of a device whose tables lie in a run's folder: those of the run's own, all times multiplied.

    Args:
        config: of a finished run on the fake device.
        name: of the new one.
        slower: what the times are multiplied by.
        precisions: that it has.
        options: of the fake device.
    """
    own = Workspace(config).tables
    path = describe_fake_device(own.parent.parent, options, name=name, precisions=precisions)

    def change(values: dict[str, Any]) -> dict[str, Any]:
        if values["kind"] == "context":
            return {**values, "device": name}
        times = values["latency_ms"]
        return {**values, "latency_ms": {**times, **{k: slower * times[k] for k in ("fastest", "median", "p90")}}}

    for table in shutil.copytree(own, own.parent / name).glob("*.jsonl"):
        change_lines(table, change)
    return path
