"""One latency table while it is measured: opened, and filled with the times of blocks, of pairs and of whole networks.

What was measured is appended at once, so an interrupted profile goes on where it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hwnas import registry
from hwnas._console import Console
from hwnas.cost import analytic
from hwnas.cost.cuts import cut_of
from hwnas.cost.energy import METRIC as ENERGY
from hwnas.cost.energy import without_energy
from hwnas.cost.table import LatencyTable, TableContext, repair_table
from hwnas.errors import ExportError
from hwnas.files import sha256_file, write_whole
from hwnas.measure import TimingSettings, Worker, artefact_from_file
from hwnas.measure.boards import Boards
from hwnas.pipeline._exports import Exports
from hwnas.pipeline.costs import anchor_path, anchor_precision, artefact_precision, table_path
from hwnas.precisions import is_conversion
from hwnas.quantities import count
from hwnas.scratch import scratch
from hwnas.types import Artefact, Block, MeasurementFailure, ProgressCallback, Statistic
from hwnas.workspace import Workspace

_LOOKED_THROUGH = 200  # networks of each precision, for neighbours
NETWORK_SETTINGS = {"rounds": 61, "min_rounds": 15, "target_error": 0.006}  # longer: they are the yardstick

Timing = Statistic | MeasurementFailure
Key = str | tuple[str, ...]  # of a block, or of a network's blocks
T = TypeVar("T")


def _whatever(key: Key, result: Timing) -> bool:
    """Keep it."""
    return True


@dataclass(frozen=True, kw_only=True)
class TimedTable:
    """One table, and what measures into it.

    Attributes:
        work: the run.
        worker: that measures: one board or this machine, or boards of a kind.
        table: results go to.
        anchor: the model that runs among the rounds.
    """

    work: Workspace
    worker: Worker | Boards
    table: LatencyTable
    anchor: Artefact

    def lacking_blocks(self, blocks: Sequence[Block]) -> list[Block]:
        """Those of these blocks that the table has no time of; where the device has a meter, or no energy of."""
        missing = set(self.table.missing(b.key for b in blocks))
        if self.work.device.meter:  # the device may have got it after it was profiled
            known = {key: s.costs for key, s in self.table.statistics.items()}
            missing.update(without_energy((b.key for b in blocks), known))
        return [b for b in blocks if b.key in missing]

    def lacking_networks(self, networks: Sequence[tuple[Block, ...]]) -> list[tuple[Block, ...]]:
        """Likewise of networks, each once."""
        wanted = {ENERGY} if self.work.device.meter else set()
        measured = {n.blocks for n in self.table.networks if wanted <= n.statistic.costs.keys()}
        return list({keys: n for n in networks if (keys := tuple(b.key for b in n)) not in measured}.values())

    def lacking_pairs(self, pairs: Sequence[tuple[Block, ...]], blocks: Sequence[Block]) -> list[tuple[Block, ...]]:
        """Those of these pairs whose tensor no pair of these blocks cuts that ends in the same kind of block."""
        keys = {b.key for b in blocks}
        of_space = [pair.blocks for pair in self.table.pairs if keys.issuperset(pair.blocks)]
        known = {_cut([Block.from_key(key) for key in pair]) for pair in of_space}
        return [pair for pair in pairs if _cut(pair) not in known]

    def time_blocks(
        self,
        blocks: Sequence[Block],
        *,
        console: Console,
        label: str = "blocks",
        counts: Callable[[Key, Timing], bool] = _whatever,
    ) -> int:
        """Measure blocks and append what counts; how many failed.

        Args:
            blocks: of the table's precision.
            console: shows how far it is.
            label: of that.
            counts: whether what was found for a block is to be kept.
        """
        if not blocks:
            return 0

        from hwnas.supernet.untrained import untrained_block

        def export(block: Block, path: Path) -> Artefact:
            return untrained_block(block, symmetric=self.work.symmetric).write(self.work.exporter, path)

        def keep(results: Mapping[str, Timing], sizes: Mapping[str, int]) -> None:
            kept = {key: result for key, result in results.items() if counts(key, result)}
            self.table.append_blocks(kept, sizes=sizes, boards=self._measured_by())

        with console.progress(f"{label}, {self.table.context.precision}") as progress:
            results = self._measure(
                {b.key: b for b in blocks}, export, settings=timing(self.work), progress=progress, keep=keep
            )
        return sum(isinstance(r, MeasurementFailure) for r in results.values())

    def time_networks(
        self,
        networks: Sequence[tuple[Block, ...]],
        *,
        console: Console,
        label: str = "networks",
        counts: Callable[[Key, Timing], bool] = _whatever,
    ) -> int:
        """Measure whole networks and append what counts, as `time_blocks` does; how many failed."""
        from hwnas.supernet.untrained import untrained_network

        def export(network: tuple[Block, ...], path: Path) -> Artefact:
            untrained = untrained_network(network, precision=artefact_precision(network), symmetric=self.work.symmetric)
            return untrained.write(self.work.exporter, path)

        settings = timing(self.work, **NETWORK_SETTINGS)
        return self._time_chains(networks, export, settings=settings, console=console, label=label, counts=counts)

    def time_pairs(
        self,
        pairs: Sequence[tuple[Block, ...]],
        *,
        console: Console,
        label: str = "pairs",
        counts: Callable[[Key, Timing], bool] = _whatever,
    ) -> None:
        """Measure pairs of neighbouring blocks and append what counts, as `time_blocks` does.

        What can be done without them does not end for them: of one that cannot be written is told, and no more are.
        """
        from hwnas.supernet.untrained import untrained_part

        def export(pair: tuple[Block, ...], path: Path) -> Artefact:
            return untrained_part(pair, symmetric=self.work.symmetric).write(self.work.exporter, path)

        settings = timing(self.work, energy=False)  # of which nothing is made
        try:
            self._time_chains(
                pairs, export, settings=settings, console=console, label=label, counts=counts, is_pair=True
            )
        except ExportError as e:
            console.warn(
                f"not all pairs of neighbouring blocks could be measured in {self.table.context.precision}, and "
                f"predictions do without: {e}"
            )

    def _time_chains(
        self,
        chains: Sequence[tuple[Block, ...]],
        export: Callable[[tuple[Block, ...], Path], Artefact],
        *,
        settings: TimingSettings,
        console: Console,
        label: str,
        counts: Callable[[Key, Timing], bool],
        is_pair: bool = False,
    ) -> int:
        if not chains:
            return 0

        def keep(results: Mapping[str, Timing], sizes: Mapping[str, int]) -> None:
            for name, result in results.items():
                # a network that failed is no entry: it is tried again the next time
                if isinstance(result, Statistic) and counts(keys[name], result):
                    board = self._measured_by().get(name, "")
                    self.table.append_network(keys[name], result, size_bytes=sizes[name], board=board, is_pair=is_pair)

        named = {f"{'pair' if is_pair else 'network'} {i}": chain for i, chain in enumerate(chains)}
        keys = {name: tuple(b.key for b in chain) for name, chain in named.items()}
        with console.progress(f"{label}, {self.table.context.precision}") as progress:
            results = self._measure(named, export, settings=settings, progress=progress, keep=keep)
        failures = {name: r.reason for name, r in results.items() if isinstance(r, MeasurementFailure)}
        if failures:  # which are in no table
            name, reason = next(iter(failures.items()))
            of = f" ({' + '.join(keys[name])})" if is_pair else ""
            console.warn(
                f"{len(failures)} of {count(len(chains), 'pair' if is_pair else 'network')} could not be measured in "
                f"{self.table.context.precision}; the first{of}: {reason}"
            )
        return len(failures)

    def _measured_by(self) -> Mapping[str, str]:
        """Key -> which of several boards measured it; empty for one."""
        return self.worker.measured_by if isinstance(self.worker, Boards) else {}

    def _measure(
        self,
        things: Mapping[str, T],
        export: Callable[[T, Path], Artefact],
        *,
        settings: TimingSettings,
        progress: ProgressCallback,
        keep: Callable[[Mapping[str, Timing], Mapping[str, int]], None],
    ) -> dict[str, Timing]:
        """Export to a temporary folder, measure, and keep each group's results as soon as it is done."""
        with scratch("profile") as folder:
            artefacts = Exports(things, export, folder=folder, suffix=self.work.exporter.format)
            pending: dict[str, Timing] = {}

            def on_result(key: str, result: Timing) -> None:
                pending[key] = result

            def on_group(done: int, total: int, note: str) -> None:
                # with every group: what a killed process loses is one group
                keep(pending, {key: artefacts[key].size_bytes for key in pending})
                # all files of a large space may not fit the disk
                artefacts.remove(pending)
                pending.clear()
                progress(done, total, note)

            return self.worker.measure(
                artefacts,
                anchor=self.anchor,
                anchor_ms=self.table.context.reference_ms,
                settings=settings,
                progress=on_group,
                on_result=on_result,
            )


