"""Latency tables of a run's device, and the cost models made from them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hwnas.allowed import Allowed, Limits
from hwnas.cost import (
    Correction,
    NetworkSample,
    SlotBlocks,
    SlotCost,
    check_reachable,
    closed_form_costs,
    corrected_cost,
    fit_correction,
    size_entries,
)
from hwnas.cost.cuts import cut_costs
from hwnas.cost.energy import EnergyModel, energy_model, no_energy_error
from hwnas.cost.memory import memory_cost
from hwnas.cost.table import LatencyTable, NetworkEntry
from hwnas.errors import ConfigError, InfeasibleError, TableContextError, TableError
from hwnas.files import sha256_file
from hwnas.limits import Limit, as_limits, as_mapping, round_up
from hwnas.pipeline._last_used import LastUsed
from hwnas.precisions import EXACT, KNOWN, asked_as, is_conversion, is_quantized
from hwnas.types import Block, Device, IntArray, Option, SearchSpace
from hwnas.workspace import Workspace

OF_DEVICE = ("latency_ms", "size_bytes", "memory_bytes", "energy_mj")  # metrics that differ between devices
MIXED = "mixed"  # the table of whole networks whose blocks differ in precision


def table_path(work: Workspace, precision: str) -> Path:
    """Where the table of one precision is kept."""
    return work.tables / f"{work.device.runtime}-{precision}.jsonl"


def anchor_path(work: Workspace, precision: str) -> Path:
    """Where the drift anchor of one table is kept."""
    return work.tables / f"{work.device.runtime}-{precision}.reference.{work.exporter.format}"


def precision_of(blocks: Sequence[Block]) -> str:
    """The blocks' precision, or `mixed`: the table a whole network belongs to. Boundaries do not count."""
    found = {b.precision for b in blocks if not is_conversion(b.kind)}
    return found.pop() if len(found) == 1 else MIXED


def artefact_precision(blocks: Sequence[Block]) -> str:
    """What the file of a network counts as: quantized as soon as one block is."""
    # runtimes check files by it: integers in a file need a device that computes in them
    return next((b.precision for b in blocks if is_quantized(b.precision)), blocks[0].precision)


