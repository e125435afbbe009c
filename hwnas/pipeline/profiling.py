"""Stage `profile`: time every distinct block of the space, then whole networks, on the device.

Everything measured is appended to the device's tables at once, so an interrupted profile goes on
where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hwnas import registry
from hwnas._console import Console
from hwnas.audit import advise
from hwnas.config import Config
from hwnas.cost import Correction, PredictionQuality
from hwnas.cost.energy import METRIC as ENERGY
from hwnas.cost.energy import without_energy
from hwnas.cost.table import LatencyTable, TableContext, repair_table
from hwnas.files import sha256_file, write_whole
from hwnas.measure import TimingSettings, Worker, artefact_from_file
from hwnas.measure.connection import check_board_is_named
from hwnas.pipeline._last_used import begin, keep_tables
from hwnas.pipeline.costs import (
    Costs,
    anchor_path,
    anchor_precision,
    artefact_precision,
    load_costs,
    precision_of,
    table_path,
)
from hwnas.pipeline.training import refuse_other_run
from hwnas.quantities import count, percent, quantity
from hwnas.results import Result, Shown
from hwnas.scratch import scratch
from hwnas.types import Artefact, Block, MeasurementFailure, ProgressCallback, Statistic
from hwnas.workspace import Workspace

_EXPORTED_AT_ONCE = 64  # files on disk at a time
_NETWORK_SETTINGS = {"rounds": 61, "min_rounds": 15, "target_error": 0.006}  # longer: they are the yardstick

Timing = Statistic | MeasurementFailure
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ProfileResult(Result):
    """What a device was found to take.

    Attributes:
        device: its name.
        runtime: registered name.
        precisions: of the space, as they are computed.
        n_blocks: distinct ones in the tables.
        n_networks: whole ones.
        plain_sums: how well sums of blocks predict whole networks.
        correction: of the sums, with how well it predicts networks it was not fitted to.
        latency_ms_bounds: of the fastest and the slowest network of the space.
        largest_ms: of the largest network.
        largest_precision: it was measured in.
        folder: of the tables.
        tables: name of a table -> checksum.
        seconds: this profile took.
        costs: what the tables tell, for the stages that follow; no value for programs.
    """

    device: str
    runtime: str
    precisions: tuple[str, ...]
    n_blocks: int
    n_networks: int
    plain_sums: PredictionQuality
    correction: Correction
    latency_ms_bounds: tuple[float, float]
    largest_ms: float
    largest_precision: str
    folder: Path
    tables: Mapping[str, str]
    seconds: float
    costs: Costs = field(repr=False)

    def values(self) -> Mapping[str, object]:
        """The fields, but for the costs."""
        return {name: value for name, value in super().values().items() if name != "costs"}

    @property
    def shown(self) -> Shown:
        """How good the tables are, and what the space takes."""
        quality, (low, high) = self.correction.quality, self.latency_ms_bounds
        return Shown(
            title=f"Profile of {self.device} ({self.runtime}), {', '.join(self.precisions)}",
            rows=[
                ("distinct blocks", self.n_blocks),
                ("whole networks", self.n_networks),
                ("mean error of sums of blocks", f"{self.plain_sums.mean_abs_error_percent:.1f} %"),
                ("corrected, on networks not fitted", f"{quality.mean_abs_error_percent:.1f} %"),
                (
                    "  within 5 % / within 10 %",
                    f"{percent(quality.within_5, decimals=0)} / {percent(quality.within_10, decimals=0)} "
                    f"of {quality.n}",
                ),
                ("  rank correlation (Kendall)", quality.kendall_tau),
                ("upper bound", f"estimate + {100 * (self.correction.upper_ratio - 1):.1f} %"),
                ("networks of the space", f"{quantity('latency_ms', low)} to {quantity('latency_ms', high)}"),
                (f"largest network, {self.largest_precision}", quantity("latency_ms", self.largest_ms)),
                ("tables", str(self.folder)),
            ],
        )


def profile(config: Config, *, console: Console) -> ProfileResult:
    """Measure what the device's tables lack, and end with the error on networks the correction did not see.

    Raises:
        TableContextError: the tables were measured in another context (machine, runtime version, threads).
        MeasurementError: the runtime cannot be started, or dies on one block after the other.
        ConfigError: the device is a board, and nobody said where it is.
        OSError: a table cannot be written; what was measured before is kept.
    """
    work = Workspace(config.single)
    # before any lock: somebody else's measurement must not be waited for in vain
    check_board_is_named(work.device)
    refuse_other_run(work)
    started = time.monotonic()
    with work.alone("profiling"), work.measuring_alone(console), Worker(work.device) as worker:
        context = worker.context()
        # before the space is made: in which precisions the device computes is known only there
        for note in work.found_on(context):
            console.note(note, once=True)
        space = work.space
        networks = list(sample_networks(work))
        # `mixed` too, where networks were sampled from the whole space
        needed = dict.fromkeys([*space.precisions, *(precision_of(n) for n in networks)])
        for warning in (*worker.warnings(), *advise(work)):
            console.warn(warning)
        tables = {precision: _open(work, worker, context, precision, console=console) for precision in needed}
        # once all tables could be opened: a contradiction must not be written into the run's configuration
        begin(work, console=console)
        failures = 0
        # blocks of all precisions first: whole networks need their entries to be of use
        for precision, opened in tables.items():
            blocks = [b for b in space.distinct_blocks() if b.precision == precision]
            failures += _measure_blocks(opened, blocks, console=console)
        for precision, opened in tables.items():
            chosen = [n for n in networks if precision_of(n) == precision]
            failures += _measure_networks(opened, chosen, console=console)
        keep_tables(work, (opened.table for opened in tables.values()))
    if failures:
        console.warn(f"{count(failures, 'measurement')} failed; the reasons are in the tables in {work.tables}")
    return _summary(work, seconds=time.monotonic() - started)


def sample_networks(work: Workspace) -> Iterable[tuple[Block, ...]]:
    """The whole networks that correct the sums: random ones of each precision, and the largest at the widest."""
    c, space = work.config.profile, work.space
    rng = np.random.default_rng([work.config.search.seed, 7])
    widest = work.widest_space
    yield tuple(b for _, b in widest.named_blocks(widest.largest()))
    parts = [space.restrict(precisions=(p,)) for p in space.precisions]
    if len(parts) > 1:
        parts.append(space)
    for part in parts:
        # over encodings, not networks: small and large ones alike
        for encoding in part.sample(c.n_networks, rng, over="encodings"):
            yield tuple(b for _, b in part.named_blocks(encoding))


def timing(work: Workspace, **changes: Any) -> TimingSettings:
    """The run's timing settings; `profile.rounds` bounds the rounds."""
    rounds = work.config.profile.rounds
    values = dict(changes)
    if rounds is not None:
        values["rounds"] = rounds
        # `TimingSettings` refuses more rounds at least than at most
        values["min_rounds"] = min(values.get("min_rounds", TimingSettings().min_rounds), rounds)
    return TimingSettings(**values)


