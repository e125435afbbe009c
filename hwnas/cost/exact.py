"""Exact answers about several limits at once: is there a network that keeps them all, and how little can one cost?

The choices are decided one after another, as in dynamic programming: what costs still depend on of the choices made so
far is a state, and a partial network is a state with what it costs so far in every metric (Irnich & Desaulniers, 2005,
"Shortest path problems with resource constraints"). Of partial networks in one state those that another one dominates
are dropped, and those that no completion can bring within the limits: by the exact least that each metric still costs
from there on, and by that of weighted sums of the metrics (`hwnas.cost._cutting_planes`). Where many are left, the
nearest to the limits are followed first (`hwnas.cost._partial`): a network that is so found leaves less to search,
until nothing had to be put aside. What is left at the end is complete.

A choice that every state depends on (a resolution) is decided first: a weighted sum bounds the networks with one of its
options much more tightly than all of them, and most options are ruled out by it.

Answers are exact to the last digit where floats add the tables' entries without rounding, as those of a cost model.

An integer program (`hwnas.cost.wide`) answers the same questions, and takes several times as long where limits are
tight (`benchmarks/search_exact.py`). It is asked where too many variables depend on each other for a table of their
states, and where limits leave much room (`hwnas.cost.milp`).

This module knows variables and tables, as `hwnas.cost.elimination` does; never blocks, devices or what a number means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.cost._cutting_planes import most, weighted_sums
from hwnas.cost._layers import Bound, Cost, Layers, UndecidedError, largest
from hwnas.cost._partial import Found, within
from hwnas.types import FloatArray, IntArray

__all__ = ["Cost", "Exact", "UndecidedError"]

MAX_PARTIAL = 1_000_000  # partial networks kept at once
_NARROW = 100  # of which a network is looked for first, without a proof
_FIRST_PARTIAL = 1_000  # and then
_WIDER = 5  # times, where so few neither led to a network nor were all
_ROUNDING = 1e-12  # relative: sums of a few dozen entries in another order
_LAST_BOUNDS = 12  # of which partial networks are held against
_TIGHTENINGS = 4
_NO_NEARER = 1e-6  # relative: what is proven no longer rises
_FIRST_SHARE = 1 / 256  # of the gap between bound and known value, in which the optimum is looked for first
_GROWTH = 2  # of that share, where it is not there
_FEW = 300  # partial networks at once: so cheap that the share may grow faster


@dataclass(slots=True, kw_only=True, eq=False)
class _Near:
    """What weighted sums tell of the least that some networks cost in a metric within limits.

    Attributes:
        bounds: the weighted sums.
        least: none costs less.
        most: what is still of interest: a better network than `best`.
        best: (D,) that was met.
    """

    bounds: list[Bound]
    least: float
    most: float
    best: IntArray | None


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
        self._all = Layers.of(list(costs.values()), sizes)
        self._largest = np.array([largest(c) for c in costs.values()])
        self._until = until
        self._known_parts: dict[int, Layers] = {}

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
        bounds, found = self._weighted_sums(self._all, caps)
        if found is not None or _refuted(bounds, caps):
            return found
        for widest in (_NARROW, _FIRST_PARTIAL):  # a network is often found among few; a proof needs all
            first = self._within(self._all, caps, bounds, objective=None, widest=widest)
            if first.network is not None or first.is_all:
                return first.network
        if is_brief:
            raise UndecidedError(f"more than {_FIRST_PARTIAL} partial networks")
        return self._in_parts(caps, bounds)

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
        near = self._approached(self._all, j, caps)
        best, caps[j] = near.best, near.most
        if not self._all.can_part:
            best = self._smallest(self._all, j, near, caps)
        for least, part in self._promising(j, near, caps):
            if least <= caps[j]:
                mine = self._approached(part, j, caps)
                found = self._smallest(part, j, mine, caps)
                if found is not None:
                    best, caps[j] = found, _below(self._all.values(found)[j])
        assert best is not None, "some network costs what is known"
        return best

    # ------------------------------------------------------------ parts

    def _in_parts(self, caps: FloatArray, bounds: Sequence[Bound]) -> IntArray | None:
        """(D,) a network that keeps the limits, by the options of the first choice; None if there is none."""
        left: list[tuple[Layers, list[Bound]]] = [(self._all, list(bounds))]
        if self._all.can_part:
            left = []
            beyond = np.array([b.by_first - most(b, caps) for b in bounds]).max(axis=0)
            for option in np.flatnonzero(beyond <= 0).tolist():
                mine, found = self._weighted_sums(self._part(option), caps)
                if found is not None:
                    return found
                if not _refuted(mine, caps):
                    left.append((self._part(option), mine))
        widest = _wider(_FIRST_PARTIAL)
        while left:
            tried, left = left, []
            for part, mine in tried:
                partial = self._within(part, caps, mine, objective=None, widest=widest)
                if partial.network is not None:
                    return partial.network
                if not partial.is_all:
                    left.append((part, mine))
            widest = _wider(widest) if left else widest
        return None

    def _promising(self, j: int, near: _Near, caps: FloatArray) -> list[tuple[float, Layers]]:
        """The networks with each option of the first choice, and what none of them costs less than, ascending."""
        if not self._all.can_part:
            return []
        known = [_least(bound, bound.by_first, j, caps) for bound in near.bounds if bound.weights[j] > 0]
        least = np.max([np.full(len(self._all.layers[0].after), near.least), *known], axis=0)
        return [(float(least[o]), self._part(int(o))) for o in np.argsort(least, kind="stable") if least[o] <= caps[j]]

    def _part(self, option: int) -> Layers:
        if option not in self._known_parts:
            self._known_parts[option] = self._all.part(option)
        return self._known_parts[option]

    def _approached(self, part: Layers, j: int, caps: FloatArray) -> _Near:
        """What weighted sums tell of the least of a metric: those for a limit just below it tell most."""
        least = float(part.alone(j, caps)[0][0] + (part.start[j] if part.sums[j] else 0.0))
        near = _Near(bounds=[], least=least, most=float(caps[j]), best=None)
        narrowed = caps.copy()
        for _ in range(_TIGHTENINGS):
            # nothing better than what is known: that is proof enough
            is_proof = bool(narrowed[j] == caps[j])
            bounds, met = self._weighted_sums(part, narrowed, objective=j, is_proof=is_proof)
            near.bounds += bounds
            if met is not None and part.values(met)[j] <= near.most:
                near.best, near.most = met, _below(part.values(met)[j])
            used = [bound for bound in bounds if bound.weights[j] > 0]
            proven = max([least, *(float(_least(bound, bound.by_first, j, caps).min()) for bound in used)])
            if proven <= near.least * (1 + _NO_NEARER) or proven > near.most:
                near.least = max(near.least, proven)
                break
            near.least = narrowed[j] = proven
        return near

    def _smallest(self, part: Layers, j: int, near: _Near, caps: FloatArray) -> IntArray | None:
        """(D,) the network of a part that costs least in a metric of those within the limits; None without any."""
        share, widest = _FIRST_SHARE, _FIRST_PARTIAL  # the optimum mostly lies near what is proven
        bounds, narrowed = near.bounds, caps.copy()
        was_too_many = False
        while near.least <= near.most:  # in growing parts of what is left between what is proven and what is known
            narrowed[j] = near.least + share * (near.most - near.least) if share < 1 else near.most
            found = self._within(part, narrowed, bounds[-_LAST_BOUNDS:], objective=j, widest=widest)
            if found.network is not None:
                near.best, near.most = found.network, _below(part.values(found.network)[j])
            if found.is_all:
                if found.network is not None or share >= 1:
                    break
                near.least = float(narrowed[j])
                share *= _GROWTH if found.most > _FEW else _GROWTH**2
                continue
            if found.network is None:  # look nearer to what is proven first; where that is too much too, at more
                share, widest = (share, _wider(widest)) if was_too_many else (share / _GROWTH**2, widest)
                was_too_many = not was_too_many
            narrowed[j] = min(narrowed[j], near.most)
            if part.sums[j]:  # those for a lower peak do not hold for a higher one
                bounds += self._weighted_sums(part, narrowed, objective=j)[0]
        return near.best

    # ------------------------------------------------------------ common

    def _weighted_sums(
        self, part: Layers, caps: FloatArray, *, objective: int | None = None, is_proof: bool = False
    ) -> tuple[list[Bound], IntArray | None]:
        is_proof = is_proof or objective is None
        return weighted_sums(
            part, caps, largest=self._largest, until=self._until, objective=objective, is_proof=is_proof
        )

    def _within(
        self, part: Layers, caps: FloatArray, bounds: Sequence[Bound], *, objective: int | None, widest: int
    ) -> Found:
        return within(part, caps, bounds, objective=objective, widest=widest, until=self._until)

    def _caps(self, limits: Mapping[str, float]) -> FloatArray:
        """(M,) the largest combined value within each limit; inf without a limit."""
        caps = [_largest_within(limits[m], c) if m in limits else np.inf for m, c in self._costs.items()]
        return np.array(caps, dtype=float)


def _refuted(bounds: Sequence[Bound], caps: FloatArray) -> bool:
    return any(bound.total > most(bound, caps) for bound in bounds)


def _least(bound: Bound, total: FloatArray, j: int, caps: FloatArray) -> FloatArray:
    """The least that a metric can be where a weighted sum is so much: it pays what the other limits leave of that."""
    others = np.where(np.arange(len(caps)) == j, 0.0, caps)  # 0: the metric itself pays nothing yet
    rounding = 100 * _ROUNDING * np.where(np.isfinite(total), np.abs(total), 0.0)
    found: FloatArray = (total - rounding - most(bound, others)) / bound.weights[j]
    return found


def _below(value: float) -> float:
    """The next float."""
    return float(np.nextafter(value, -np.inf))


def _wider(widest: int) -> int:
    if widest == MAX_PARTIAL:
        raise UndecidedError(f"more than {MAX_PARTIAL} partial networks")
    return min(widest * _WIDER, MAX_PARTIAL)  # in few steps: each repeats the work of the last


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
