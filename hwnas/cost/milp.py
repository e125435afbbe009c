"""The best network within limits where what is best adds up over a few choices at a time, by integer programming.

The objective is a sum of factors: an accuracy that is linear or pairwise in the choices, as in HardCoRe-NAS (Nayman et
al., 2021), or the arithmetic or entropy of a network. `hwnas.cost._integer` solves it; the cost models themselves say
whether what it finds keeps the limits.

Whether limits can be kept at all, and how little one metric can be, `hwnas.cost.exact` tells sooner: partial networks
that others dominate are dropped, and near what is least few are left. Where limits leave room too many are left, and
this module answers (`benchmarks/search_exact.py` times both).
This module knows cost models and limits; never blocks, devices or what a metric means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwnas.cost._integer import Objective, Row, Solution, largest
from hwnas.cost.model import SlotCost
from hwnas.errors import InfeasibleError, UnknownNameError
from hwnas.limits import Limit, feasible, listed
from hwnas.types import CostModel, IntArray, SearchSpace

__all__ = ["Objective", "Solution", "best_within"]


def best_within(
    objective: Objective,
    space: SearchSpace,
    *,
    models: Mapping[str, CostModel],
    limits: Sequence[Limit],
    seconds: float = 60.0,
    gap: float = 0.0,
) -> Solution:
    """The network with the largest objective of those that keep the limits, ceilings and floors.

    Args:
        objective: over the space's choices.
        space: the networks.
        models: metric -> its cost model. One that is no slot table is asked about what is found, and not before.
        limits: on metrics of `models`, any number for each.
        seconds: after which the best network so far is returned, with its bound.
        gap: how much better another network may be, in the objective's unit, when the answer is good enough.

    Raises:
        InfeasibleError: no network keeps the limits, which is proven; `check_reachable` tells the nearest that can be.
        UndecidedError: neither a network nor a proof was found in the time.
        UnknownNameError: a limit's metric has no model.
    """
    for limit in limits:
        if limit.metric not in models:
            raise UnknownNameError("metric in a limit", limit.metric, models)

    def keeps(encoding: IntArray) -> bool:
        estimates = {x.metric: models[x.metric].estimate(encoding[None]) for x in limits}
        values, upper = {m: e.value for m, e in estimates.items()}, {m: e.upper for m, e in estimates.items()}
        return not limits or bool(feasible(limits, values, upper)[0])

    rows = [_row(limit, model) for limit in limits if isinstance(model := models[limit.metric], SlotCost)]
    found = largest(objective, space.choices, rows=rows, keeps=keeps, seconds=seconds, gap=gap)
    if found is None:
        together = " together" if len(limits) > 1 else ""
        raise InfeasibleError(
            f"no network of {space.name} keeps {listed(limits)}{together}",
            metric=limits[0].metric,
            limit=limits[0].value,
        )
    return found


def _row(limit: Limit, model: SlotCost) -> Row:
    table = model.table
    if limit.floor:
        return Row.at_least(table.factors, table.combine, limit.value - table.offset)
    return Row.at_most(table.factors, table.combine, limit.value / model.upper_ratio - table.offset)
