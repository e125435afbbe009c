"""Several limits on one space: a network that keeps them all, or which of them conflict and how far each must give way.

What conflicts is told as a set of limits of which none can be spared (`hwnas.limits.conflicting`). How far a limit must
be loosened, all others kept, is the optimum of its metric within the others. All of it is exact; `hwnas.cost.exact` is
asked, and `hwnas.cost.milp` where it has no answer. Knows cost models and spaces; never what a metric means.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.cost._sides import Ceiling, as_ceiling, peaks
from hwnas.cost.exact import Exact, UndecidedError
from hwnas.cost.milp import Objective, best_within
from hwnas.cost.model import SlotCost
from hwnas.cost.wide import Wide
from hwnas.errors import InfeasibleError, Relaxation
from hwnas.limits import Limit, conflicting, feasible, listed
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import BoolArray, CostModel, IntArray, SearchSpace


def keeps(encodings: IntArray, models: Mapping[str, CostModel], limits: Sequence[Limit]) -> BoolArray:
    """(N,) whether each architecture keeps all limits, those from above by its upper bound."""
    if not limits:
        return np.ones(len(encodings), dtype=bool)
    estimates = {metric: models[metric].estimate(encodings) for metric in {x.metric for x in limits}}
    values = {m: e.value for m, e in estimates.items()}
    return feasible(limits, values, {m: e.upper for m, e in estimates.items()})


def decisive(model: CostModel, limit: Limit, encoding: IntArray) -> float:
    """The number of one architecture (D,) that counts against a limit."""
    estimate = model.estimate(encoding[None])
    return float(limit.decisive({limit.metric: estimate.value}, {limit.metric: estimate.upper})[0])


class Together:
    """Several limits on one space, with what is exact about them.

    Args:
        models: metric -> its cost model. Those that are no slot tables are only asked about networks at hand.
        limits: on metrics of `models`, each on one side of a metric once.
        space: of the models.
        seconds: for all questions about these limits together.
    """

    def __init__(
        self, models: Mapping[str, CostModel], limits: Sequence[Limit], space: SearchSpace, *, seconds: float
    ) -> None:
        self.models, self.limits, self.space = models, tuple(limits), space
        self._until = time.monotonic() + seconds
        self._tables = {x.metric: m for x in limits if isinstance(m := models[x.metric], SlotCost)}
        self._exact: Exact | Wide | None = None
        # the best for each limit alone: they refute most sets, or keep all limits
        self._best = {limit: self._alone(limit) for limit in self.limits}
        self.impossible = tuple(
            limit for limit, (value, _) in self._best.items() if value is not None and not limit.is_kept_by(value)
        )
        self._refuted: list[frozenset[Limit]] = []  # sets of limits that no network keeps together
        self._known = [network for _, network in self._best.values() if network is not None]

    # ------------------------------------------------------------ one network for all

    def witness(self) -> IntArray | None:
        """(D,) a network that keeps all limits, None if that cannot be decided.

        Raises:
            InfeasibleError: there is none.
        """
        if not self.impossible:
            try:
                found = self._network(self.limits)
            except UndecidedError:
                return None
            if found is not None:
                # models that are no slot tables took no part in the search and are asked only here
                return found if keeps(found[None], self.models, self.limits)[0] else None
        raise self._infeasible()

    def _alone(self, limit: Limit) -> tuple[float | None, IntArray | None]:
        """The best value for a limit over the space, as it counts, and a network that has it; None if not known."""
        model = self.models[limit.metric]
        if not limit.floor:
            smallest = model.minimizer()
            return decisive(model, limit, smallest), smallest
        if isinstance(model, SlotCost):
            largest = model.table.maximum().assignment
            return decisive(model, limit, largest), largest
        return model.bounds()[1], None

    def _network(self, limits: Sequence[Limit]) -> IntArray | None:
        """(D,) a network that keeps those of the limits that are on slot tables, None if there is none.

        Raises:
            UndecidedError: neither was found out.
        """
        if any(limit in self.impossible for limit in limits) or any(some <= set(limits) for some in self._refuted):
            return None
        mine = self._on_tables(limits)
        if not mine:
            return self._canonical(np.zeros(len(self.space.choices), dtype=np.int64))
        # cheap first: what was found for one question often answers the next
        known = np.stack(self._known) if self._known else np.zeros((0, len(self.space.choices)), dtype=np.int64)
        kept = np.flatnonzero(keeps(known, self.models, mine))
        if len(kept):
            network: IntArray = known[kept[0]]
            return network
        found = self._decided(mine)
        if found is not None:
            self._known.append(self._canonical(found))
            return self._known[-1]
        self._refuted.append(frozenset(mine))
        return None

    def _decided(self, limits: Sequence[Limit]) -> IntArray | None:
        """(D,) the same for limits on slot tables, of which no network at hand keeps all.

        Raises:
            UndecidedError: neither was found out.
        """
        # between two sides hardly any partial network is better than another in all that counts: too many are left
        both = {x.floor for x in limits} == {True, False}
        try:
            exact, most = self._asked(limits)
            return exact.feasible(most, is_brief=both)
        except UndecidedError:
            left = self._until - time.monotonic()
            if left <= 0:
                raise
        try:
            any_network = Objective(factors=())
            return best_within(any_network, self.space, models=self.models, limits=limits, seconds=left).encoding
        except InfeasibleError:
            return None

    # ------------------------------------------------------------ what conflicts

    def _infeasible(self) -> InfeasibleError:
        """Which limits conflict, and how far each must give way."""
        problem = f"no network of {self.space.name} keeps {listed(self.limits)}{'' if self.impossible else ' together'}"
        conflict: list[Relaxation] = []
        try:
            found = conflicting(self.limits, lambda some: self._network(some) is not None)
            conflict += [_asked(limit) for limit in found]
            for i, limit in enumerate(found):
                conflict[i] = self._loosened(limit, self._without(limit, self.limits))
            if any(each.reachable is not None for each in conflict):
                return InfeasibleError.of(self._told(problem, conflict), conflict)
            together = self._loosened_together(found)
        except UndecidedError as e:
            # out of time: what was found out before is right all the same
            if any(each.reachable is not None for each in conflict):
                return InfeasibleError.of(self._told(problem, conflict), conflict)
            why = f"{problem}; by how much to loosen them was not found: {e}"
            return InfeasibleError.of(why, conflict or [_asked(x) for x in self.impossible or self.limits])
        told = " and ".join(
            f"{x.metric} = {_limit(x).met_at(x.reachable)}" for x in together if x.reachable is not None
        )
        text = f"{problem}, nor if any one of them is loosened; a network has {told} and keeps the others: as limits "
        return InfeasibleError.of(f"{text}these can be kept", conflict, together=together)

    def _loosened(self, limit: Limit, others: Sequence[Limit]) -> Relaxation:
        """What a limit must be if all others are kept.

        Raises:
            UndecidedError: it was not found out.
        """
        start = self._network(others)
        if start is None:
            return _asked(limit)
        best = self._best_within(limit, others, start=start)
        if best is None or not keeps(best[None], self.models, others)[0]:
            return _asked(limit)
        return Relaxation(
            metric=limit.metric,
            limit=limit.value,
            floor=limit.floor,
            reachable=decisive(self.models[limit.metric], limit, best),
            architecture=ChoiceTree(self.space.choices).decode(best),
        )

    def _best_within(self, limit: Limit, others: Sequence[Limit], *, start: IntArray) -> IntArray | None:
        """(D,) the best network for a limit of those that keep others; None if only a guess could be made.

        Args:
            limit: to come nearest to.
            others: that are kept.
            start: a network that keeps them.
        """
        alone = self._best[limit][1]
        if alone is not None and keeps(alone[None], self.models, others)[0]:
            return alone
        model = self._tables.get(limit.metric)
        if model is None:
            return None
        mine = self._on_tables(others)
        if limit.floor and model.table.combine == "max":
            return self._highest_peak(limit, mine, start=start)
        # what a network is known to cost bounds the search from above
        known = as_ceiling(model, Limit(metric=limit.metric, value=self._decisive(limit, start), floor=limit.floor))
        exact, most = self._asked([*mine, limit])
        name = self._name(limit)
        del most[name]
        return self._canonical(exact.smallest(name, most, known=known.most))

    def _highest_peak(self, limit: Limit, others: Sequence[Limit], *, start: IntArray) -> IntArray:
        """The same for a peak that is to be high: by halving what its entries offer."""
        best = start
        offered = [v for v in peaks(self._tables[limit.metric]) if v > self._decisive(limit, start)]
        while offered:
            middle = len(offered) // 2
            asked = Limit(metric=limit.metric, value=offered[middle], floor=True)
            found = self._decided([*others, asked])
            if found is None:
                offered = offered[:middle]
                continue
            best = self._canonical(found)
            offered = [v for v in offered if v > self._decisive(limit, best)]
        return best

    def _loosened_together(self, conflict: Sequence[Limit]) -> list[Relaxation]:
        """Limits that, each loosened as little as those before it allow, are kept together with all others.

        Raises:
            UndecidedError: it was not found out.
        """
        kept: list[Limit] = []
        given: list[Limit] = []
        # as many as can be kept, those without a conflict first
        for limit in sorted(self.limits, key=lambda x: x in conflict):
            (kept if self._network([*kept, limit]) is not None else given).append(limit)
        found = []
        for limit in given:
            found.append(self._loosened(limit, kept))
            if found[-1].reachable is None:
                raise UndecidedError(f"{limit.metric} is known for single networks only")
            kept.append(Limit(metric=limit.metric, value=found[-1].reachable, floor=limit.floor))
        return found

    def _told(self, problem: str, conflict: Sequence[Relaxation]) -> str:
        few = 1 < len(conflict) < len(self.limits) and not self.impossible
        named = f"{listed(map(_limit, conflict))} conflict; " if few else ""
        ways = [self._way(each) for each in sorted(conflict, key=lambda x: x.share) if each.reachable is not None]
        return f"{problem}: {named}{'; or '.join(ways)}"

    def _way(self, each: Relaxation) -> str:
        """One limit with which all others can be kept."""
        assert each.reachable is not None
        side, value = "largest" if each.floor else "smallest", _limit(each).met_at(each.reachable)
        others = self._without(_limit(each), self.limits)
        if not others:
            return f"the {side} reachable is {value}"
        kept = listed(others) if len(others) < 3 else "the others"
        return f"with {kept} kept, the {side} reachable {each.metric} is {value}"

    # ------------------------------------------------------------ common

    def _asked(self, limits: Sequence[Limit]) -> tuple[Exact | Wide, dict[str, float]]:
        """Who answers about limits on slot tables, and the limits as ceilings: name -> the most."""
        ceilings = self._ceilings(limits)
        if self._exact is None:
            # built once and late: it joins all tables, and most limits are decided without it
            self._exact = self._made(self._ceilings(self._on_tables(self.limits)))
        known = set(self._exact.metrics)
        exact = self._exact if ceilings.keys() <= known else self._made(ceilings)
        return exact, {name: each.most for name, each in ceilings.items()}

    def _ceilings(self, limits: Sequence[Limit]) -> dict[str, Ceiling]:
        return {self._name(limit): as_ceiling(self._tables[limit.metric], limit) for limit in limits}

    def _name(self, limit: Limit) -> str:
        """What its ceiling is called; that of a high peak depends on the value too."""
        if not limit.floor:
            return limit.metric
        is_peak = self._tables[limit.metric].table.combine == "max"
        return f"{limit.metric} >= {limit.value!r}" if is_peak else f"{limit.metric} >="

    def _made(self, ceilings: Mapping[str, Ceiling]) -> Exact | Wide:
        sizes = [len(c.options) for c in self.space.choices]
        costs = {name: each.cost for name, each in ceilings.items()}
        try:
            return Exact(costs, sizes, until=self._until)
        except UndecidedError:  # too many choices depend on each other
            return Wide(costs, sizes, until=self._until)

    def _on_tables(self, limits: Sequence[Limit]) -> list[Limit]:
        return [limit for limit in limits if limit.metric in self._tables]

    def _without(self, limit: Limit, limits: Sequence[Limit]) -> list[Limit]:
        return [each for each in limits if each != limit]

    def _decisive(self, limit: Limit, encoding: IntArray) -> float:
        return decisive(self.models[limit.metric], limit, encoding)

    def _canonical(self, assignment: IntArray) -> IntArray:
        encoding: IntArray = self.space.canonical(assignment[None])[0]
        return encoding


def _asked(limit: Limit) -> Relaxation:
    """A limit of which nobody knows how far it must give way."""
    return Relaxation(metric=limit.metric, limit=limit.value, floor=limit.floor)


def _limit(relaxation: Relaxation) -> Limit:
    return Limit(metric=relaxation.metric, value=relaxation.limit, floor=relaxation.floor)
