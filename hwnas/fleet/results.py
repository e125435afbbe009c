"""What the stages of a fleet end with: tables of devices and budgets, and what failed for one of them.

Knows rows and results of stages, not how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas._console import format_seconds
from hwnas.allowed import ACCURACY, PLURALS
from hwnas.limits import ceiling
from hwnas.pipeline import ReportResult, SearchResult
from hwnas.pipeline.evaluating import EvaluationCounts
from hwnas.quantities import capitalised, compared, metric_name, percent, quantity
from hwnas.report.fleet import FleetRow, budget_text, budget_values
from hwnas.results import Result, Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledDevice:
    """A device as it was profiled; what failed has no numbers.

    Attributes:
        device: its name.
        runtime: registered name.
        n_blocks: in its tables.
        mean_abs_error_percent: of predictions for networks that were not fitted.
        latency_ms_bounds: of the fastest and the slowest network of the space.
    """

    device: str
    runtime: str
    n_blocks: int | None = None
    mean_abs_error_percent: float | None = None
    latency_ms_bounds: tuple[float, float] | None = None

    @property
    def row(self) -> tuple[object, ...]:
        """For people."""
        if self.latency_ms_bounds is None:
            return self.device, self.runtime, None, None, "failed"
        low, high = (quantity("latency_ms", value) for value in self.latency_ms_bounds)
        return self.device, self.runtime, self.n_blocks, f"{self.mean_abs_error_percent:.1f} %", f"{low} to {high}"


@dataclass(frozen=True, kw_only=True)
class FleetProfile(Result):
    """All devices, profiled.

    Attributes:
        devices: in the order of the configuration.
        errors: of devices and budgets, for people.
        exit_status: of the first failure; 0 without one.
    """

    devices: tuple[ProfiledDevice, ...]
    errors: tuple[str, ...]
    exit_status: int = 0

    @property
    def shown(self) -> Shown:
        """A row for each device."""
        return Shown(
            title="Devices profiled",
            columns=["device", "runtime", "blocks", "mean error, not fitted", "networks of the space"],
            rows=[device.row for device in self.devices],
            notes=self.errors,
        )


@dataclass(frozen=True, kw_only=True)
class FleetSearch(Result):
    """All devices, searched for.

    Attributes:
        devices: in the order of the configuration.
        studies: device -> its search; those that failed are not in it.
        errors: of devices and budgets, for people.
        exit_status: of the first failure; 0 without one.
    """

    devices: tuple[str, ...]
    studies: Mapping[str, SearchResult]
    errors: tuple[str, ...]
    exit_status: int = 0

    @property
    def shown(self) -> Shown:
        """A row for each device, and how to ask its study."""
        metric = next((study.metric for study in self.studies.values()), ACCURACY)
        return Shown(
            title="Searches",
            columns=[
                "device",
                "networks",
                "in the front",
                f"{metric} (validation)",
                f"{PLURALS.get(metric, 'scores')} reused",
            ],
            rows=[_searched(name, self.studies.get(name)) for name in self.devices],
            notes=[*self.errors, *(f"Ask it: {study.question(name)}" for name, study in self.studies.items())],
        )


def _searched(device: str, study: SearchResult | None) -> tuple[object, ...]:
    if study is None:
        return device, None, None, None, "failed"
    best = max((t.values[study.metric] for t in study.front), default=None)
    n = study.evaluations
    return device, study.n_trials, len(study.front), best, f"{n.reused} of {n.asked}" if n.asked else None


@dataclass(frozen=True, kw_only=True)
class FleetReport(Result):
    """Pages that were written.

    Attributes:
        pages: of each device's deployments.
        written: name -> path, of the fleet's own.
    """

    pages: tuple[ReportResult, ...]
    written: Mapping[str, str]

    def values(self) -> Mapping[str, object]:
        """All files: what a page is of -> where it is."""
        of_devices = {name: path for page in self.pages for name, path in page.files.items()}
        return {"files": {**of_devices, **self.written}}

    @property
    def shown(self) -> Shown:
        """Where the pages are."""
        notes = [note for page in self.pages for note in page.shown.notes]
        return Shown(notes=[*notes, f"Fleet: {self.written['fleet.html']}"])


@dataclass(frozen=True, kw_only=True)
class FleetResult(Result):
    """What became of every device and budget.

    Attributes:
        rows: one for each.
        evaluations: accuracies that were measured and reused by this call.
        fleet: as in `fleet.json`, of the whole fleet.
        files: name -> path, of what was written of it.
        seconds: the run took; None for a stage alone.
    """

    rows: tuple[FleetRow, ...]
    evaluations: EvaluationCounts
    fleet: Mapping[str, Any]
    files: Mapping[str, str]
    seconds: float | None

    @property
    def exit_status(self) -> int:
        """Of the first row that failed."""
        return next((row.exit_status for row in self.rows if row.exit_status), 0)

    def values(self) -> Mapping[str, object]:
        """The fleet as it is kept; its rows are those for programs."""
        told = {"evaluations": self.evaluations, "fleet": self.fleet, "files": self.files}
        seconds = {} if self.seconds is None else {"seconds": self.seconds}
        return {**told, **seconds, "exit_status": self.exit_status}

    @property
    def shown(self) -> Shown:
        """A row for each device and budget, and every problem once."""
        deployed, n = [row for row in self.rows if row.deployment], self.evaluations
        metric = next((row.metric for row in deployed), ACCURACY)
        plural = PLURALS.get(metric, "scores")
        return Shown(
            title=f"Fleet: {len(deployed)} of {len(self.rows)} budgets have a deployment",
            columns=["device", "budget", metric, "latency / limit", "size", "speed-up", "result"],
            rows=[_shown(row) for row in self.rows],
            notes=[
                *_problems(self.rows),
                f"{capitalised(metric_name(metric))}: on the test images, through the runtime. Speed-up: against the "
                "same network in fp32.",
                *(
                    [f"{capitalised(plural)} measured: {n.measured}, known from other searches: {n.reused}."]
                    if n.asked
                    else []
                ),
                f"Report: {self.files['fleet.html']}",
                *([] if self.seconds is None else [f"It took {format_seconds(self.seconds)}."]),
            ],
        )


def _shown(row: FleetRow) -> tuple[object, ...]:
    limit = ceiling(row.limits, "latency_ms")
    return (
        row.device,
        budget_values(row.budget) or None,
        None if row.accuracy is None else percent(row.accuracy, decimals=2),
        compared("latency_ms", row.latency_ms, limit),
        None if row.size_bytes is None else quantity("size_bytes", row.size_bytes),
        None if row.speedup is None else f"{row.speedup:.2f} x",
        _outcome(row),
    )


def _outcome(row: FleetRow) -> str:
    if row.deployment:
        return "from before" if row.problem else "deployed"
    nearest = ", ".join(quantity(m, v) for m, v in row.reachable.items())
    return f"nearest: {nearest}" if nearest else "failed"


def _problems(rows: Sequence[FleetRow]) -> list[str]:
    """Every problem once: that of a device, or that of one of its budgets."""
    lines = []
    for row in rows:
        # the device's own problem is in all its rows, and is told once
        shared = {other.problem for other in rows if other.device == row.device} == {row.problem}
        lines.append(f"{row.device if shared else f'{row.device}, {budget_text(row.budget)}'}: {row.problem}")
    return list(dict.fromkeys(line for line, row in zip(lines, rows, strict=True) if row.problem))
