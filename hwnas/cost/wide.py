"""Answers about tables over so many choices that depend on each other that dynamic programming has no room for them.

The same questions as `hwnas.cost.elimination` and `hwnas.cost.exact` answer, by integer programming
(`hwnas.cost._integer`): slower where those have room, and exact to the solver's tolerance, a millionth of the largest
entry, where they are to the last digit. Knows variables and tables; never blocks, devices or what a number means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.cost._integer import Objective, Row, largest
from hwnas.cost.elimination import Combine, Factor, Optimum
from hwnas.cost.exact import Cost, UndecidedError
from hwnas.types import Choice, IntArray

_SECONDS = 300.0


def wide_optimum(
    factors: Sequence[Factor], sizes: Sequence[int], *, combine: Combine, maximize: bool, seconds: float = _SECONDS
) -> Optimum:
    """The minimum (or maximum) of the combined factors, as `hwnas.cost.elimination.optimum` gives it.

    Raises:
        UndecidedError: it was not proven in the time.
    """
    cost = Cost(factors=tuple(factors), combine=combine, offset=0.0, ratio=1.0)
    if combine == "sum":
        found = _most(factors, sizes, sign=1.0 if maximize else -1.0, until=time.monotonic() + seconds)
    elif maximize:  # the largest entry of all is that of some network
        found = _with_largest_entry(factors, sizes)
    else:
        found = Wide({"": cost}, sizes, until=time.monotonic() + seconds).smallest("", {}, known=math.inf)
    return Optimum(value=cost.combined(found), assignment=found)


class Wide:
    """As `hwnas.cost.exact.Exact`, with the same arguments."""

    def __init__(self, costs: Mapping[str, Cost], sizes: Sequence[int], *, until: float) -> None:
        self.metrics = tuple(costs)
        self._costs, self._sizes, self._until = dict(costs), sizes, until

    def feasible(self, limits: Mapping[str, float], *, is_brief: bool = False) -> IntArray | None:
        """(D,) an assignment that keeps the limits; None if there is none.

        Args:
            limits: metric -> `(offset + combined) * ratio <= value`.
            is_brief: nothing changes: there are no partial networks here.

        Raises:
            UndecidedError: neither was found out in the time.
        """
        return self._within(Objective(factors=()), limits)

    def smallest(self, metric: str, limits: Mapping[str, float], *, known: float) -> IntArray:
        """(D,) the assignment that costs least in a metric of those that keep the limits.

        Args:
            metric: to be least in.
            limits: on other metrics.
            known: what some network within the limits costs.

        Raises:
            UndecidedError: it was not found out in the time.
        """
        cost = self._costs[metric]
        if cost.combine == "max":
            return self._lowest_peak(metric, limits, known=known)
        negative = tuple(Factor(scope=f.scope, values=-f.values) for f in cost.factors)
        found = self._within(Objective(factors=negative), limits)
        assert found is not None, "some network keeps the limits"
        return found

    def _lowest_peak(self, metric: str, limits: Mapping[str, float], *, known: float) -> IntArray:
        """By halving the entries that a peak can be."""
        cost = self._costs[metric]
        offered = np.unique(np.concatenate([np.zeros(1), *(f.values.ravel() for f in cost.factors)]))
        values = [v for v in ((cost.offset + offered) * cost.ratio).tolist() if v <= known]
        best: IntArray | None = None
        while values:
            middle = len(values) // 2
            found = self.feasible({**limits, metric: values[middle]})
            if found is None:
                values = values[middle + 1 :]
            else:
                best, values = found, [v for v in values[:middle] if v < cost.value(found)]
        assert best is not None, "some network costs what is known"
        return best

    def _within(self, objective: Objective, limits: Mapping[str, float]) -> IntArray | None:
        rows = [
            Row.at_most(c.factors, c.combine, value / c.ratio - c.offset)
            for m, value in limits.items()
            for c in [self._costs[m]]
        ]

        def keeps(assignment: IntArray) -> bool:
            return all(self._costs[m].value(assignment) <= value for m, value in limits.items())

        seconds = max(0.0, self._until - time.monotonic())
        found = largest(objective, _choices(self._sizes), rows=rows, keeps=keeps, seconds=seconds)
        if found is not None and found.gap > _tolerance(objective):
            raise UndecidedError("the time allowed was not enough")
        return None if found is None else found.encoding


def _most(factors: Sequence[Factor], sizes: Sequence[int], *, sign: float, until: float) -> IntArray:
    objective = Objective(factors=tuple(Factor(scope=f.scope, values=sign * f.values) for f in factors))
    found = Wide({}, sizes, until=until)._within(objective, {})
    assert found is not None, "without limits there is always one"
    return found


def _with_largest_entry(factors: Sequence[Factor], sizes: Sequence[int]) -> IntArray:
    assignment = np.zeros(len(sizes), dtype=np.int64)
    if factors:
        best = max(factors, key=lambda f: float(f.values.max()))
        assignment[list(best.scope)] = np.unravel_index(int(best.values.argmax()), best.values.shape)
    return assignment


def _choices(sizes: Sequence[int]) -> list[Choice]:
    """Variables as choices: tables are the same for all options of what is switched off, so nothing need be."""
    return [Choice(name=str(i), options=tuple(range(n))) for i, n in enumerate(sizes)]


def _tolerance(objective: Objective) -> float:
    """What the solver takes for nothing."""
    return 1e-5 * max((float(np.abs(f.values).max()) for f in objective.factors), default=1.0)
