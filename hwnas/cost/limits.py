"""Which networks keep the limits, and whether any can.

A limit is kept by the upper bound of an estimate. What one limit alone allows is decided exactly; for
several together there is a search for a proof either way. This module must never know what a metric
means or how networks are searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import numpy as np
import numpy.typing as npt

from hwnas.cost.elimination import Factor, optimum
from hwnas.cost.model import SlotCost
from hwnas.errors import ConfigError, InfeasibleError, UnknownNameError
from hwnas.types import CostModel, FloatArray, IntArray, Limit, Option, SearchSpace

_ROUNDS = 40  # of the search for a proof; two or three limits need about five
_TOLERANCE = 1e-9  # relative: rounding of sums of a few dozen entries


def violations(encodings: IntArray, models: Mapping[str, CostModel], limits: Sequence[Limit]) -> FloatArray:
    """By how much each architecture's upper bounds exceed the limits.

    Args:
        encodings: (N, D) option indices.
        models: metric -> its cost model.
        limits: L of them.

    Returns:
        (N, L) relative excess `upper / limit - 1`: at most 0 where the limit is kept.

    Raises:
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    _check_limits(models, limits)
    columns = [models[limit.metric].estimate(encodings).upper / limit.value - 1 for limit in limits]
    return np.stack(columns, axis=1) if columns else np.zeros((len(encodings), 0))


def kept(encodings: IntArray, models: Mapping[str, CostModel], limits: Sequence[Limit]) -> npt.NDArray[np.bool_]:
    """(N,) whether each architecture's upper bounds keep all limits.

    Raises:
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    return np.asarray((violations(encodings, models, limits) <= 0).all(axis=1))


def check_reachable(models: Mapping[str, CostModel], limits: Sequence[Limit], space: SearchSpace) -> IntArray | None:
    """Refuse limits that no network of the space keeps.

    One limit: exact. Several limits: a Lagrangian bound (Geoffrion, 1974). For weights w that add up to 1,
    a network that keeps all limits has `sum of w * upper / limit <= 1`; where the exact minimum of that sum
    over the space is above 1, there is none. The weights come from cutting planes: each minimiser found
    either keeps all limits, which settles the question, or tightens the choice of the next weights. Limits
    on peaks enter exactly, as forbidden blocks. Between a proof and a witness a gap may remain; then only the
    search can tell.

    Args:
        models: metric -> its cost model.
        limits: on metrics of `models`.
        space: of the models, to name the architecture.

    Returns:
        (D,) canonical encoding of a network that keeps all limits, None if neither one nor a proof of the
        contrary was found.

    Raises:
        InfeasibleError: no network keeps the limits.
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    _check_limits(models, limits)
    witness: IntArray = space.canonical(np.zeros((1, len(space.choices)), dtype=np.int64))[0]
    for limit in limits:
        witness = models[limit.metric].minimizer()
        reachable = float(models[limit.metric].estimate(witness[None]).upper[0])
        if reachable > limit.value:
            raise InfeasibleError(
                f"no network of {space.name} keeps {limit}: the smallest reachable is {_round_up(reachable)}",
                metric=limit.metric,
                limit=limit.value,
                reachable=reachable,
                architecture=_decode(space, witness),
            )
    if len({limit.metric for limit in limits}) < 2:
        # with one metric the smallest limit decided; its minimiser keeps the others too
        return witness
    return _check_together(models, limits, space)


def _check_together(models: Mapping[str, CostModel], limits: Sequence[Limit], space: SearchSpace) -> IntArray | None:
    limits = tuple(dict.fromkeys(limits))
    tables = {metric: model for metric, model in models.items() if isinstance(model, SlotCost)}
    sums = [limit for limit in limits if limit.metric in tables and tables[limit.metric].table.combine == "sum"]
    peaks = [limit for limit in limits if limit.metric in tables and tables[limit.metric].table.combine == "max"]
    forbidden = [factor for limit in peaks for factor in _forbidden(tables[limit.metric], limit)]
    sizes = [len(c.options) for c in space.choices]
    weights = np.full(len(sums), 1 / max(len(sums), 1))
    ratios: list[FloatArray] = []  # of each minimiser, (L,) upper / limit
    nearest: IntArray = np.zeros(len(sizes), dtype=np.int64)
    nearest_excess = math.inf
    for _ in range(_ROUNDS):
        weighted = [
            f for w, limit in zip(weights, sums, strict=True) for f in _weighted(tables[limit.metric], limit, w)
        ]
        found = optimum([*weighted, *forbidden], sizes)
        if math.isinf(found.value):
            raise _peaks_infeasible(peaks, space)
        encoding: IntArray = space.canonical(found.assignment[None])[0]
        excess = float(violations(encoding[None], models, limits).max())
        if excess <= 0:
            return encoding
        if excess < nearest_excess:
            nearest, nearest_excess = encoding, excess
        ratios.append(violations(encoding[None], models, sums)[0] + 1)
        least = float(weights @ ratios[-1])  # the exact minimum over the space: this network reaches it
        if least > 1 + _TOLERANCE:
            named = dict(zip(sums, weights.tolist(), strict=True))
            raise _together_infeasible(models, limits, space, nearest=nearest, weights=named, least=least)
        weights, best = _next_weights(np.stack(ratios)) if sums else (weights, 0.0)
        if best <= 1:
            return None  # no weights can prove anything
    return None


