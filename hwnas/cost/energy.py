"""The energy of a run (`energy_mj`): a table that adds up as latency does, or an estimate from a stated power.

With a meter, the entries are energies of blocks above the idle level. Each is divided by the energy the drift anchor
took around that moment and multiplied by the median of all those of its table: what a warmer chip or another clock
added cancels. What the table of integers then still has in common against that of floats is a factor, which networks of
mixed precision tell. Their sum is corrected by whole networks and bounded as a latency is. Without a meter, energy is
stated power times the latency model, and called an estimate. It must never know how a sample was taken, or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from hwnas.cost.correction import Correction, NetworkSample, fit_correction
from hwnas.cost.elimination import Factor
from hwnas.cost.model import SlotCost, corrected_cost
from hwnas.cost.slots import SlotBlocks
from hwnas.cost.table import NetworkEntry
from hwnas.errors import ConfigError
from hwnas.limits import Limit
from hwnas.precisions import is_conversion, is_quantized
from hwnas.types import Block, Device

METRIC = "energy_mj"
_ANCHOR = "energy_reference_mj"
_WITHIN_NOISE = "energy_within_noise"
_FLOATS = "floats"  # the anchor of tables of floats and of mixed networks
_FEWEST = 4  # whole networks, to fit to and to bound with
_FITS = 2  # the first finds how the states differ; the second begins there, and its prior, the plain sum, is right
_MOST_NOISE = 0.5  # share of a space's blocks that may be within the meter's noise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnergyModel:
    """How `energy_mj` of a network is known.

    Attributes:
        cost: the model.
        source: for people: what it was made from, beginning with `measured` or `estimated`.
        correction: of the sums of measured entries; None for an estimate.
        anchors: kind of table (`floats`, `int8`) -> the anchor's energy that measured ones are brought to. Both
            stand for one state of the machine where networks of mixed precision were measured.
    """

    cost: SlotCost
    source: str
    correction: Correction | None = None
    anchors: Mapping[str, float] = field(default_factory=dict)

    @property
    def estimated(self) -> bool:
        """Whether nothing was measured."""
        return self.correction is None

    def comparable(self, costs: Mapping[str, float], precision: str) -> float:
        """A measured energy as it would be in the table's state of the machine: what a limit is held against.

        Args:
            costs: of a measured network, with `energy_mj`.
            precision: of the table the network belongs to, or `mixed`.

        Raises:
            KeyError: it has no measured energy.
        """
        return _normalise(costs, self.anchors.get(_anchor_of(precision)))


def energy_model(
    blocks: SlotBlocks,
    *,
    latency: SlotCost,
    entries: Mapping[str, Mapping[str, float]],
    networks: Sequence[NetworkEntry],
    device: Device,
    seed: int,
    confidence: float,
) -> EnergyModel | None:
    """What is known about the energy of a space's networks on a device; None if nothing is.

    Measured energies come first. A device whose meter told too little (its tables were begun without it, or what it
    showed was within its noise) is treated as one without, and `source` says so: its latency is known all the same.

    Args:
        blocks: of the space.
        latency: its model of `latency_ms`, which an estimate is proportional to.
        entries: block key -> other costs of its statistic (`Statistic.costs`).
        networks: measured whole networks, as the tables have them.
        device: with `meter`, `power_w` and `idle_w`.
        seed: decides which networks are held out.
        confidence: of the upper bound, in (0, 1).

    Raises:
        TableError: a measured energy is not positive.
        ConfigError: the stated idle power is not below the stated power.
    """
    # within the noise an energy is only a bound, and a fit would take it for a value
    usable = [n for n in networks if METRIC in n.statistic.costs and _WITHIN_NOISE not in n.statistic.costs]
    lacking = _what_is_lacking(blocks.blocks, entries, n_usable=len(usable), n_networks=len(networks))
    if not lacking:
        # measured energies first: an estimate from stated power knows nothing of how blocks differ
        return _model_measured_energy(
            blocks, entries=entries, networks=usable, device=device, seed=seed, confidence=confidence
        )
    return _estimate_from_power(latency, device, why=f"; meter {device.meter!r}: {lacking}" if device.meter else "")


def no_energy_error(device: Device, limit: Limit | None = None) -> ConfigError:
    """The error for whoever asks for energies of a device of which `energy_model` knows nothing.

    Args:
        device: asked about.
        limit: on energy, if there was one.
    """
    asked = f"the limit {limit}" if limit is not None else METRIC
    if device.meter:
        return ConfigError(
            f"{asked} needs energies, but the tables of device {device.name!r} hold too few from its meter "
            f"{device.meter!r}: they were measured before it had one, or what it showed was within its noise "
            "(energy_within_noise in the tables). Run `hwnas profile` with another folder as profile.tables, on a "
            "quiet machine; or state power_w in the description's [energy] for an estimate"
        )
    return ConfigError(
        f"{asked} needs energies, but device {device.name!r} has neither a meter nor a stated power; give its "
        "description an [energy] section with meter (nvml, rapl or sysfs; `hwnas doctor` shows which work here) and "
        "profile again, or with power_w (and idle_w) for an estimate"
    )


def without_energy(keys: Iterable[str], entries: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """The keys whose measurement has no energy: what to profile again once a device has got a meter.

    Args:
        keys: of blocks.
        entries: block key -> other costs of its statistic.
    """
    return tuple(key for key in keys if METRIC not in entries.get(key, {}))


def _what_is_lacking(
    blocks: Sequence[Block], entries: Mapping[str, Mapping[str, float]], *, n_usable: int, n_networks: int
) -> str:
    """Why measured energies are not enough for a model, "" if they are."""
    n = len(blocks)
    absent = len(without_energy((block.key for block in blocks), entries))
    noisy = sum(_WITHIN_NOISE in entries.get(block.key, {}) for block in blocks)
    if absent:
        return f"{absent} of {n} blocks were measured without it"
    if noisy > _MOST_NOISE * n:
        return f"{noisy} of {n} blocks were within its noise"
    if n_usable < _FEWEST:
        return f"it told the energy of {n_usable} of {n_networks} whole networks clearly, and {_FEWEST} are needed"
    return ""


def _model_measured_energy(
    blocks: SlotBlocks,
    *,
    entries: Mapping[str, Mapping[str, float]],
    networks: Sequence[NetworkEntry],
    device: Device,
    seed: int,
    confidence: float,
) -> EnergyModel:
    keys = [block.key for block in blocks.blocks]
    # kept among the entries: their bounds are from above, so sums stay on the safe side
    noisy = [key for key in keys if _WITHIN_NOISE in entries[key]]
    # one anchor for blocks and networks of a kind: both must be in the same state of the machine to be compared
    anchors = _anchors(blocks.blocks, entries, networks)
    # networks of mixed precision hold the integers' blocks in the floats' state, which ties the two states together
    tied = any(_is_mixed(n) for n in networks)
    states = {kind: kind for kind in anchors if kind != _FLOATS and tied}
    for _ in range(_FITS if states else 1):
        energies = {
            key: _normalise(costs, anchors.get(_anchor_of_block(Block.from_key(key))))
            for key, costs in entries.items()
            if METRIC in costs
        }
        samples = [_sample(n, anchors=anchors, states=states) for n in networks]
        correction = fit_correction(samples, energies, seed=seed, confidence=confidence)
        # a measurement of integers is brought to the floats' state, as the fit has found it
        factors = {kind: correction.factors.get(state, 1.0) for kind, state in states.items()}
        anchors = {kind: anchor * factors.get(kind, 1.0) for kind, anchor in anchors.items()}
    cost = corrected_cost(
        METRIC, blocks, entries=energies, correction=correction, source=f"the energies of device {device.name!r}"
    )
    noise = f"; {len(noisy)} of {len(keys)} blocks within the meter's noise" if noisy else ""
    source = f"measured with meter {device.meter!r}, above the idle level; {correction}{noise}"
    return EnergyModel(cost=cost, source=source, correction=correction, anchors=anchors)


def _sample(network: NetworkEntry, *, anchors: Mapping[str, float], states: Mapping[str, str]) -> NetworkSample:
    kind = _anchor_of_network(network)
    energy_mj = _normalise(network.statistic.costs, anchors.get(kind))
    return NetworkSample(blocks=network.blocks, measured=energy_mj, state=states.get(kind, ""))


def _estimate_from_power(latency: SlotCost, device: Device, *, why: str) -> EnergyModel | None:
    if device.power_w is None:
        return None
    idle_w = device.idle_w or 0.0
    if idle_w >= device.power_w:
        raise ConfigError(
            f"device {device.name!r}: idle_w ({idle_w:g}) must be below power_w ({device.power_w:g}) in [energy]"
        )
    # above idle, as a meter's energies are: the two kinds of model answer the same question
    watts = device.power_w - idle_w
    # W * ms = mJ: energy in proportion to latency, slot by slot, so the exact minimum is that of the latency
    factors = tuple(Factor(scope=f.scope, values=watts * f.values) for f in latency.table.factors)
    table = replace(latency.table, factors=factors, offset=watts * latency.table.offset)
    stated = f"{watts:g} W ({device.power_w:g} W stated for device {device.name!r}"
    stated += f" less {idle_w:g} W idle)" if idle_w else ", idle included)"
    return EnergyModel(
        # the bound of the latency; how wrong the stated power is nobody knows, so `source` calls it an estimate
        cost=SlotCost(metric=METRIC, table=table, upper_ratio=latency.upper_ratio),
        source=f"estimated: {stated} times the latency; no energy was measured{why}",
    )


def _anchors(
    blocks: Sequence[Block], entries: Mapping[str, Mapping[str, float]], networks: Sequence[NetworkEntry]
) -> dict[str, float]:
    """Kind of table -> the median of its anchor's energies: what all its entries are brought to."""
    seen: dict[str, list[float]] = {}
    for block in blocks:
        costs = entries.get(block.key, {})
        if _ANCHOR in costs:
            seen.setdefault(_anchor_of_block(block), []).append(costs[_ANCHOR])
    for network in networks:
        if _ANCHOR in network.statistic.costs:
            seen.setdefault(_anchor_of_network(network), []).append(network.statistic.costs[_ANCHOR])
    # a median: single windows on a meter are noisy, and one bad one would scale every entry
    return {kind: median(energies) for kind, energies in seen.items()}


def _normalise(costs: Mapping[str, float], anchor: float | None) -> float:
    """An energy at the anchor's state of the machine; as it is where no anchor was measured."""
    # no anchor, or one within the meter's noise, of which nothing was written
    if anchor is None or not costs.get(_ANCHOR):
        return costs[METRIC]
    return costs[METRIC] * anchor / costs[_ANCHOR]


def _anchor_of_network(network: NetworkEntry) -> str:
    return _FLOATS if _is_mixed(network) else _anchor_of(_precisions(network).pop())


def _is_mixed(network: NetworkEntry) -> bool:
    return len(_precisions(network)) != 1


def _precisions(network: NetworkEntry) -> set[str]:
    # conversions belong to the boundary between precisions and say nothing of the network's own
    return {b.precision for b in map(Block.from_key, network.blocks) if not is_conversion(b.kind)}


def _anchor_of_block(block: Block) -> str:
    return _anchor_of(block.precision)


def _anchor_of(precision: str) -> str:
    """Which drift anchor a table has: that of whole networks of mixed precision is the one of floats."""
    return _FLOATS if precision == "mixed" or not is_quantized(precision) else precision