def anchor_precision(computed: Mapping[str, str], precision: str) -> str:
    """That of the drift anchor of a table: what floats are computed in, beside networks of mixed precision."""
    return computed[EXACT] if precision == MIXED else precision


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Everything that is known about cost on one device, for one space.

    Attributes:
        blocks: of the space.
        entries: block key -> latency in milliseconds.
        networks: whole networks that were measured, each once.
        latency: correction of the sums of entries.
        size: correction of the closed-form file sizes.
        largest_ms: measured latency of the largest network at the device's widest precision: what fractions are
            fractions of.
        memory: model of `memory_bytes`, None where nothing told the networks' memory.
        energy: model of `energy_mj`, None where neither a meter nor a stated power tells it.
        device: they are of.
        hashes: table file name -> SHA-256; of other devices with their names before it.
        others: device name -> the same of other devices that limits name, over the same encodings.
    """

    blocks: SlotBlocks
    entries: Mapping[str, float]
    networks: tuple[NetworkEntry, ...]
    latency: Correction
    size: Correction
    largest_ms: float
    memory: SlotCost | None
    energy: EnergyModel | None
    device: Device
    hashes: Mapping[str, str]
    others: Mapping[str, Costs] = field(default_factory=dict)

    @cached_property
    def models(self) -> dict[str, SlotCost]:
        """Metric -> cost model: latency_ms, size_bytes, macs, ...; memory_bytes and energy_mj where something tells.

        Those of other devices are called by the device: `my-pi.latency_ms`.
        """
        elsewhere = {
            f"{name}.{metric}": dataclasses.replace(costs.models[metric], metric=f"{name}.{metric}")
            for name, costs in self.others.items()
            for metric in OF_DEVICE
            if metric in costs.models
        }
        return {
            **elsewhere,
            **({"memory_bytes": self.memory} if self.memory is not None else {}),
            **({"energy_mj": self.energy.cost} if self.energy is not None else {}),
            "latency_ms": corrected_cost("latency_ms", self.blocks, entries=self.entries, correction=self.latency),
            "size_bytes": corrected_cost(
                "size_bytes", self.blocks, entries=size_entries(self.blocks.blocks), correction=self.size
            ),
            **closed_form_costs(self.blocks),
        }

    def limits_among(self, limits: Limits) -> tuple[Limit, ...]:
        """Those of the limits that costs decide; the others are on what is evaluated."""
        return tuple(limit for limit in as_limits(limits) if limit.metric in self.models)


def load_costs(work: Workspace) -> Costs:
    """Read the device's tables and fit the corrections; likewise of other devices that the limits name.

    Raises:
        TableError: a device was not profiled (completely) yet, or a table is damaged.
        ConfigError: another device does not compute in all precisions of the space.
    """
    others = {other.device.name: _costs_elsewhere(work, other) for other in work.others}
    tables = _open_tables(work)
    blocks = SlotBlocks.of(work.space)
    entries: dict[str, float] = {}
    for block in blocks.blocks:
        entries[block.key] = tables[block.precision].latency_ms(block.key)
    networks = {n.blocks: n for t in tables.values() for n in t.networks}  # measured again: the last counts
    # tables are shared by runs: networks of other spaces are in them too
    usable = tuple(n for n in networks.values() if all(key in entries for key in n.blocks))
    if len(usable) < 4:
        raise TableError(
            f"the tables in {work.tables} hold {len(usable)} whole networks of this space; "
            "measure more with `hwnas profile`"
        )
    largest = largest_network(work)
    if largest not in networks:
        raise TableError(f"the largest network was not measured in {work.tables}; run `hwnas profile`")
    fit = functools.partial(fit_correction, seed=work.config.search.seed, confidence=work.config.profile.confidence)
    # minima, as the entries are: a median would bring its disturbances into the correction
    # measured again: the last counts
    pairs = {n.blocks: n.statistic.minimum for t in tables.values() for n in t.pairs}
    latency = fit(
        [NetworkSample(blocks=n.blocks, measured=n.statistic.minimum) for n in usable],
        entries,
        cuts=cut_costs(pairs.items(), entries),
    )
    sizes = [NetworkSample(blocks=n.blocks, measured=float(n.size_bytes)) for n in usable]
    # blocks alone, by key: keys of all precisions differ
    alone = {key: s.costs for t in tables.values() for key, s in t.statistics.items()}
    return Costs(
        blocks=blocks,
        entries=entries,
        networks=usable,
        latency=latency,
        size=fit(sizes, size_entries(blocks.blocks)),
        largest_ms=networks[largest].statistic.minimum,
        memory=memory_cost(
            blocks,
            entries={key: costs["memory_bytes"] for key, costs in alone.items() if "memory_bytes" in costs},
            networks=[
                (n.blocks, n.statistic.costs["memory_bytes"]) for n in usable if "memory_bytes" in n.statistic.costs
            ],
            seed=work.config.search.seed,
            confidence=work.config.profile.confidence,
        ),
        energy=energy_model(
            blocks,
            latency=corrected_cost("latency_ms", blocks, entries=entries, correction=latency),
            entries=alone,
            networks=usable,
            device=work.device,
            seed=work.config.search.seed,
            confidence=work.config.profile.confidence,
        ),
        device=work.device,
        hashes={t.path.name: sha256_file(t.path) for t in tables.values()}
        | {f"{name}/{table}": digest for name, costs in others.items() for table, digest in costs.hashes.items()},
        others=others,
    )


def _costs_elsewhere(work: Workspace, other: Workspace) -> Costs:
    """What the networks of one device cost on another.

    Raises:
        ConfigError: the other has not the same networks.
        TableError: it was not profiled.
    """
    if _offered(other.space) != _offered(work.space):
        raise ConfigError(
            f"limits on {other.device.name}: it computes in {', '.join(other.space.precisions)}, and networks for "
            f"{work.device.name} are in {', '.join(work.space.precisions)}; name precisions that both have in [space]"
        )
    try:
        return load_costs(other)
    except TableError as e:
        raise TableError(f"limits on {other.device.name}: {e}; it measures every device that limits name") from e


def _offered(space: SearchSpace) -> list[tuple[str, list[Option]]]:
    """Each choice with its options, precisions as they are offered, by whatever name a device computes in them."""
    return [
        (c.name, [asked_as(o) if isinstance(o, str) and o in KNOWN else o for o in c.options]) for c in space.choices
    ]


def _open_tables(work: Workspace) -> dict[str, LatencyTable]:
    """Precision -> its table, checked against what the run knew of it; that of mixed networks where there is one."""
    tables, known = {}, LastUsed.of(work.folder)
    for precision in dict.fromkeys([work.widest_precision, *work.space.precisions, MIXED]):
        path = table_path(work, precision)
        # mixed networks are few and may be none; but one that the run had must not be missing unnoticed
        if precision != MIXED or path.exists() or known.knows(path):
            _check_same_precision(work, path, precision)
            tables[precision] = LatencyTable.open(path)
            # a table that lost its last lines looks whole: only its former length tells
            known.check(tables[precision])
    return tables


def _check_same_precision(work: Workspace, path: Path, precision: str) -> None:
    """Say what is wrong where tables of the precision that was offered are there, and the device computes in another.

    Raises:
        TableContextError: they were measured on another machine, or by a version that called both by one name.
    """
    offered = MIXED if precision == MIXED else asked_as(precision)
    if not path.exists() and offered != precision and table_path(work, offered).exists():
        raise TableContextError(str(table_path(work, offered)), {"precision": (offered, precision)})


def largest_network(work: Workspace) -> tuple[str, ...]:
    """Block keys of the largest network at the device's widest precision."""
    space = work.widest_space
    return tuple(b.key for _, b in space.named_blocks(space.largest()))