def _weighted(model: SlotCost, limit: Limit, weight: float) -> list[Factor]:
    factor = weight * model.upper_ratio / limit.value
    return [Factor(scope=f.scope, values=factor * f.values) for f in model.table.factors] if weight else []


def _forbidden(model: SlotCost, limit: Limit) -> list[Factor]:
    """Entries that alone exceed a limit on a peak become inf, all others cost nothing."""
    tables = [(f.scope, (f.values + model.table.offset) * model.upper_ratio > limit.value) for f in model.table.factors]
    return [Factor(scope=scope, values=np.where(above, np.inf, 0.0)) for scope, above in tables if above.any()]


def _next_weights(ratios: FloatArray) -> tuple[FloatArray, float]:
    """The weights under which the smallest weighted sum of the known points is largest, and that sum.

    Args:
        ratios: (K, L) upper / limit of K networks.

    Returns:
        (L,) non-negative weights that add up to 1; the exact minimum over the space is at most the sum.
    """
    from scipy.optimize import linprog

    points, n = ratios.shape
    scale = ratios.max()  # keeps the solver's tolerances meaningful for limits far below the costs
    solution = linprog(
        c=[*np.zeros(n), -1.0],  # maximise t
        A_ub=np.hstack([-ratios / scale, np.ones((points, 1))]),  # t <= weights @ ratios, for each point
        b_ub=np.zeros(points),
        A_eq=[[*np.ones(n), 0.0]],
        b_eq=[1.0],
        bounds=[*[(0.0, 1.0)] * n, (None, None)],
    )
    assert solution.x is not None, "the set of weights is never empty, and t is bounded"
    weights = np.clip(solution.x[:n], 0.0, 1.0)
    return weights / weights.sum(), float(solution.x[n] * scale)


def _peaks_infeasible(peaks: Sequence[Limit], space: SearchSpace) -> InfeasibleError:
    return InfeasibleError(
        f"no network of {space.name} keeps {_listed(peaks)} together, though each alone can be kept",
        metric=peaks[0].metric,
        limit=peaks[0].value,
    )


def _together_infeasible(
    models: Mapping[str, CostModel],
    limits: Sequence[Limit],
    space: SearchSpace,
    *,
    nearest: IntArray,
    weights: Mapping[Limit, float],
    least: float,
) -> InfeasibleError:
    """Names the limit with the largest weight and what is proven about it.

    If the other limits are kept, their share of the weighted sum is at most the sum of their weights; what is
    missing up to `least`, the sum's minimum over the space, must come from this one.
    """
    binding, weight = max(weights.items(), key=lambda item: item[1])
    bound = binding.value * (least - 1 + weight) / weight
    exact = len(weights) == 1  # then the minimiser under the limits on peaks reaches the bound
    upper = {limit.metric: float(models[limit.metric].estimate(nearest[None]).upper[0]) for limit in limits}
    return InfeasibleError(
        f"no network of {space.name} keeps {_listed(limits)} together, though each alone can be kept: with the others "
        f"kept, {binding.metric} is {_round_up(bound) if exact else 'above ' + _round_down(bound)}"
        f"; the nearest network found has {', '.join(f'{m} = {_round_up(v)}' for m, v in upper.items())}",
        metric=binding.metric,
        limit=binding.value,
        reachable=bound if exact else None,
        architecture=_decode(space, nearest) if exact else None,
    )


def _check_limits(models: Mapping[str, CostModel], limits: Sequence[Limit]) -> None:
    for limit in limits:
        if limit.metric not in models:
            raise UnknownNameError("metric in a limit", limit.metric, models)
        if not (math.isfinite(limit.value) and limit.value > 0):
            raise ConfigError(f"limit {limit}: its value must be a positive number")


def _listed(limits: Sequence[Limit]) -> str:
    return " and ".join(map(str, limits))


def _round_up(value: float) -> str:
    """Four digits, never below the value: a limit set to what an error printed can be kept."""
    return f"{Context(prec=4, rounding=ROUND_CEILING).create_decimal_from_float(value):f}"


def _round_down(value: float) -> str:
    return f"{Context(prec=4, rounding=ROUND_FLOOR).create_decimal_from_float(value):f}"


def _decode(space: SearchSpace, encoding: IntArray) -> dict[str, Option]:
    """Choice name -> option of the choices that are switched on."""

    def active(i: int) -> bool:
        parent = space.choices[i].parent
        return parent is None or (active(parent) and int(encoding[parent]) in space.choices[i].active_when)

    return {c.name: c.options[int(encoding[i])] for i, c in enumerate(space.choices) if active(i)}
