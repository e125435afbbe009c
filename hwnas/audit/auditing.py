"""`hwnas devices audit`: what a device does badly, measured by changing one choice of a block at a time.

Which choices blocks have, their kinds say; the kinds are those of a space, or all that are registered.

Which operators are slow differs from runtime to runtime, so a space that suits one device wastes another's time
(SpaceEvo, Wang et al., ICCV 2023). What was measured is kept at once, group by group, in a table of its
own: an interrupted audit goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwnas import registry
from hwnas._console import Console
from hwnas.audit.advice import advice, suggestion, suggestion_lines
from hwnas.audit.audit_file import AUDIT_FILE, Audit, load_audit, save_audit
from hwnas.audit.cases import Case, case_groups, kinds_with_variations
from hwnas.audit.rules import MeasuredCase, judge
from hwnas.audit.show import AuditResult, draw_audit
from hwnas.config import Config
from hwnas.cost.table import LatencyTable, TableContext, repair_table
from hwnas.errors import ConfigError, HwnasError, MeasurementError, TableContextError, TableError
from hwnas.files import sha256_file
from hwnas.measure import TimingSettings, Worker, artefact_from_file, first_reachable
from hwnas.measure.connection import check_board_is_named
from hwnas.named_spaces import make_space
from hwnas.precisions import by_exactness
from hwnas.scratch import scratch
from hwnas.spaces import Space
from hwnas.types import Artefact, Device, MeasurementFailure, Statistic
from hwnas.workspace import Workspace

__all__ = ["Audit", "advice", "advise", "audit", "find_audit", "load_audit", "suggestion", "suggestion_lines"]

AUDIT_FOLDER = "audit"  # in the folder of a device's tables
_DEFAULT_FOLDER = "latency_tables"  # in the working folder, which runs may share as `profile.tables`
_TABLE, _ANCHOR = "measurements.jsonl", "reference"


def audit(device: str, *, space: str = "", output: str = "", again: bool = False, console: Console) -> AuditResult:
    """Measure operator choices on a device and say which to leave out.

    Args:
        device: name of a description, or the path of one.
        space: as a configuration names one: its kinds of block are audited; all that are registered if empty.
        output: folder for `audit.json`, the picture and the measurements; `latency_tables/<device>/audit` if empty.
        again: forget what was measured before.
        console: to speak to.

    Raises:
        ConfigError: the measurements in the folder are of another context, or nobody said where the board is.
        SpaceError: there is no such space, or none of its kinds of block can be varied.
        MeasurementError: the runtime cannot be started, or dies on one block after the other.
        OSError: the folder cannot be written.
    """
    started = time.monotonic()
    kinds = kinds_with_variations(_space(space, console=console) if space else None)
    work = Workspace(Config().replaced({"device.name": device}))
    check_board_is_named(work.device)
    folder = Path(output) if output else Path(_DEFAULT_FOLDER, work.device.name, AUDIT_FOLDER)
    work = Workspace(Config().replaced({"device.name": device, "output.folder": str(folder)}))
    with work.alone("auditing"), first_reachable(work.device, tell=console.note) as worker:
        if again:
            (folder / _TABLE).unlink(missing_ok=True)
        for done in repair_table(folder / _TABLE):
            console.warn(done)
        context = worker.context()
        for note in work.found_on(context):
            console.note(note)
        precisions = _precisions(work)
        # one anchor for all precisions, in floats where there are any: findings compare across them
        table, anchor = _open(work, worker, context, precision=precisions[0])
        groups = list(case_groups(kinds, precisions))
        _measure(work, worker, table, anchor, groups, console=console)
    measured = [_outcome(table, case) for group in groups for case in group]
    # single failures are findings; without one success the runtime is at fault
    if all(m.latency_ms is None for m in measured):
        raise MeasurementError(f"nothing could be measured on {work.device.name}: {measured[0].failure}")
    found = Audit(
        device=work.device.name,
        runtime=work.device.runtime,
        precisions=precisions,
        source=table.context.source,
        context={**context, "threads": work.device.threads, "date": table.context.date},
        findings=judge(measured, precisions=precisions),
        measured=tuple(measured),
    )
    save_audit(found, folder / AUDIT_FILE, statistics=table.statistics, suggestion=suggestion(found))
    draw_audit(found, folder)
    return AuditResult(audit=found, folder=folder, seconds=time.monotonic() - started)


def _space(named: str, *, console: Console) -> Space:
    # the kinds of its blocks do not depend on the images
    return make_space(named, in_channels=3, n_classes=10, style={}, tell=console.note)


def find_audit(tables: Path, device: Device) -> Audit | None:
    """The audit of a device: beside the tables of a run, where `audit` leaves it, or beside those that are shipped.

    Args:
        tables: folder of the device's tables, as `Workspace.tables`.
        device: its runtime and threads must be those of the audit.

    Raises:
        TableError: there is one, and it is damaged.
    """
    shipped = registry.load_object("hwnas.latency_tables:folder", needed_for="shipped audits")() / device.name
    for folder in (Path(tables), Path(_DEFAULT_FOLDER, device.name), shipped):
        path = folder / AUDIT_FOLDER / AUDIT_FILE
        if path.is_file():
            found = load_audit(path)
            # another runtime or number of threads has other slow operators
            if (found.runtime, found.context.get("threads")) == (device.runtime, device.threads):
                return found
    return None


def advise(work: Workspace) -> list[str]:
    """What the audit of a run's device has against the run's space; empty without an audit, or if all is well.

    A damaged audit is told of in the same way: advice is no reason to stop a run.
    """
    try:
        found = find_audit(work.tables, work.device)
        lines = advice(work.config, found) if found is not None else []
    except TableError as e:
        return [str(e)]
    return [*lines, f"so its audit says, {found.origin}"] if found is not None and lines else []


# ---------------------------------------------------------------- measuring


def _precisions(work: Workspace) -> tuple[str, ...]:
    """Legal on the device and known to its runtime, as the device computes them, floats first.

    Raises:
        ConfigError: none is both.
    """
    known = registry.load("runtimes", work.device.runtime)().precisions
    legal = [work.computed[p] for p in by_exactness(work.device.precisions)]
    found = tuple(p for p in legal if p in known)
    if not found:
        raise ConfigError(
            f"device {work.device.name!r} allows {', '.join(work.device.precisions)}; its runtime "
            f"{work.device.runtime!r} computes in {', '.join(sorted(known))}"
        )
    return found


def _open(
    work: Workspace, worker: Worker, context: Mapping[str, str], *, precision: str
) -> tuple[LatencyTable, Artefact]:
    """The table of the audit, which holds blocks of all precisions, and the drift anchor of one."""
    path, kept = work.folder / _TABLE, work.folder / f"{_ANCHOR}.{work.exporter.format}"
    try:
        begun = LatencyTable.open(path).context if path.exists() else None
    except TableError:  # begun and not a line written
        begun = None
    if begun is not None and kept.is_file() and sha256_file(kept) == begun.reference_sha256:
        anchor = artefact_from_file(kept, format=work.exporter.format, precision=precision)
    else:
        from hwnas.supernet.untrained import drift_anchor

        anchor = drift_anchor(precision, symmetric=work.symmetric).write(work.exporter, kept)
    anchor_ms = worker.measure_anchor(anchor).minimum if begun is None else begun.reference_ms
    wanted = TableContext.of(
        work.device, context, precision="mixed", reference_sha256=anchor.sha256, reference_ms=anchor_ms
    )
    try:
        return LatencyTable.open(path, wanted), anchor
    except TableContextError as e:
        differences = "; ".join(f"{k}: there {a!r}, here {b!r}" for k, (a, b) in e.differences.items())
        raise ConfigError(
            f"the audit in {work.folder} was measured in another context ({differences}); name another folder with "
            "--output, or measure anew with --again"
        ) from e


def _measure(
    work: Workspace,
    worker: Worker,
    table: LatencyTable,
    anchor: Artefact,
    groups: Sequence[Sequence[Case]],
    *,
    console: Console,
) -> None:
    """Measure what the table lacks, a group at a time, and keep each group's results as soon as it is done."""
    total, done = sum(map(len, groups)), 0
    with console.progress(f"audit of {work.device.name}") as progress:
        for group in groups:
            missing = set(table.missing(c.block.key for c in group))
            if missing:  # a group is timed whole: it is compared with itself
                results, sizes = _measure_group(work, worker, table, anchor, group)
                table.append_blocks(results, sizes=sizes)
            done += len(group)
            progress(done, total, f"{group[0].kind} {group[0].site}")


