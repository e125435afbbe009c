"""Which networks keep the limits, and whether any can.

A limit (`hwnas.limits`) is kept by the upper bound of an estimate. What limits allow, alone and together, is decided
exactly. This module must never know what a metric means or how networks are searched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.cost.exact import Cost, Exact, UndecidedError
from hwnas.cost.model import SlotCost
from hwnas.errors import ConfigError, InfeasibleError, UnknownNameError
from hwnas.limits import Limit, excess, listed, round_up
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import BoolArray, CostModel, FloatArray, IntArray, SearchSpace

_SECONDS = 30.0  # for limits taken together; the presets need about one


def feasible_encodings(encodings: IntArray, models: Mapping[str, CostModel], limits: Sequence[Limit]) -> BoolArray:
    """(N,) whether each architecture's upper bounds keep all limits.

    Args:
        encodings: (N, D) option indices.
        models: metric -> its cost model.
        limits: none of them a floor.

    Raises:
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    return np.asarray((_excess(encodings, models, limits) == 0).all(axis=1))


def check_reachable(
    models: Mapping[str, CostModel], limits: Sequence[Limit], space: SearchSpace, *, seconds: float = _SECONDS
) -> IntArray | None:
    """Refuse limits that no network of the space keeps. Exact, for one limit and for several (`hwnas.cost.exact`).

    Args:
        models: metric -> its cost model.
        limits: on metrics of `models`.
        space: of the models, to name the architecture.
        seconds: for a proof or a witness where there are several limits; a small part of it is enough for the presets.

    Returns:
        (D,) canonical encoding of a network that keeps all limits; None if that was not decided in the time allowed,
        or because a model with a limit is no slot table.

    Raises:
        InfeasibleError: no network keeps the limits; names one of them and the smallest value with which, the others
            kept, there is a network. The value is rounded up, so that it can be taken as it is printed.
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    _check_limits(models, limits)
    tightest: dict[str, Limit] = {}
    for limit in sorted(limits, key=lambda each: each.value, reverse=True):
        # in falling order, so the last and smallest of each metric stays
        tightest[limit.metric] = limit
    asked = tuple(tightest[metric] for metric in dict.fromkeys(each.metric for each in limits))
    if not asked:
        return space.canonical(np.zeros((1, len(space.choices)), dtype=np.int64))[0]  # type: ignore[no-any-return]
    # cheap first: the minimum of each metric alone refutes most limits, or is itself a witness for all
    smallest = {limit: models[limit.metric].minimizer() for limit in asked}
    impossible = [x for x, e in smallest.items() if not x.is_kept_by(_upper(models, x.metric, e))]
    # with one limit its own minimum is the whole answer; no search is needed
    if impossible and len(asked) == 1:
        raise _alone_infeasible(models, asked[0], space)
    for encoding in smallest.values():
        if feasible_encodings(encoding[None], models, asked)[0]:
            return encoding
    return _Together(models, asked, space, seconds=seconds).witness(impossible)


class _Together:
    """Several limits on one space, with what is exact about them."""

    def __init__(
        self, models: Mapping[str, CostModel], limits: Sequence[Limit], space: SearchSpace, *, seconds: float
    ) -> None:
        self.models, self.limits, self.space = models, limits, space
        # one deadline for all questions about these limits, not one for each
        self._until = time.monotonic() + seconds
        self._tables = {x.metric: m for x in limits if isinstance(m := models[x.metric], SlotCost)}
        self._exact: Exact | None = None

    def witness(self, impossible: Sequence[Limit]) -> IntArray | None:
        """A network that keeps all limits, None if that cannot be decided.

        Args:
            impossible: limits that nothing keeps even alone.

        Raises:
            InfeasibleError: there is none.
        """
        if not impossible:
            try:
                found = self._kept_by(self.limits)
            except UndecidedError:
                return None
            if found is not None:
                # models that are no slot tables took no part in the search and are asked only here
                return found if feasible_encodings(found[None], self.models, self.limits)[0] else None
        raise self._infeasible(impossible)

    def _kept_by(self, limits: Sequence[Limit]) -> IntArray | None:
        """A network that keeps those of the limits that are on slot tables, None if there is none."""
        mine = [limit for limit in limits if limit.metric in self._tables]
        if not mine:
            return self._canonical(np.zeros(len(self.space.choices), dtype=np.int64))
        found = self._ready().feasible({limit.metric: limit.value for limit in mine})
        return None if found is None else self._canonical(found)

    def _infeasible(self, impossible: Sequence[Limit]) -> InfeasibleError:
        """Names a limit that can be loosened so that a network keeps all, and by how much; or says that none can."""
        problem = f"no network of {self.space.name} keeps {listed(self.limits)}{'' if impossible else ' together'}"
        if len(impossible) > 1:  # loosening one of them leaves the other
            return self._nearest(problem)
        found: InfeasibleError | None = None
        least = math.inf  # by how much a limit must grow, as a factor; the one that need grow least is named
        try:
            # the most expensive limit first: it likely needs to grow least, and bounds the search for the others
            for binding in impossible or self._by_weight():
                others = [limit for limit in self.limits if limit is not binding]
                less = [Limit(metric=binding.metric, value=binding.value * least)] if math.isfinite(least) else []
                # `less`: another limit need grow by `least` only, so this one is interesting below that alone
                start = self._kept_by([*others, *less]) if binding.metric in self._tables else None
                if start is not None:
                    found = self._loosened(problem, binding, others, start)
                    assert found.reachable is not None
                    least = min(least, found.reachable / binding.value)
        except UndecidedError as e:
            binding = next(iter(impossible), self.limits[0])
            # out of time: a limit that was loosened before is right all the same, only perhaps not the nearest
            return found or InfeasibleError(
                f"{problem}; by how much to loosen them was not found: {e}", metric=binding.metric, limit=binding.value
            )
        return found or self._nearest(problem)

    def _loosened(self, problem: str, binding: Limit, others: Sequence[Limit], start: IntArray) -> InfeasibleError:
        """What a limit must be if all others are kept, which `start` does."""
        mine = [limit for limit in others if limit.metric in self._tables]
        within = {limit.metric: limit.value for limit in mine}
        # what a network is known to cost bounds the search from above
        known = _upper(self.models, binding.metric, start)
        best = self._canonical(self._ready().smallest(binding.metric, within, known=known))
        value = _upper(self.models, binding.metric, best)
        return InfeasibleError(
            f"{problem}: with {listed(others)} kept, the smallest reachable {binding.metric} is {round_up(value)}",
            metric=binding.metric,
            limit=binding.value,
            reachable=value,
            architecture=ChoiceTree(self.space.choices).decode(best),
        )

    def _nearest(self, problem: str) -> InfeasibleError:
        """Where more than one limit must be loosened: one network, and all it costs."""
        values = {limit.metric: limit.value for limit in self.limits if limit.metric in self._tables}
        best = self._canonical(self._ready().nearest(values))
        beyond = _excess(best[None], self.models, self.limits)[0]
        binding = self.limits[int(beyond.argmax())]
        costs = {limit.metric: _upper(self.models, limit.metric, best) for limit in self.limits}
        missed = [m for m, e in zip(costs, beyond, strict=True) if e > 0]
        return InfeasibleError(
            f"{problem}, nor if any one of them is loosened; a network has "
            f"{' and '.join(f'{m} = {round_up(costs[m])}' for m in missed)} and keeps the others: as limits these "
            f"can be kept",
            metric=binding.metric,
            limit=binding.value,
            architecture=ChoiceTree(self.space.choices).decode(best),
        )

    def _by_weight(self) -> list[Limit]:
        """The limits, first those that cost the most to keep."""
        weights = self._ready().weights({x.metric: x.value for x in self.limits if x.metric in self._tables})
        return sorted(self.limits, key=lambda limit: -weights.get(limit.metric, 0.0))

    def _ready(self) -> Exact:
        # built once and late: it joins all tables, and most limits are decided without it
        if self._exact is None:
            costs = {
                metric: Cost(
                    factors=model.table.factors,
                    combine=model.table.combine,
                    offset=model.table.offset,
                    ratio=model.upper_ratio,
                )
                for metric, model in self._tables.items()
            }
            self._exact = Exact(costs, [len(c.options) for c in self.space.choices], until=self._until)
        return self._exact

    def _canonical(self, assignment: IntArray) -> IntArray:
        encoding: IntArray = self.space.canonical(assignment[None])[0]
        return encoding


def _alone_infeasible(models: Mapping[str, CostModel], limit: Limit, space: SearchSpace) -> InfeasibleError:
    smallest = models[limit.metric].minimizer()
    reachable = _upper(models, limit.metric, smallest)
    return InfeasibleError(
        f"no network of {space.name} keeps {limit}: the smallest reachable is {round_up(reachable)}",
        metric=limit.metric,
        limit=limit.value,
        reachable=reachable,
        architecture=ChoiceTree(space.choices).decode(smallest),
    )


def _excess(encodings: IntArray, models: Mapping[str, CostModel], limits: Sequence[Limit]) -> FloatArray:
    """(N, L) how far each architecture's upper bounds are beyond the limits, as a share of each."""
    _check_limits(models, limits)
    if not limits:
        return np.zeros((len(encodings), 0))
    return excess(limits, {x.metric: models[x.metric].estimate(encodings).upper for x in limits})


def _upper(models: Mapping[str, CostModel], metric: str, encoding: IntArray) -> float:
    return float(models[metric].estimate(encoding[None]).upper[0])


def _check_limits(models: Mapping[str, CostModel], limits: Sequence[Limit]) -> None:
    for limit in limits:
        if limit.metric not in models:
            raise UnknownNameError("metric in a limit", limit.metric, models)
        # excesses are shares of the limit, which a limit of 0 has none of
        if not (math.isfinite(limit.value) and limit.value > 0):
            raise ConfigError(f"limit {limit}: its value must be a positive number")
