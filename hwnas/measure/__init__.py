"""Measuring artefacts: a timing loop, robust statistics, and a child process to do it in.

Knows files and runtimes by name; never models or tables.
"""

from hwnas.measure.artefacts import artefact_from_file, check_artefact
from hwnas.measure.client import Worker
from hwnas.measure.statistics import summarize
from hwnas.measure.timing import RoundTimes, TimingSettings, time_rounds

__all__ = [
    "RoundTimes",
    "TimingSettings",
    "Worker",
    "artefact_from_file",
    "check_artefact",
    "summarize",
    "time_rounds",
]
