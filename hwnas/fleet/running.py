"""One supernet, many devices: the stages of a run for several devices or budgets.

The training is shared, and so are accuracies (`hwnas.pipeline.evaluating`); each device has its own tables, one study
within the loosest of its budgets, and a deployment for each budget. A device or budget that fails is a row that says
why, and the others go on; the same call tries it again, and repeats nothing that is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from hwnas._console import Console
from hwnas.config import Config
from hwnas.errors import ConfigError, HwnasError
from hwnas.fleet.member import Budget, Member
from hwnas.fleet.record import FleetRecord
from hwnas.fleet.results import FleetProfile, FleetReport, FleetResult, FleetSearch, ProfiledDevice
from hwnas.pipeline import SearchResult, reporting
from hwnas.pipeline.evaluating import EvaluationCounts
from hwnas.pipeline.memory import refuse_too_large
from hwnas.pipeline.training import refuse_other_run, train
from hwnas.workspace import Workspace


def _members(config: Config, console: Console) -> list[Member]:
    """The devices of the run; one that is not described is wrong input, found before any work."""
    return [Member(config, entry, console=console) for entry in config.device.all]


# ---------------------------------------------------------------- the stages


def run_all(config: Config, *, console: Console) -> FleetResult:
    """Profile every device, train once, then search and export for every device; ends with one table and one picture.

    What fails for one device or budget is in the result, with the `exit_status` of the first failure.

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
        # not without an open budget: the training would serve nobody
        train(config, console=console)
    # only here: `export` of a part must not drop what the rest of the run made
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
    return _result(members, record, seconds=round(time.monotonic() - started, 1))


def profile(config: Config, *, console: Console) -> FleetProfile:
    """Measure every device."""
    members = _members(config, console)
    for m in members:
        console.note(f"-- profile {m.name}")
        m.profile()
    return FleetProfile(
        devices=tuple(_profiled(m) for m in members),
        errors=_errors(members),
        exit_status=_status(m.error for m in members),
    )


def _profiled(member: Member) -> ProfiledDevice:
    runtime = member.work.device.runtime
    if member.error is not None or member.costs is None:
        return ProfiledDevice(device=member.name, runtime=runtime)
    return ProfiledDevice(
        device=member.name,
        runtime=runtime,
        n_blocks=len(member.costs.entries),
        mean_abs_error_percent=member.costs.latency.quality.mean_abs_error_percent,
        latency_ms_bounds=member.costs.models["latency_ms"].bounds(),
    )


def search(config: Config, *, console: Console) -> FleetSearch:
    """Search for every device that was profiled, each study within the loosest of the device's budgets."""
    members = _members(config, console)
    studies: dict[str, SearchResult | None] = {}
    for m in members:
        console.note(f"-- search {m.name}")
        m.plan()
        studies[m.name] = m.search()
    return FleetSearch(
        devices=tuple(studies),
        studies={name: study for name, study in studies.items() if study is not None},
        errors=_errors(members),
        exit_status=_status(m.error or b.error for m in members for b in m.budgets),
    )


def export(config: Config, *, console: Console) -> FleetResult:
    """Deploy for every device and budget from the devices' studies."""
    members, record = _members(config, console), FleetRecord(config)
    for m in members:
        console.note(f"-- export {m.name}")
        m.plan()
        m.export(record)
        m.keep(record)
    return _result(members, record)


def report(config: Config, *, console: Console) -> FleetReport:
    """Write the pages of all deployments and that of the fleet again.

    Raises:
        ConfigError: the run has no fleet to report on.
    """
    record = FleetRecord(config)
    if not record.rows:
        raise ConfigError(f"{config.output.folder} has no deployment to report on; make them with `hwnas run`")
    deployed = {r.device for r in record.rows if r.deployment}
    pages = [reporting.report(m.work.config, console=console) for m in _members(config, console) if m.name in deployed]
    return FleetReport(pages=tuple(pages), written=record.publish())


def _result(members: Sequence[Member], record: FleetRecord, *, seconds: float | None = None) -> FleetResult:
    """What became of these devices and all their budgets, with what was written of the whole fleet."""
    written = record.publish()
    return FleetResult(
        rows=tuple(row for m in members for b in m.budgets if (row := record.row(m.name, b.given)) is not None),
        evaluations=EvaluationCounts(
            measured=sum(m.evaluations.measured for m in members), reused=sum(m.evaluations.reused for m in members)
        ),
        fleet=record.to_json(),
        files=written,
        seconds=seconds,
    )


def _errors(members: Sequence[Member]) -> tuple[str, ...]:
    concerned: list[Member | Budget] = []
    for m in members:
        concerned += [m, *m.budgets]
    return tuple(f"{x.called}: {x.error}" for x in concerned if x.error is not None)


def _status(errors: Iterable[HwnasError | None]) -> int:
    """What a command exits with: the status of the first thing that failed."""
    return next((e.exit_status for e in errors if e is not None), 0)
