"""How much accuracy each region loses in each precision: the networks that tell it, and what they told.

A network with every region in the most exact precision, and the same with one region at a time in another one, as
sensitivities are measured for mixed precision (ZeroQ: Cai et al., 2020, and Sony's Model Compression Toolkit). They are
trials of the study like any other: whatever the sampler, it learns from them, and none is evaluated twice.

Knows spaces, costs and studies; never how an accuracy is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hwnas.cost import Objective, SlotCost, SlotTable, best_within, feasible_encodings
from hwnas.cost.exact import UndecidedError
from hwnas.errors import InfeasibleError
from hwnas.limits import Limit
from hwnas.precisions import KNOWN, by_exactness
from hwnas.search import Study
from hwnas.spaces import Space
from hwnas.types import Choice, FloatArray, IntArray

_SHARE = 3  # one trial of so many, at most: the sampler must have trials left to use what they told
_ROOM = 0.9  # of what is allowed, for the network that is exact throughout
_NEAR = 0.005  # of the MACs: nothing depends on the last of them
_SECONDS = 20.0
_INEXACT = "regions that are not in the most exact precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What one region loses in one precision.

    Attributes:
        choice: that says the region's precision.
        precision: it was given.
        loss: accuracy of the network with the most exact precision everywhere, less that with this one here.
    """

    choice: str
    precision: str
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SensitivityPlan:
    """Networks that tell the sensitivities.

    Attributes:
        exact: (D,) the one whose regions are all in the most exact precision; None: nothing is to be measured.
        changed: choice and precision -> (D,) the same but for that.
        why_not: where nothing is to be measured though precision is a choice.
    """

    exact: IntArray | None = None
    changed: Mapping[tuple[str, str], IntArray] = field(default_factory=dict)
    why_not: str = ""

    @property
    def encodings(self) -> list[IntArray]:
        """All of them, the most exact one first."""
        return [] if self.exact is None else [self.exact, *self.changed.values()]

    def read(self, study: Study) -> tuple[Sensitivity, ...]:
        """What a study tells, the largest loss first; nothing of networks that it has not."""
        accuracies = dict(zip(map(_key, study.encodings), study.values[study.ranked_by].tolist(), strict=True))
        if self.exact is None or _key(self.exact) not in accuracies:
            return ()
        exact = accuracies[_key(self.exact)]
        found = [
            Sensitivity(choice=choice, precision=precision, loss=exact - accuracies[key])
            for (choice, precision), encoding in self.changed.items()
            if (key := _key(encoding)) in accuracies
        ]
        return tuple(sorted(found, key=lambda s: -s.loss))


def plan_sensitivities(
    space: Space,
    models: Mapping[str, SlotCost],
    limits: Sequence[Limit],
    *,
    n_trials: int,
    known: IntArray | None = None,
) -> SensitivityPlan:
    """The largest network within the limits whose regions are all exact, and its neighbours in other precisions.

    Where an earlier search told the sensitivities by networks that keep these limits as well, it is those.

    Args:
        space: of the device.
        models: metric -> cost model, `macs` among them.
        limits: on metrics of `models`; all networks keep them, so a region may lack a precision.
        n_trials: of the search; a third of them may be spent on this.
        known: (N, D) networks whose accuracy is known.
    """
    if known is None:
        known = np.zeros((0, len(space.choices)), dtype=np.int64)
    return _Planner(space, models, limits).plan(n_trials, known)


def exact_options(choices: Sequence[Choice]) -> dict[int, int]:
    """Choice that says a region's precision, where there are several -> its most exact option."""
    return {
        i: c.options.index(by_exactness(str(o) for o in c.options)[0])
        for i, c in enumerate(choices)
        if len(c.options) > 1 and all(o in KNOWN for o in c.options)
    }


