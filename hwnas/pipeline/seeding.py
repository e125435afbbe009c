"""Networks to begin a search with: those that do the most arithmetic within each of some latency limits.

MACs stand for accuracy only here, where nothing has been evaluated yet. Each network is found by integer programming
(`hwnas.cost.milp`), the run's other limits kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwnas.cost import Objective, SlotCost, best_within, feasible_encodings
from hwnas.cost.elimination import Factor
from hwnas.cost.exact import UndecidedError
from hwnas.errors import InfeasibleError
from hwnas.limits import Limit
from hwnas.pipeline.sensitivities import exact_options
from hwnas.types import IntArray, Option

if TYPE_CHECKING:
    from hwnas.spaces import Space

MOST = 12  # more are closer to each other than what a first population must tell apart
_NEAR = 0.005  # of the MACs: no seed need be better than that
_SECONDS = 20.0  # for each; the presets need one or two


def seed_architectures(
    space: Space, models: Mapping[str, SlotCost], limits: Sequence[Limit], *, most: int = MOST
) -> list[dict[str, Option]]:
    """A spread first population, the fastest first, different ones.

    Args:
        space: of the device.
        models: metric -> cost model, `latency_ms` and `macs` among them.
        limits: on metrics of `models`; all seeds keep them.
        most: networks at most, one at least.
    """
    found = {e.tobytes(): e for e in _encodings(space, models, limits, n=most)}
    return [space.decode(e) for e in found.values()]


def _encodings(space: Space, models: Mapping[str, SlotCost], limits: Sequence[Limit], *, n: int) -> list[IntArray]:
    """The fastest network within the limits, and those with most MACs, limits on latency rising from its own."""
    latency = models["latency_ms"]
    negative = tuple(Factor(scope=f.scope, values=-f.values) for f in latency.table.factors)
    try:
        fastest = best_within(
            Objective(factors=negative), space, models=models, limits=limits, seconds=_SECONDS
        ).encoding
    except (InfeasibleError, UndecidedError):  # the search itself tells of limits that nothing keeps
        return []
    least = float(latency.estimate(fastest[None]).upper[0])
    largest = latency.bounds()[1] * latency.upper_ratio
    most = min([largest, *(x.value for x in limits if x.metric == "latency_ms" and not x.floor)])
    found, macs = [fastest], float(models["macs"].estimate(fastest[None]).value[0])
    arithmetic = Objective(factors=models["macs"].table.factors)
    # evenly in factors: a millisecond is much for a fast network
    for value in np.geomspace(least, max(least, most), n)[1:].tolist():
        within = (*limits, Limit(metric="latency_ms", value=min(value, most)))
        try:
            solution = best_within(arithmetic, space, models=models, limits=within, seconds=_SECONDS, gap=_NEAR * macs)
        except (InfeasibleError, UndecidedError):  # rounding, or no time: the next limit is looser
            continue
        found.append(solution.encoding)
        macs = max(macs, solution.value)
    found = [_exact_where_no_slower(e, space, models, limits) for e in found]
    latencies = latency.estimate(np.stack(found)).value
    return [found[i] for i in np.argsort(latencies, kind="stable")]


def _exact_where_no_slower(
    encoding: IntArray, space: Space, models: Mapping[str, SlotCost], limits: Sequence[Limit]
) -> IntArray:
    """(D,) the network with the most exact precision in all regions, or in single ones, where that is no slower.

    Precision changes no MACs, so the solver may give any that keeps the limits.
    """
    exact = exact_options(space.choices)
    for changed in ([*exact], *([c] for c in exact)):
        # whole first: one region alone may cost two changes of precision
        other = encoding.copy()
        other[changed] = [exact[c] for c in changed]
        both = space.canonical(np.stack([encoding, other]))
        latencies = models["latency_ms"].estimate(both).value
        if latencies[1] <= latencies[0] and feasible_encodings(both[1:], models, limits)[0]:
            encoding = both[1]
    return encoding