def reachable_limits(work: Workspace, costs: Costs) -> tuple[dict[str, Allowed], IntArray | None]:
    """The configuration's limits as absolute numbers, and a network that keeps them, if one is known.

    Raises:
        InfeasibleError: no network of the space keeps them; names the smallest reachable value.
    """
    limits = absolute_limits(work, costs)
    try:
        fitting = check_reachable(costs.models, costs.limits_among(limits), work.space)
    except InfeasibleError as e:
        if work.config.limits.latency_fraction is None or e.metric != "latency_ms" or e.reachable is None:
            raise
        fraction = e.reachable / costs.largest_ms
        while fraction * costs.largest_ms < e.reachable:  # rounding may have fallen short
            fraction = math.nextafter(fraction, math.inf)
        raise InfeasibleError(
            f"{e}; as latency_fraction (of {costs.largest_ms:.4g} ms) it is {round_up(fraction)}",
            metric=e.metric,
            limit=e.limit,
            reachable=e.reachable,
            architecture=e.architecture,
        ) from e
    return limits, fitting


def absolute_limits(work: Workspace, costs: Costs) -> dict[str, Allowed]:
    """The configuration's limits and the device's own, the tighter of each; a fraction turned into milliseconds.

    Raises:
        ConfigError: a limit on something that this device tells nothing about; or nothing is left between one of the
            configuration and one of the device.
    """
    limits = work.config.limits.absolute()
    fraction = work.config.limits.latency_fraction
    if fraction is not None:
        # of what was measured, so that a fraction means the same whatever the estimate
        limits["latency_ms"] = fraction * costs.largest_ms
    # a fleet's limits name all of its devices: one of them is this one
    own = f"{work.device.name}."
    asked = [dataclasses.replace(x, metric=x.metric.removeprefix(own)) for x in as_limits(limits)]
    # the tighter one of each: a device's own limits hold whatever a run asks for
    elsewhere = {f"{d}.{m}": v for d, other in costs.others.items() for m, v in other.device.limits.items()}
    limits = as_mapping([*asked, *as_limits(costs.device.limits), *as_limits(elsewhere)])
    for limit in as_limits(limits):
        # said apart: it tells how a device gets a meter
        if limit.metric == "energy_mj" and costs.energy is None:
            raise no_energy_error(costs.device, limit)
    for metric in limits:
        if metric not in costs.models and metric != work.config.ranked_by:
            raise ConfigError(
                f"nothing tells {metric} on device {work.device.name!r}, so its limit cannot be kept; known there: "
                f"{', '.join(costs.models)}"
            )
    return limits


def source_of_cost(metric: str, costs: Costs) -> str:
    """Where the values of a cost come from: `estimated` from tables, `computed`, or how its power is known."""
    device, dot, own = metric.rpartition(".")
    if dot:
        return source_of_cost(own, costs.others[device]) if device in costs.others else "estimated"
    if metric == "energy_mj" and costs.energy is not None and costs.energy.estimated:
        return costs.energy.source
    return "estimated" if metric in ("latency_ms", "size_bytes", "memory_bytes", "energy_mj") else "computed"
