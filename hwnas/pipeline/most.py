"""`search --exact --most macs|entropy`: the largest network within the limits, before anything is trained or evaluated.

By its multiply-accumulates, or by its entropy, which stands for accuracy where none is known (DeepMAD: Shen et al.,
2023). An integer program finds it (`hwnas.cost.milp`), and of all that are as large the fastest: no other network is
both as large and faster. Knows tables and limits; never a supernet, a study or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwnas._console import Console
from hwnas._places import quoted
from hwnas.allowed import Limits
from hwnas.config import Config
from hwnas.cost import Objective, SlotCost, SlotTable, Solution, best_within, entropy
from hwnas.cost.elimination import Factor
from hwnas.cost.exact import UndecidedError
from hwnas.errors import ConfigError, StudyError, UnknownNameError
from hwnas.limits import Limit
from hwnas.pipeline.costs import Costs, load_costs, reachable_limits
from hwnas.quantities import metric_name
from hwnas.results import Result, Shown
from hwnas.spaces import Space
from hwnas.types import IntArray, Option
from hwnas.workspace import Workspace

ENTROPY = "entropy"
SIZES = ("macs", ENTROPY)  # what a network may have most of
_SECONDS = 60.0  # for each of two programs; the presets need a few
_SAME = 1e-9  # sums of floats differ by no more, whatever their order


@dataclass(frozen=True, slots=True, kw_only=True)
class MostResult(Result):
    """The largest network within the limits.

    Attributes:
        folder: of the run.
        most: what it has most of: `macs` or `entropy`.
        limits: metric -> value, in absolute numbers.
        architecture: choice name -> option.
        metrics: metric -> value, the entropy among them; `upper` likewise -> upper bound, by which limits are kept.
        upper: see there.
        gap: by how much another network could have more, by the solver's own bound.
        solver_seconds: what the integer programs took.
        notes: for people.
    """

    folder: Path
    most: str
    limits: Limits
    architecture: Mapping[str, Option]
    metrics: Mapping[str, float]
    upper: Mapping[str, float]
    gap: float
    solver_seconds: float
    notes: tuple[str, ...]

    @property
    def shown(self) -> Shown:
        """Its choices are for programs; people see what it has and what it costs."""
        name, v = metric_name(self.most), self.metrics
        return Shown(
            title=f"The network with the most {name} within the limits",
            rows=[
                (self.most, _number(v[self.most])),
                *((m, _number(v[m])) for m in (*SIZES, "parameters") if m != self.most),
                ("latency_ms (estimated)", v["latency_ms"]),
                ("size_bytes", round(v["size_bytes"])),
                (f"no other has more {name} by more than", f"{self.gap:.2g}"),
                ("solved in", f"{self.solver_seconds:.2f} s"),
            ],
            notes=self.notes,
        )


def most_within(config: Config, *, most: str, console: Console) -> MostResult:
    """The network that has most of something, of those that keep the limits; reads tables and writes nothing.

    Args:
        config: of a run for one device.
        most: of what: one of `SIZES`.
        console: to speak on.

    Raises:
        UnknownNameError: it is something else.
        ConfigError: the run is for several devices.
        InfeasibleError: no network keeps the limits; names the smallest reachable value.
        SpaceError: the space's networks have no entropy.
        StudyError: the solver found no network in its time.
        TableError: the device was not profiled yet.
    """
    if most not in SIZES:
        raise UnknownNameError("quantity in --most", most, (config.ranked_by, *SIZES))
    check_one_device(config)
    work = Workspace(config.single, tell=console.warn)
    costs = load_costs(work)
    limits, _ = reachable_limits(work, costs)
    models = {**costs.models, ENTROPY: _entropy_model(work.space, costs)}
    with console.progress(f"most {metric_name(most)}"):
        found, fastest, seconds = _solved(work.space, models, costs.limits_among(limits), most=most)
    estimates = {m: model.estimate(fastest[None]) for m, model in models.items()}
    return MostResult(
        folder=work.folder,
        most=most,
        limits=limits,
        architecture=work.space.decode(fastest),
        metrics={m: float(e.value[0]) for m, e in estimates.items()},
        upper={m: float(e.upper[0]) for m, e in estimates.items()},
        gap=max(0.0, found.bound - float(estimates[most].value[0])),
        solver_seconds=seconds,
        notes=tuple(_notes(work, limits)),
    )


def check_one_device(config: Config) -> None:
    """Refuse a run for several: an exact search has one answer.

    Raises:
        ConfigError: it is one.
    """
    if config.is_fleet:
        raise ConfigError(
            f"--exact is for one device; name one of {', '.join(config.device.all)} with --device, and one budget with "
            "--limit"
        )


def _solved(
    space: Space, models: Mapping[str, SlotCost], limits: tuple[Limit, ...], *, most: str
) -> tuple[Solution, IntArray, float]:
    """The largest network; (D,) the fastest of those that are as large; seconds for both."""
    table, latency = models[most].table, models["latency_ms"].table
    try:
        found = best_within(
            Objective(factors=table.factors, constant=table.offset),
            space,
            models=models,
            limits=limits,
            seconds=_SECONDS,
        )
    except UndecidedError as e:
        raise StudyError(f"{e}; `hwnas search` looks for networks without a proof") from e
    as_large = Limit(metric=most, value=found.value * (1 - _SAME), floor=True)
    faster = Objective(factors=tuple(Factor(scope=f.scope, values=-f.values) for f in latency.factors))
    try:
        fastest = best_within(faster, space, models=models, limits=(*limits, as_large), seconds=_SECONDS)
    except UndecidedError:  # none that is faster in that time
        return found, found.encoding, found.seconds + _SECONDS
    return found, fastest.encoding, found.seconds + fastest.seconds


def _entropy_model(space: Space, costs: Costs) -> SlotCost:
    objective = entropy(costs.blocks)
    sizes = tuple(len(c.options) for c in space.choices)
    table = SlotTable(sizes=sizes, factors=objective.factors, offset=objective.constant, canonical=space.canonical)
    return SlotCost(metric=ENTROPY, table=table)


def _notes(work: Workspace, limits: Limits) -> list[str]:
    notes = []
    if work.config.ranked_by in limits:
        notes.append(f"The limit on {metric_name(work.config.ranked_by)} was left aside: nothing was evaluated")
    folder = quoted(work.folder)
    notes.append(
        f"With --json it tells its choices; as `architecture` of a file, `hwnas export {folder} --architecture FILE` "
        "exports and verifies exactly it"
    )
    return notes


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.2f}"