@dataclass(frozen=True, kw_only=True)
class _OpenTable:
    """One table while it is measured.

    Attributes:
        work: the run.
        worker: that measures.
        table: results go to.
        anchor: the model that runs among the rounds.
    """

    work: Workspace
    worker: Worker
    table: LatencyTable
    anchor: Artefact


def _open(
    work: Workspace, worker: Worker, context: Mapping[str, str], precision: str, *, console: Console
) -> _OpenTable:
    """A precision's table and its drift anchor; both are made if there is none yet, damaged lines are put aside."""
    path, kept = table_path(work, precision), anchor_path(work, precision)
    for done in repair_table(path):
        console.warn(done)
    if not _is_begun(path):
        _begin_with_shipped(work, context, precision)
    counts_as = anchor_precision(work.computed, precision)
    begun = LatencyTable.open(path).context if _is_begun(path) else None
    if begun is not None and kept.is_file() and sha256_file(kept) == begun.reference_sha256:
        # other versions of the exporter may write other bytes: the table goes on with its own
        anchor = artefact_from_file(kept, format=work.exporter.format, precision=counts_as)
    else:
        from hwnas.supernet.untrained import drift_anchor

        anchor = drift_anchor(counts_as, symmetric=work.symmetric).write(work.exporter, kept)
    if begun is not None:
        anchor_ms = begun.reference_ms
    else:
        # the time that every entry is corrected to, so it is measured as long as a whole network
        anchor_ms = worker.measure_anchor(anchor, settings=timing(work, **_NETWORK_SETTINGS)).minimum
    wanted = TableContext.of(
        work.device, context, precision=precision, reference_sha256=anchor.sha256, reference_ms=anchor_ms
    )
    return _OpenTable(work=work, worker=worker, table=LatencyTable.open(path, wanted), anchor=anchor)


def _begin_with_shipped(work: Workspace, context: Mapping[str, str], precision: str) -> None:
    """Copy the table that ships for this device, with its drift anchor, if it was measured in the same context."""
    shipped = registry.load_object("hwnas.latency_tables:folder", needed_for="shipped tables")() / work.device.name
    path, kept = table_path(work, precision), anchor_path(work, precision)
    if not (_is_begun(shipped / path.name) and (shipped / kept.name).is_file()):
        return
    found = LatencyTable.open(shipped / path.name).context
    here = TableContext.of(
        work.device,
        context,
        precision=precision,
        reference_sha256=sha256_file(shipped / kept.name),
        reference_ms=found.reference_ms,
    )
    # another machine or version: its times would be wrong here, and are left where they are
    if not found.differences(here):
        kept.parent.mkdir(parents=True, exist_ok=True)
        # the model before the table: a table without its anchor cannot be gone on with
        write_whole(kept, (shipped / kept.name).read_bytes())
        write_whole(path, (shipped / path.name).read_bytes())


def _is_begun(path: Path) -> bool:
    """Whether a table has its first line; one that a full disk or a killed process left without it is begun anew."""
    if not path.exists():
        return False
    with open(path, "rb") as f:
        return f.readline().endswith(b"\n")


