"""Which networks keep the limits, and whether any can.

A limit (`hwnas.limits`) from above is kept by the upper bound of an estimate, one from below by its value. What limits
allow, alone and together, is decided exactly. This module must never know what a metric means or how networks are
searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.cost.conflicts import Together, keeps
from hwnas.errors import ConfigError, UnknownNameError
from hwnas.limits import Limit
from hwnas.types import BoolArray, CostModel, IntArray, SearchSpace

_SECONDS = 30.0  # for limits taken together; the presets need about one


def feasible_encodings(encodings: IntArray, models: Mapping[str, CostModel], limits: Sequence[Limit]) -> BoolArray:
    """(N,) whether each architecture keeps all limits, those from above by its upper bound.

    Args:
        encodings: (N, D) option indices.
        models: metric -> its cost model.
        limits: on metrics of `models`.

    Raises:
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    _check_limits(models, limits)
    return keeps(encodings, models, limits)


def check_reachable(
    models: Mapping[str, CostModel], limits: Sequence[Limit], space: SearchSpace, *, seconds: float = _SECONDS
) -> IntArray | None:
    """Refuse limits that no network of the space keeps. Exact, for one limit and for several (`hwnas.cost.conflicts`).

    Args:
        models: metric -> its cost model.
        limits: on metrics of `models`, from either side.
        space: of the models, to name the architecture.
        seconds: for a proof or a witness where there are several limits; a small part of it is enough for the presets.

    Returns:
        (D,) canonical encoding of a network that keeps all limits; None if that was not decided in the time allowed,
        or because a model with a limit is no slot table.

    Raises:
        InfeasibleError: no network keeps the limits; names those that conflict, and for each the value with which, all
            others kept, there is a network. Told values are rounded so that they can be taken as they are printed.
        UnknownNameError: a limit's metric has no model.
        ConfigError: a limit is not a positive number.
    """
    _check_limits(models, limits)
    tightest: dict[tuple[str, bool], Limit] = {}
    for limit in limits:
        before = tightest.get((limit.metric, limit.floor))
        if before is None or not limit.is_kept_by(before.value):
            tightest[limit.metric, limit.floor] = limit
    if not tightest:
        return space.canonical(np.zeros((1, len(space.choices)), dtype=np.int64))[0]  # type: ignore[no-any-return]
    return Together(models, list(tightest.values()), space, seconds=seconds).witness()


def _check_limits(models: Mapping[str, CostModel], limits: Sequence[Limit]) -> None:
    for limit in limits:
        if limit.metric not in models:
            raise UnknownNameError("metric in a limit", limit.metric, models)
        # excesses are shares of the limit, which a limit of 0 has none of
        if not (math.isfinite(limit.value) and limit.value > 0):
            raise ConfigError(f"limit {limit}: its value must be a positive number")
