"""Exact answers about several limits at once: is there a network that keeps them all, and how little can one cost?

The choices are decided one after another, as in dynamic programming: what costs still depend on of the choices made so
far is a state, and a partial network is a state with what it costs so far in every metric (Irnich & Desaulniers, 2005,
"Shortest path problems with resource constraints"). Of partial networks in one state those that another one dominates
are dropped, and those that no completion can bring within the limits: by the exact least that each metric still costs
from there on, and by that of weighted sums of the metrics, whose weights come from cutting planes (Kelley, 1960) on the
Lagrangian dual (Geoffrion, 1974). Where many are left, the nearest to the limits are followed first (a beam): a network
that is so found leaves less to search, until nothing had to be put aside. What is left at the end is complete.

Answers are exact to the last digit where floats add the tables' entries without rounding, as those of a cost model.

An integer program (`hwnas.cost.wide`) answers the same questions, and takes several times as long where limits are
tight (`benchmarks/search_exact.py`). It is asked where too many variables depend on each other for a table of their
states, and where limits leave much room (`hwnas.cost.milp`).

This module knows variables and tables, as `hwnas.cost.elimination` does; never blocks, devices or what a number means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.cost._cutting_planes import next_shares
from hwnas.cost._dominance import undominated
from hwnas.cost.elimination import Combine, Factor
from hwnas.types import FloatArray, IntArray

MAX_STATES = 4_000_000  # of one layer: variables that depend on each other in larger numbers are not decided here
MAX_PARTIAL = 1_000_000  # partial networks kept at once
_FIRST_PARTIAL = 4_000  # of which a network is looked for first, without a proof
_WIDER = 5  # times, where so few neither led to a network nor were all
_ROUNDS = 24  # of cutting planes
_ROUNDING = 1e-12  # relative: sums of a few dozen entries in another order
_KEPT = 6  # of the weighted sums, the last and best
_TIGHTENINGS = 3
_FIRST_SHARE = 1 / 16  # of the gap between bound and known value, in which the optimum is looked for first
_GROWTH = 2  # of that share, where it is not there


class UndecidedError(Exception):
    """Control flow: neither an answer nor a proof was found within the time or memory allowed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cost:
    """One metric as a sum (or maximum, at least 0) of factors: `(offset + combined) * ratio`."""

    factors: tuple[Factor, ...]
    combine: Combine
    offset: float
    ratio: float

    def combined(self, assignment: IntArray) -> float:
        """The sum or maximum of one assignment, (D,)."""
        entries = [float(f.values[tuple(assignment[v] for v in f.scope)]) for f in self.factors]
        return sum(entries) if self.combine == "sum" else max([0.0, *entries])

    def value(self, assignment: IntArray) -> float:
        """What one assignment, (D,), costs."""
        return (self.offset + self.combined(assignment)) * self.ratio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layer:
    """One variable: what its options cost and lead to, from every state.

    Attributes:
        after: (n, S) the state that each option leads to.
        local: (M, n, S) what it adds to each metric.
    """

    after: IntArray
    local: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bound:
    """A weighted sum of the metrics and the least that it costs: (M,) weights; by layer, from each state on; in all."""

    weights: FloatArray
    least: list[FloatArray]
    total: float

    def most(self, caps: FloatArray) -> float:
        """What no network within the limits exceeds."""
        used = self.weights > 0
        shares = self.weights[used] * caps[used]
        return float(shares.sum() + 100 * _ROUNDING * np.abs(shares).sum())


