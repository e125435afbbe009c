"""Stage `profile`: time every distinct block of the space, whole networks and pairs of neighbours on the device.

Everything measured is appended to the device's tables at once, so an interrupted profile goes on
where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hwnas._console import Console
from hwnas.audit import advise
from hwnas.config import Config
from hwnas.cost import Correction, PredictionQuality
from hwnas.measure.boards import Boards, BoardShare
from hwnas.measure.connection import check_board_is_named
from hwnas.pipeline._boards import open_boards
from hwnas.pipeline._last_used import begin, keep_tables
from hwnas.pipeline._one_phase import bring_to_one_phase
from hwnas.pipeline._timed_table import neighbours, open_tables
from hwnas.pipeline.costs import Costs, load_costs, precision_of
from hwnas.pipeline.training import refuse_other_run
from hwnas.quantities import count, percent, quantity
from hwnas.results import Result, Shown
from hwnas.types import Block
from hwnas.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class ProfileResult(Result):
    """What a device was found to take.

    Attributes:
        device: its name.
        runtime: registered name.
        precisions: of the space, as they are computed.
        n_blocks: distinct ones in the tables.
        n_networks: whole ones.
        n_outside_phase: times of these, or of pairs, that were taken while the machine was slower than for the others,
            and could not be had otherwise.
        plain_sums: how well sums of blocks predict whole networks.
        correction: of the sums, with how well it predicts networks it was not fitted to.
        latency_ms_bounds: of the fastest and the slowest network of the space.
        largest_ms: of the largest network.
        largest_precision: it was measured in.
        folder: of the tables.
        tables: name of a table -> checksum.
        seconds: this profile took.
        boards: what each of several boards did; empty for one.
        costs: what the tables tell, for the stages that follow; no value for programs.
    """

    device: str
    runtime: str
    precisions: tuple[str, ...]
    n_blocks: int
    n_networks: int
    n_outside_phase: int
    plain_sums: PredictionQuality
    correction: Correction
    latency_ms_bounds: tuple[float, float]
    largest_ms: float
    largest_precision: str
    folder: Path
    tables: Mapping[str, str]
    seconds: float
    boards: tuple[BoardShare, ...]
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
                *([("taken while the machine was slower", self.n_outside_phase)] if self.n_outside_phase else []),
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
                *((f"board {share.board}", share.shown) for share in self.boards),
            ],
        )


def profile(config: Config, *, console: Console) -> ProfileResult:
    """Measure what the device's tables lack, and end with the error on networks the correction did not see.

    Likewise each other device that the limits name.

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
    with (
        work.alone("profiling"),
        work.measuring_alone(console),
        open_boards(work, console=console) as worker,
    ):
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
        tables = open_tables(work, worker, context, needed, console=console)
        # once all tables could be opened: a contradiction must not be written into the run's configuration
        begin(work, console=console)
        blocks = space.distinct_blocks()
        of_table = {p: [n for n in networks if precision_of(n) == p] for p in tables}
        failures = 0
        # blocks of all precisions first: whole networks need their entries to be of use
        for precision, opened in tables.items():
            lacking = opened.lacking_blocks([b for b in blocks if b.precision == precision])
            failures += opened.time_blocks(lacking, console=console)
        for precision, opened in tables.items():
            opened.time_networks(opened.lacking_networks(of_table[precision]), console=console)
        pairs = neighbours(work, networks)
        for precision, opened in tables.items():
            lacking_pairs = opened.lacking_pairs([p for p in pairs if p[0].precision == precision], blocks)
            opened.time_pairs(lacking_pairs, console=console)
        n_outside = bring_to_one_phase(tables, blocks, of_table, console=console)
        keep_tables(work, (opened.table for opened in tables.values()))
        boards = worker.shares() if isinstance(worker, Boards) else ()
    if failures:
        console.warn(
            f"{count(failures, 'block')} could not be measured; the reasons are in the tables in {work.tables}"
        )
    seconds = time.monotonic() - started
    for other in work.others:
        console.note(f"-- profile {other.device.name}, which has limits too")
        profile(other.config, console=console)
    return _summary(work, n_outside=n_outside, seconds=seconds, boards=boards)


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


def _summary(work: Workspace, *, n_outside: int, seconds: float, boards: tuple[BoardShare, ...]) -> ProfileResult:
    costs = load_costs(work)
    return ProfileResult(
        device=work.device.name,
        runtime=work.device.runtime,
        precisions=tuple(work.space.precisions),
        n_blocks=len(costs.blocks.blocks),
        n_networks=len(costs.networks),
        n_outside_phase=n_outside,
        plain_sums=_plain_sums(costs.networks, costs.entries),
        correction=costs.latency,
        latency_ms_bounds=costs.models["latency_ms"].bounds(),
        largest_ms=costs.largest_ms,
        largest_precision=work.widest_precision,
        folder=work.tables,
        tables=dict(costs.hashes),
        seconds=seconds,
        boards=boards,
        costs=costs,
    )


def _plain_sums(networks: Sequence[Any], entries: Mapping[str, float]) -> PredictionQuality:
    # uncorrected, to show what the correction is worth
    sums = np.array([sum(entries[k] for k in n.blocks) for n in networks])
    return PredictionQuality.of(sums, np.array([n.statistic.minimum for n in networks]))