class _Planner:
    """See `plan_sensitivities`."""

    def __init__(self, space: Space, models: Mapping[str, SlotCost], limits: Sequence[Limit]) -> None:
        self._space, self._models, self._limits = space, models, tuple(limits)
        self._regions = list(exact_options(space.choices))

    def plan(self, n_trials: int, known: IntArray) -> SensitivityPlan:
        if not self._regions:
            return SensitivityPlan()
        most = 1 + sum(len(self._space.choices[c].options) - 1 for c in self._regions)
        if _SHARE * most > n_trials:
            return SensitivityPlan(
                why_not=f"it may take {most} networks, more than a third of the {n_trials} that search.n_trials allows"
            )
        keys = set(map(_key, known))
        for exact in self._exact_among(known):
            plan = self._around(exact)
            if plan.changed and keys.issuperset(map(_key, plan.encodings)):
                return plan
        found = self._largest_exact()
        if found is None:
            return SensitivityPlan(why_not="no network that is in the most exact precision throughout keeps the limits")
        plan = self._around(found)
        return plan if plan.changed else SensitivityPlan(why_not="no other precision of any region keeps the limits")

    def _around(self, exact: IntArray) -> SensitivityPlan:
        """The network's neighbours within the limits."""
        active = self._space.active(exact)
        changed = {}
        for c in self._regions:
            for option, precision in enumerate(self._space.choices[c].options):
                if active[c] and option != exact[c]:
                    encoding = exact.copy()
                    encoding[c] = option
                    if feasible_encodings(encoding[None], self._models, self._limits)[0]:
                        changed[self._space.choices[c].name, str(precision)] = encoding
        return SensitivityPlan(exact=exact, changed=changed)

    def _exact_among(self, known: IntArray) -> Iterator[IntArray]:
        """Those that keep the limits and are exact throughout, the largest first."""
        if not len(known):
            return
        exact = self._inexact.estimate(known).value == 0
        rows = known[exact & feasible_encodings(known, self._models, self._limits)]
        yield from rows[np.argsort(-self._models["macs"].estimate(rows).value, kind="stable")]

    def _largest_exact(self) -> IntArray | None:
        """(D,) by its MACs; None if none keeps the limits, or none was found in time."""
        # at the very limit a lone region in another precision would exceed it by what the changes of precision cost
        roomy = [x if x.floor or x.value <= 0 else replace(x, value=_ROOM * x.value) for x in self._limits]
        for limits in (roomy, self._limits):
            found = self._largest_within(limits)
            if found is not None:
                return found
        return None

    def _largest_within(self, limits: Sequence[Limit]) -> IntArray | None:
        arithmetic = self._models["macs"]
        # exactness is one more limit to the integer program
        try:
            return best_within(
                Objective(factors=arithmetic.table.factors),
                self._space,
                models={**self._models, _INEXACT: self._inexact},
                limits=[*limits, Limit(metric=_INEXACT, value=0.5)],
                seconds=_SECONDS,
                gap=_NEAR * arithmetic.bounds()[1],
            ).encoding
        except (InfeasibleError, UndecidedError):
            return None

    @cached_property
    def _inexact(self) -> SlotCost:
        """How many regions in use are not in the most exact precision."""
        choices = self._space.choices
        tables = [((c,), _is_inexact(choices[c], exact)) for c, exact in exact_options(choices).items()]
        table = SlotTable(
            sizes=tuple(len(c.options) for c in choices),
            factors=Objective.over_states(choices, tables).factors,
            canonical=self._space.canonical,
        )
        return SlotCost(metric=_INEXACT, table=table)


def _is_inexact(choice: Choice, exact: int) -> FloatArray:
    """1 for each option but the most exact one; 0 for that and, in one more place, where the choice is off."""
    values = [float(option != exact) for option in range(len(choice.options))]
    return np.array([*values, 0.0] if choice.parent is not None else values)


def _key(encoding: IntArray) -> bytes:
    return encoding.astype(np.int64).tobytes()
