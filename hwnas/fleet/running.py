"""One supernet, many devices: the stages of a run for several devices or budgets.

The training is shared, and so are accuracies (`hwnas.pipeline.evaluating`); each device has its own tables, one study
within the loosest of its budgets, and a deployment for each budget. A device or budget that fails is a row that says
why, and the others go on; the same call tries it again, and repeats nothing that is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hwnas._console import Console, format_seconds
from hwnas._places import quoted
from hwnas.config import Config
from hwnas.errors import ConfigError, HwnasError
from hwnas.fleet.member import Budget, Member
from hwnas.fleet.record import FleetRecord
from hwnas.limits import round_up
from hwnas.pipeline import reporting
from hwnas.pipeline.memory import refuse_too_large
from hwnas.pipeline.training import refuse_other_run, train
from hwnas.quantities import compared, percent, quantity
from hwnas.report.fleet import FleetRow, budget_text, budget_values
from hwnas.workspace import Workspace


def _members(config: Config, console: Console) -> list[Member]:
    """The devices of the run; one that is not described is wrong input, found before any work."""
    return [Member(config, entry, console=console) for entry in config.device.all]


# ---------------------------------------------------------------- the stages


def run_all(config: Config, *, console: Console) -> dict[str, Any]:
    """Profile every device, train once, then search and export for every device; ends with one table and one picture.

    Raises:
        DataError, SpaceError, CheckpointError, TrainingError: what all devices share failed.
    """
    members, started = _members(config, console), time.monotonic()
    refuse_other_run(Workspace(config))
    refuse_too_large(Workspace(config))
    record = FleetRecord(config)
    for m in members:  # all devices come first, to tell a board that is away before the training
        console.note(f"-- profile {m.name}")
        m.profile()
    if any(m.open_budgets for m in members):
        console.note("-- train")
        train(config, console=console)
    record.forget_other_budgets(config.device.all)
    for m in members:
        if m.open_budgets:
            console.note(f"-- search {m.name}")
            m.search()
        m.keep(record)  # whatever happens next
        if m.open_budgets:
            console.note(f"-- export {m.name}")
            m.export(record)
        m.keep(record)
    result = _result(members, record)
    seconds = round(time.monotonic() - started, 1)
    return {**result, "notes": [*result["notes"], f"It took {format_seconds(seconds)}."], "seconds": seconds}


def profile(config: Config, *, console: Console) -> dict[str, Any]:
    """Measure every device."""
    members = _members(config, console)
    rows: list[tuple[object, ...]] = []
    for m in members:
        console.note(f"-- profile {m.name}")
        m.profile()
        if m.error is not None or m.costs is None:
            rows.append((m.name, m.work.device.runtime, None, None, "failed"))
            continue
        low, high = m.costs.models["latency_ms"].bounds()
        error = f"{m.costs.latency.quality.mean_abs_error_percent:.1f} %"
        rows.append(
            (
                m.name,
                m.work.device.runtime,
                len(m.costs.entries),
                error,
                f"{quantity('latency_ms', low)} to {quantity('latency_ms', high)}",
            )
        )
    return {
        "title": "Devices profiled",
        "columns": ["device", "runtime", "blocks", "mean error, not fitted", "networks of the space"],
        "rows": rows,
        "notes": _errors(members),
        "exit_status": _status(m.error for m in members),
    }


def search(config: Config, *, console: Console) -> dict[str, Any]:
    """Search for every device that was profiled, each study within the loosest of the device's budgets."""
    members = _members(config, console)
    rows: list[tuple[object, ...]] = []
    studies: dict[str, Any] = {}
    for m in members:
        console.note(f"-- search {m.name}")
        m.plan()
        result = m.search()
        if result is None:
            rows.append((m.name, None, None, None, "failed"))
            continue
        studies[m.name] = result
        best = max((t["values"]["accuracy"] for t in result["front"]), default=None)
        n = result["evaluations"]
        reused = f"{n['reused']} of {sum(n.values())}" if any(n.values()) else None
        rows.append((m.name, result["n_trials"], len(result["front"]), best, reused))
    return {
        "title": "Searches",
        "columns": ["device", "networks", "in the front", "accuracy (validation)", "accuracies reused"],
        "rows": rows,
        "notes": [
            *_errors(members),
            *(f"Ask it: {_question(config.output.folder, name, result)}" for name, result in studies.items()),
        ],
        "studies": studies,
        "exit_status": _status(m.error or b.error for m in members for b in m.budgets),
    }