class Exact:
    """The costs of one space, ready to be asked about limits.

    Args:
        costs: metric -> its tables over the same variables.
        sizes: (D,) number of options of each variable.
        until: when to give up, by `time.monotonic`.

    Raises:
        UndecidedError: too many variables depend on each other.
    """

    def __init__(self, costs: Mapping[str, Cost], sizes: Sequence[int], *, until: float) -> None:
        self.metrics = tuple(costs)
        self._costs = dict(costs)
        self._sizes = sizes
        self._sums = np.array([c.combine == "sum" for c in self._costs.values()], dtype=bool)
        self._offset = np.array([c.offset for c in self._costs.values()])
        self._ratio = np.array([c.ratio for c in self._costs.values()])
        self._start = np.array([_constant(c) for c in self._costs.values()])
        self._largest = np.array([_largest(c) for c in self._costs.values()])
        self._variables = sorted({v for c in self._costs.values() for f in c.factors for v in f.scope})
        self._layers = self._build()
        self._until = until

    # ------------------------------------------------------------ questions

    def feasible(self, limits: Mapping[str, float], *, is_brief: bool = False) -> IntArray | None:
        """(D,) a network that keeps the limits; None if there is none.

        Args:
            limits: metric -> `(offset + combined) * ratio <= value`, in floats.
            is_brief: give up where the first few partial networks tell nothing.

        Raises:
            UndecidedError: see there.
        """
        caps = self._caps(limits)
        bounds, found = self._cutting_planes(caps)
        if found is not None:
            return found
        if any(bound.total > bound.most(caps) for bound in bounds):
            return None
        widest = _FIRST_PARTIAL  # a network is often found among few; a proof needs all
        while True:
            found, is_all = self._enumerate(caps, bounds, objective=None, widest=widest)
            if found is not None or is_all:
                return found
            if is_brief:
                raise UndecidedError(f"more than {widest} partial networks")
            widest = self._wider(widest)

    def smallest(self, metric: str, limits: Mapping[str, float], *, known: float) -> IntArray:
        """(D,) the network that costs least in a metric of those that keep the limits.

        Args:
            metric: to be least in.
            limits: on other metrics.
            known: what some network within the limits costs.

        Raises:
            UndecidedError: see there.
        """
        j = self.metrics.index(metric)
        caps = self._caps({**limits, metric: known})  # better than what is known, or as good
        bounds, _ = self._cutting_planes(caps, to_the_end=True)
        least = float(self._alone(j, caps)[0][0] + (self._start[j] if self._sums[j] else 0.0))
        narrowed = caps.copy()
        for _ in range(_TIGHTENINGS):  # weights for a limit just below the optimum prune best, and prove most
            proven = max([least, *(self._proven(bound, j, caps) for bound in bounds if bound.weights[j] > 0)])
            if proven <= least * (1 + 1e-6):
                break
            least = narrowed[j] = proven
            bounds += self._cutting_planes(narrowed, to_the_end=True)[0]
        share, widest = _FIRST_SHARE, _FIRST_PARTIAL  # the optimum mostly lies near what is proven
        best: IntArray | None = None
        while True:  # in growing parts of what is left between what is proven and what is known
            if best is not None:
                narrowed[j] = self._values(best)[j]
            else:
                narrowed[j] = least + share * (caps[j] - least) if share < 1 else caps[j]
            found, is_all = self._enumerate(narrowed, bounds[-2 * _KEPT :], objective=j, widest=widest)
            is_better = found is not None and (best is None or self._values(found)[j] < narrowed[j])
            best = best if found is None else found
            if is_all and best is not None:
                return best
            if is_all:
                assert share < 1, "some network costs what is known"
                share *= _GROWTH
            else:
                if not is_better:
                    widest = self._wider(widest)
                narrowed[j] = narrowed[j] if best is None else self._values(best)[j]
                bounds += self._cutting_planes(narrowed, to_the_end=True)[0]

    def _proven(self, bound: _Bound, j: int, caps: FloatArray) -> float:
        """The least that a metric can be: it pays what the other limits leave of a weighted sum."""
        others = np.where(np.arange(len(caps)) == j, 0.0, caps)  # 0: the metric itself pays nothing yet
        return float((bound.total - bound.most(others)) / bound.weights[j])

    # ------------------------------------------------------------ layers

    def _build(self) -> list[_Layer]:
        last = [max(f.scope) for c in self._costs.values() for f in c.factors if f.scope]
        scopes = [f.scope for c in self._costs.values() for f in c.factors if f.scope]
        layers: list[_Layer] = []
        live: list[int] = []
        for v in self._variables:
            joint = [*live, v]
            shape = [self._sizes[u] for u in joint]
            if math.prod(shape) > MAX_STATES:
                raise UndecidedError(f"{math.prod(shape)} combinations of {len(joint)} choices depend on each other")
            needed = {u for end, scope in zip(last, scopes, strict=True) if end > v for u in scope}
            live = [u for u in joint if u in needed]  # the state: choices that later factors still ask for
            after = np.zeros(shape, dtype=np.int64)
            stride = 1
            for axis in reversed(range(len(joint))):
                if joint[axis] in needed:
                    index = np.arange(shape[axis]) * stride
                    after += index.reshape([-1 if a == axis else 1 for a in range(len(joint))])
                    stride *= shape[axis]
            local = np.stack([self._local(c, v, joint, shape) for c in self._costs.values()])
            n = self._sizes[v]
            # options first: the least over few options of many states is then a few operations on long rows
            by_option = np.ascontiguousarray(local.reshape(len(self._costs), -1, n).swapaxes(1, 2))
            layers.append(_Layer(after=np.ascontiguousarray(after.reshape(-1, n).T), local=by_option))
        return layers

    def _local(self, cost: Cost, variable: int, joint: Sequence[int], shape: Sequence[int]) -> FloatArray:
        join = np.add if cost.combine == "sum" else np.maximum
        total = np.zeros(shape)
        for f in cost.factors:
            if f.scope and max(f.scope) == variable:  # a factor is paid once, when its last choice is made
                total = join(total, f.aligned(joint))
        return total

    def _least(self, local: Sequence[FloatArray], *, combine: Combine = "sum") -> list[FloatArray]:
        """By layer, the least that a cost still adds from each state on; one more for the end."""
        least: list[FloatArray] = [np.zeros(1)]
        for layer, costs in zip(reversed(self._layers), reversed(local), strict=True):
            rest = least[-1][layer.after]  # (n, S)
            least.append((costs + rest if combine == "sum" else np.maximum(costs, rest)).min(axis=0))
        return least[::-1]

    def _alone(self, j: int, caps: FloatArray) -> list[FloatArray]:
        local = [self._allowed(layer, layer.local[j], caps) for layer in self._layers]
        return self._least(local, combine="sum" if self._sums[j] else "max")

    def _allowed(self, layer: _Layer, local: FloatArray, caps: FloatArray) -> FloatArray:
        """(n, S) costs of one layer with inf where a single entry is beyond a limit on a peak."""
        for j in np.flatnonzero(~self._sums & np.isfinite(caps)):
            local = np.where(layer.local[j] > caps[j], np.inf, local)
        return local

    def _minimizer(self, bound: _Bound, caps: FloatArray) -> IntArray:
        """(D,) an assignment that reaches the least of a weighted sum."""
        assignment = np.zeros(len(self._sizes), dtype=np.int64)
        state = 0
        for v, layer, rest in zip(self._variables, self._layers, bound.least[1:], strict=True):
            costs = np.tensordot(bound.weights, layer.local[:, :, state], axes=1)
            for j in np.flatnonzero(~self._sums & np.isfinite(caps)):
                costs = np.where(layer.local[j, :, state] > caps[j], np.inf, costs)
            option = int(np.argmin(costs + rest[layer.after[:, state]]))
            assignment[v], state = option, int(layer.after[option, state])
        return assignment

    def _values(self, assignment: IntArray) -> FloatArray:
        """(M,) what an assignment costs in each metric, before offset and ratio."""
        values, state = self._start.copy(), 0
        for v, layer in zip(self._variables, self._layers, strict=True):
            local = layer.local[:, assignment[v], state]
            values = np.where(self._sums, values + local, np.maximum(values, local))
            state = int(layer.after[assignment[v], state])
        return values

    # ------------------------------------------------------------ limits

    def _caps(self, limits: Mapping[str, float]) -> FloatArray:
        """(M,) the largest combined value within each limit; inf without a limit."""
        caps = [_largest_within(limits[m], c) if m in limits else np.inf for m, c in self._costs.items()]
        return np.array(caps, dtype=float)

    def _cutting_planes(self, caps: FloatArray, *, to_the_end: bool = False) -> tuple[list[_Bound], IntArray | None]:
        """Weighted sums whose least is as large as it can be for what the limits allow, and a network within the limits
        if one was met on the way; `to_the_end` goes on after that.
        """
        limited = np.flatnonzero(self._sums & np.isfinite(caps))
        bounds: list[_Bound] = []
        if not len(limited):
            bound = self._bound(np.zeros(len(caps)), caps)
            return bounds, self._minimizer(bound, caps) if np.isfinite(bound.total) else None
        # a limit of nothing is kept by what costs nothing; its weight must stay a number
        room = np.maximum(caps[limited], 1e-9 * self._largest[limited])
        shares, reach = np.full(len(limited), 1 / len(limited)), math.inf  # all limits alike, to begin with
        points: list[FloatArray] = []
        for _ in range(_ROUNDS):
            weights = np.zeros(len(caps))
            weights[limited] = shares / room
            bound = self._bound(weights, caps)
            bounds.append(bound)
            if bound.total > bound.most(caps) and not to_the_end:
                break
            assignment = self._minimizer(bound, caps)
            values = self._values(assignment)
            if (values <= caps).all() and not to_the_end:
                return bounds, assignment
            points.append(values[limited] / room)  # (L,) cost over limit: units cancel
            if bound.total >= reach - 1e-6 * abs(reach):  # no weights are better
                break
            shares, reach = next_shares(np.stack(points))
            self._check_time()
        return bounds[-_KEPT:], None  # earlier ones prune less

    def _bound(self, weights: FloatArray, caps: FloatArray) -> _Bound:
        used = np.flatnonzero(weights)
        local = [self._allowed(la, np.tensordot(weights[used], la.local[used], axes=1), caps) for la in self._layers]
        least = self._least(local)
        return _Bound(weights=weights, least=least, total=float(weights[used] @ self._start[used] + least[0][0]))

    # ------------------------------------------------------------ partial networks

    def _enumerate(
        self, caps: FloatArray, bounds: Sequence[_Bound], *, objective: int | None, widest: int
    ) -> tuple[IntArray | None, bool]:
        """(D,) a network within the limits, and whether none costs less, or without one whether there is none.

        Args:
            caps: see `_caps`.
            bounds: for the same limits or tighter ones.
            objective: the metric to be least in.
            widest: how many partial networks are kept at once: those nearest to keeping the limits by the bounds.
        """
        is_all = True
        tracked = np.flatnonzero(np.isfinite(caps))
        alone = {int(j): self._alone(int(j), caps) for j in tracked}  # exact least of each metric to the end
        state: IntArray = np.zeros(1, dtype=np.int64)
        values: FloatArray = self._start[None, tracked]
        sums = self._sums[tracked]
        trail: list[tuple[IntArray, IntArray]] = []  # of each layer: the partial network before, the option taken
        for i, layer in enumerate(self._layers):
            n = len(layer.after)
            before = np.repeat(np.arange(len(state)), n)  # (P * n,)
            option = np.tile(np.arange(n), len(state))
            local = layer.local[tracked][:, option, state[before]].T  # (P * n, metrics)
            grown = np.where(sums, values[before] + local, np.maximum(values[before], local))
            reached = layer.after[option, state[before]]
            keep = np.ones(len(grown), dtype=bool)
            for column, j in enumerate(tracked.tolist()):
                rest = alone[j][i + 1][reached]
                total = grown[:, column] + rest if self._sums[j] else np.maximum(grown[:, column], rest)
                keep &= total <= caps[j]
            excess = np.zeros(len(grown))  # by the bound that is worst: what the beam sorts by
            for bound in bounds:
                most = bound.most(caps)
                sums_to = grown @ bound.weights[tracked] + bound.least[i + 1][reached]
                keep &= sums_to <= most
                np.maximum(excess, sums_to - most, out=excess)
            rows = np.flatnonzero(keep)
            rows = rows[undominated(reached[rows], grown[rows], states=len(alone[int(tracked[0])][i + 1]))]
            if len(rows) > widest:
                rows, is_all = np.sort(rows[np.argpartition(excess[rows], widest)[:widest]]), False
            trail.append((before[rows], option[rows]))
            state, values = reached[rows], grown[rows]
            self._check_time()
        if not len(values):
            return None, is_all
        row = 0 if objective is None else int(np.argmin(values[:, tracked.tolist().index(objective)]))
        return self._assignment(row, trail), is_all

    def _assignment(self, row: int, trail: Sequence[tuple[IntArray, IntArray]]) -> IntArray:
        assignment = np.zeros(len(self._sizes), dtype=np.int64)
        for v, (before, option) in zip(reversed(self._variables), reversed(trail), strict=True):
            assignment[v], row = option[row], int(before[row])
        return assignment

    def _wider(self, widest: int) -> int:
        if widest == MAX_PARTIAL:
            raise UndecidedError(f"more than {MAX_PARTIAL} partial networks")
        return min(widest * _WIDER, MAX_PARTIAL)  # in few steps: each repeats the work of the last

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise UndecidedError("the time allowed was not enough")


def _constant(cost: Cost) -> float:
    constants = [float(f.values) for f in cost.factors if not f.scope]
    return sum(constants) if cost.combine == "sum" else max([0.0, *constants])


def _largest(cost: Cost) -> float:
    """What no network costs more than, before offset and ratio; 1 where all cost nothing."""
    return sum(float(np.abs(f.values).max()) for f in cost.factors) or 1.0


def _largest_within(limit: float, cost: Cost) -> float:
    """The largest float that is within a limit after offset and ratio, each rounded as a cost model rounds it."""
    cap = limit / cost.ratio - cost.offset  # right in exact arithmetic; floats round on the way
    slack = _ROUNDING * (abs(limit) / cost.ratio + abs(cost.offset))
    low, high = cap - slack, cap + slack
    while low < (middle := low + (high - low) / 2) < high:
        if (cost.offset + middle) * cost.ratio <= limit:
            low = middle
        else:
            high = middle
    return low