def _measure_group(
    work: Workspace, worker: Worker, table: LatencyTable, anchor: Artefact, group: Sequence[Case]
) -> tuple[dict[str, Statistic | MeasurementFailure], dict[str, int]]:
    from hwnas.supernet.untrained import untrained_block

    results: dict[str, Statistic | MeasurementFailure] = {}
    artefacts: dict[str, Artefact] = {}
    with scratch("audit") as folder:
        for i, case in enumerate(group):
            try:
                path = Path(folder, f"{i}.{work.exporter.format}")
                block = untrained_block(case.block, symmetric=work.symmetric)
                artefacts[case.block.key] = block.write(work.exporter, path)
            except HwnasError as e:  # what cannot be written is a finding, too
                results[case.block.key] = MeasurementFailure(reason=str(e))
        results |= worker.measure(
            artefacts,
            anchor=anchor,
            anchor_ms=table.context.reference_ms,
            # in the same rounds, all of them: an excess is a ratio, and must not hold drift
            settings=TimingSettings(group_size=max(1, len(artefacts))),
        )
    return results, {key: a.size_bytes for key, a in artefacts.items()}


def _outcome(table: LatencyTable, case: Case) -> MeasuredCase:
    key = case.block.key
    return MeasuredCase(case=case, latency_ms=table.entries.get(key), failure=table.failures.get(key, ""))