def neighbours(work: Workspace, networks: Iterable[Sequence[Block]]) -> list[tuple[Block, ...]]:
    """Pairs of neighbouring blocks of the space: for each tensor that is handed on, one for each kind that takes it.

    The cheapest that these and other random networks have: in them what the tensor costs shows best.
    """
    rng = np.random.default_rng([work.config.search.seed, 11])
    found: dict[tuple[str, str], tuple[tuple[float, str, str], tuple[Block, ...]]] = {}
    parts = [work.space.restrict(precisions=(p,)) for p in work.space.precisions]
    others = (
        [block for _, block in part.named_blocks(encoding)]
        for part in parts
        for encoding in part.sample(_LOOKED_THROUGH, rng, over="encodings")
    )
    # of one precision of the space alone: the largest network may be of a wider one, whose blocks have no entries
    known = (n for n in networks if any({b.precision for b in n} == {p} for p in work.space.precisions))
    for network in itertools.chain(known, others):
        for pair in itertools.pairwise(network):
            if any(is_conversion(b.kind) for b in pair):
                continue
            order = (float(sum(analytic.macs(b) for b in pair)), pair[0].key, pair[1].key)
            if (name := _cut(pair)) not in found or order < found[name][0]:
                found[name] = order, pair
    return [pair for _, pair in found.values()]


