"""Measuring artefacts: a timing loop, robust statistics, and a child process to do it in.

Knows files and runtimes by name; never models or tables.
"""

from typing import TYPE_CHECKING

from hwnas.measure.artefacts import artefact_from_file, check_artefact
from hwnas.measure.phases import PHASE_WIDTH
from hwnas.measure.statistics import summarize
from hwnas.measure.timing import RoundTimes, TimingSettings, time_rounds

if TYPE_CHECKING:
    from hwnas.measure.client import Worker, first_reachable
else:

    def __getattr__(name: str) -> object:
        # the child imports this package too: without the parent's end of it, it starts in half the time
        if name in ("Worker", "first_reachable"):
            from hwnas.measure import client

            return getattr(client, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "PHASE_WIDTH",
    "RoundTimes",
    "TimingSettings",
    "Worker",
    "artefact_from_file",
    "check_artefact",
    "first_reachable",
    "summarize",
    "time_rounds",
]
