"""A limit from either side as a ceiling over slot tables, so that whatever decides about ceilings decides about both.

A sum is at least so much where the sum of what its entries lack is at most the rest; a peak is at least so much where
of all slots not every one stays below. Knows tables and numbers; never how limits are decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwnas.cost.elimination import Factor
from hwnas.cost.exact import Cost
from hwnas.cost.model import SlotCost
from hwnas.limits import Limit

_ROUNDING = 1e-12  # relative, and generous: of one addition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ceiling:
    """`cost <= most`, in floats: what a limit asks."""

    cost: Cost
    most: float


def as_ceiling(model: SlotCost, limit: Limit) -> Ceiling:
    """A limit on a metric whose model is a slot table: one from above by its upper bound, one from below by its value.

    Exact in floats, as the tables' entries add up without rounding.
    """
    table = model.table
    if not limit.floor:
        cost = Cost(factors=table.factors, combine=table.combine, offset=table.offset, ratio=model.upper_ratio)
        return Ceiling(cost=cost, most=limit.value)
    least = _least_reaching(limit.value, table.offset)
    if table.combine == "max":
        return _some_slot_reaches(table.factors, least)
    lacking = tuple(Factor(scope=f.scope, values=f.values.max() - f.values) for f in table.factors)
    most = sum(float(f.values.max()) for f in table.factors) - least
    return Ceiling(cost=Cost(factors=lacking, combine="sum", offset=0.0, ratio=1.0), most=most)


def peaks(model: SlotCost) -> list[float]:
    """All values that a peak can have by the entries of its table, rising."""
    levels = np.unique(np.concatenate([np.zeros(1), *(f.values.ravel() for f in model.table.factors)]))
    return [model.table.offset + float(v) for v in levels if v >= 0]


def _some_slot_reaches(factors: tuple[Factor, ...], least: float) -> Ceiling:
    below = tuple(Factor(scope=f.scope, values=(f.values < least).astype(float)) for f in factors)
    # a peak is at least 0, also where there are no slots
    most = float(len(factors)) if least <= 0 else len(factors) - 1.0
    return Ceiling(cost=Cost(factors=below, combine="sum", offset=0.0, ratio=1.0), most=most)


def _least_reaching(value: float, offset: float) -> float:
    """The least float that with the offset added, rounded as floats round, is a value or more."""
    slack = _ROUNDING * (abs(value) + abs(offset))
    low, high = value - offset - slack, value - offset + slack
    while low < (middle := low + (high - low) / 2) < high:
        if offset + middle >= value:
            high = middle
        else:
            low = middle
    return high