def _measure_blocks(opened: _OpenTable, blocks: Sequence[Block], *, console: Console) -> int:
    """Measure what a table lacks of these blocks; how many failed."""
    work, table = opened.work, opened.table
    missing = set(table.missing(b.key for b in blocks))
    if work.device.meter:  # the device may have got it after it was profiled
        missing.update(without_energy((b.key for b in blocks), {k: s.costs for k, s in table.statistics.items()}))
    todo = [b for b in blocks if b.key in missing]
    if not todo:
        return 0

    from hwnas.supernet.untrained import untrained_block

    def export(block: Block, path: Path) -> Artefact:
        return untrained_block(block, symmetric=work.symmetric).write(work.exporter, path)

    failed = 0
    with console.progress(f"blocks, {table.context.precision}") as progress:
        # in parts: all files of a large space may not fit the disk
        for start in range(0, len(todo), _EXPORTED_AT_ONCE):
            part = todo[start : start + _EXPORTED_AT_ONCE]
            results, _ = _measure(
                opened,
                {b.key: b for b in part},
                export,
                settings=timing(work),
                progress=lambda done, _, note, start=start: progress(start + done, len(todo), note),  # type: ignore[misc]
                keep=lambda results, sizes: table.append_blocks(results, sizes=sizes),
            )
            failed += sum(isinstance(r, MeasurementFailure) for r in results.values())
    return failed


def _measure_networks(opened: _OpenTable, networks: Sequence[tuple[Block, ...]], *, console: Console) -> int:
    """Measure what a table lacks of these networks; how many failed."""
    work, table = opened.work, opened.table
    wanted = {ENERGY} if work.device.meter else set()
    measured = {n.blocks for n in table.networks if wanted <= n.statistic.costs.keys()}
    todo = {keys: n for n in networks if (keys := tuple(b.key for b in n)) not in measured}
    if not todo:
        return 0

    from hwnas.supernet.untrained import untrained_network

    def export(network: tuple[Block, ...], path: Path) -> Artefact:
        precision = artefact_precision(network)
        return untrained_network(network, precision=precision, symmetric=work.symmetric).write(work.exporter, path)

    def keep(results: Mapping[str, Timing], sizes: Mapping[str, int]) -> None:
        for name, result in results.items():
            # a network that failed is no entry: it is tried again the next time
            if isinstance(result, Statistic):
                table.append_network(names[name], result, size_bytes=sizes[name])

    names = {f"network {i}": keys for i, keys in enumerate(todo)}
    with console.progress(f"networks, {table.context.precision}") as progress:
        results, _ = _measure(
            opened,
            {name: todo[keys] for name, keys in names.items()},
            export,
            settings=timing(work, **_NETWORK_SETTINGS),
            progress=progress,
            keep=keep,
        )
    return sum(isinstance(r, MeasurementFailure) for r in results.values())


def _measure(
    opened: _OpenTable,
    things: Mapping[str, T],
    export: Callable[[T, Path], Artefact],
    *,
    settings: TimingSettings,
    progress: ProgressCallback,
    keep: Callable[[Mapping[str, Timing], Mapping[str, int]], None],
) -> tuple[dict[str, Timing], dict[str, int]]:
    """Export to a temporary folder, measure, and keep each group's results as soon as it is done."""
    with scratch("profile") as folder:
        artefacts = {
            key: export(thing, Path(folder, f"{i}.{opened.work.exporter.format}"))
            for i, (key, thing) in enumerate(things.items())
        }
        sizes = {key: a.size_bytes for key, a in artefacts.items()}
        pending: dict[str, Timing] = {}

        def on_result(key: str, result: Timing) -> None:
            pending[key] = result

        def on_group(done: int, total: int, note: str) -> None:
            # with every group: what a killed process loses is one group
            keep(pending, sizes)
            pending.clear()
            progress(done, total, note)

        results = opened.worker.measure(
            artefacts,
            anchor=opened.anchor,
            anchor_ms=opened.table.context.reference_ms,
            settings=settings,
            progress=on_group,
            on_result=on_result,
        )
    return results, sizes


def _summary(work: Workspace, *, seconds: float) -> ProfileResult:
    costs = load_costs(work)
    return ProfileResult(
        device=work.device.name,
        runtime=work.device.runtime,
        precisions=tuple(work.space.precisions),
        n_blocks=len(costs.blocks.blocks),
        n_networks=len(costs.networks),
        plain_sums=_plain_sums(costs.networks, costs.entries),
        correction=costs.latency,
        latency_ms_bounds=costs.models["latency_ms"].bounds(),
        largest_ms=costs.largest_ms,
        largest_precision=work.widest_precision,
        folder=work.tables,
        tables=dict(costs.hashes),
        seconds=seconds,
        costs=costs,
    )


def _plain_sums(networks: Sequence[Any], entries: Mapping[str, float]) -> PredictionQuality:
    # uncorrected, to show what the correction is worth
    sums = np.array([sum(entries[k] for k in n.blocks) for n in networks])
    return PredictionQuality.of(sums, np.array([n.statistic.minimum for n in networks]))