def _cut(pair: Sequence[Block]) -> tuple[str, str]:
    """Names what a pair cuts: the tensor, and the kind of block that takes it."""
    return cut_of(pair[0]) or "", pair[1].kind


def open_tables(
    work: Workspace, worker: Worker | Boards, context: Mapping[str, str], precisions: Iterable[str], *, console: Console
) -> dict[str, TimedTable]:
    """Each precision's table; what there is none of yet is begun, damaged lines are put aside.

    Raises:
        TableContextError: a table was measured in another context (machine, runtime version, threads).
        MeasurementError: a drift anchor cannot be measured.
    """
    opened: dict[str, TimedTable] = {}
    for precision in precisions:
        opened[precision] = _open(work, worker, context, precision, others=opened.values(), console=console)
    return opened


def _open(
    work: Workspace,
    worker: Worker | Boards,
    context: Mapping[str, str],
    precision: str,
    *,
    others: Iterable[TimedTable],
    console: Console,
) -> TimedTable:
    """A precision's table and its drift anchor, given the tables opened before."""
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
    # two tables of one anchor have one time of it: else what both correct to would lie apart by their difference
    known = next((o.table.context.reference_ms for o in others if o.anchor.sha256 == anchor.sha256), None)
    if begun is not None:
        anchor_ms = begun.reference_ms
    elif known is not None:
        anchor_ms = known
    else:
        # the time that every entry is corrected to, so it is measured as long as a whole network
        anchor_ms = worker.measure_anchor(anchor, settings=timing(work, **NETWORK_SETTINGS)).minimum
    wanted = TableContext.of(
        work.device, context, precision=precision, reference_sha256=anchor.sha256, reference_ms=anchor_ms
    )
    return TimedTable(work=work, worker=worker, table=LatencyTable.open(path, wanted), anchor=anchor)


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


def timing(work: Workspace, **changes: Any) -> TimingSettings:
    """The run's timing settings; `profile.rounds` bounds the rounds."""
    rounds = work.config.profile.rounds
    values = dict(changes)
    if rounds is not None:
        values["rounds"] = rounds
        # `TimingSettings` refuses more rounds at least than at most
        values["min_rounds"] = min(values.get("min_rounds", TimingSettings().min_rounds), rounds)
    return TimingSettings(**values)