def _question(folder: str, device: str, result: Mapping[str, Any]) -> str:
    """A command that asks a device's study, with a limit that some of its networks keep."""
    most = max((t["upper"].get("latency_ms", t["values"]["latency_ms"]) for t in result["front"]), default=1.0)
    return f"hwnas query {quoted(folder)} --device {quoted(device)} --limit latency_ms={round_up(most)}"


def export(config: Config, *, console: Console) -> dict[str, Any]:
    """Deploy for every device and budget from the devices' studies."""
    members, record = _members(config, console), FleetRecord(config)
    for m in members:
        console.note(f"-- export {m.name}")
        m.plan()
        m.export(record)
        m.keep(record)
    return _result(members, record)


def report(config: Config, *, console: Console) -> dict[str, Any]:
    """Write the pages of all deployments and that of the fleet again.

    Raises:
        ConfigError: the run has no fleet to report on.
    """
    record = FleetRecord(config)
    if not record.rows:
        raise ConfigError(f"{config.output.folder} has no deployment to report on; make them with `hwnas run`")
    deployed = {r.device for r in record.rows if r.deployment}
    files: dict[str, str] = {}
    notes: list[str] = []
    for m in _members(config, console):
        if m.name in deployed:
            result = reporting.report(m.work.config, console=console)
            files |= result["files"]
            notes += result["notes"]
    written = record.publish()
    return {"notes": [*notes, f"Fleet: {written['fleet.html']}"], "files": {**files, **written}}


def _result(members: Sequence[Member], record: FleetRecord) -> dict[str, Any]:
    """The table of these devices and all their budgets, with what was written of the whole fleet."""
    written = record.publish()
    rows = [row for m in members for b in m.budgets if (row := record.row(m.name, b.given)) is not None]
    deployed = [row for row in rows if row.deployment]
    measured, reused = (sum(m.evaluations[what] for m in members) for what in ("measured", "reused"))
    return {
        "title": f"Fleet: {len(deployed)} of {len(rows)} budgets have a deployment",
        "columns": ["device", "budget", "accuracy", "latency / limit", "size", "gain", "result"],
        "rows": [_shown(row) for row in rows],
        "notes": [
            *_problems(rows),
            "Accuracy: on the test images, through the runtime. Gain: speed against the same network in fp32.",
            *([f"Accuracies measured: {measured}, known from other searches: {reused}."] if measured + reused else []),
            f"Report: {written['fleet.html']}",
        ],
        "evaluations": {"measured": measured, "reused": reused},
        "fleet": record.to_json(),
        "files": written,
        "exit_status": next((row.exit_status for row in rows if row.exit_status), 0),
    }


def _shown(row: FleetRow) -> tuple[object, ...]:
    limit = row.limits.get("latency_ms")
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
        shared = {other.problem for other in rows if other.device == row.device} == {row.problem}
        lines.append(f"{row.device if shared else f'{row.device}, {budget_text(row.budget)}'}: {row.problem}")
    return list(dict.fromkeys(line for line, row in zip(lines, rows, strict=True) if row.problem))


def _errors(members: Sequence[Member]) -> list[str]:
    concerned: list[Member | Budget] = []
    for m in members:
        concerned += [m, *m.budgets]
    return [f"{x.called}: {x.error}" for x in concerned if x.error is not None]


def _status(errors: Iterable[HwnasError | None]) -> int:
    """What a command exits with: the status of the first thing that failed."""
    return next((e.exit_status for e in errors if e is not None), 0)
