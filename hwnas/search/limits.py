"""Which of many evaluated networks keep limits, and why none does.

Shared by studies and queries. Numpy only; works on columns of values, never on trials or Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from hwnas.errors import InfeasibleError, StudyError
from hwnas.search.problem import BoolArray, relative_excess
from hwnas.types import Direction, FloatArray, Option


def check_known(metrics: Iterable[str], known: Iterable[str]) -> None:
    """Refuse metrics a study does not have.

    Raises:
        StudyError: lists the known metrics.
    """
    known = sorted(known)
    for metric in metrics:
        if metric not in known:
            raise StudyError(f"the study has no metric {metric!r}; known: {', '.join(known) or 'none'}")


def keeps(
    values: Mapping[str, FloatArray],
    upper: Mapping[str, FloatArray],
    *,
    limits: Mapping[str, float],
    directions: Mapping[str, Direction],
) -> BoolArray:
    """(N,) which networks keep all limits. An unknown value (NaN) keeps none.

    Args:
        values: metric -> (N,).
        upper: metric -> (N,) upper bounds for the metrics that have one; a limit is kept by them.
        limits: metric -> `<= value`, or `>= value` for a metric that is maximised.
        directions: metric -> direction.
    """
    kept: BoolArray = (_excess(values, upper, limits=limits, directions=directions) == 0).all(axis=1)
    return kept


def infeasible(
    values: Mapping[str, FloatArray],
    upper: Mapping[str, FloatArray],
    *,
    limits: Mapping[str, float],
    directions: Mapping[str, Direction],
    decode: Callable[[int], Mapping[str, Option]],
    among: str,
    extreme: str,
) -> InfeasibleError:
    """The error for limits that none of N networks keeps; names the limit that binds.

    A limit that no network keeps even alone binds first (the one missed by most). If each can be kept
    alone, it is the one that the network with the smallest total excess misses by most.

    Args:
        values: metric -> (N,).
        upper: metric -> (N,) upper bounds for the metrics that have one.
        limits: metric -> limit, at least one; not kept together by any row.
        directions: metric -> direction.
        decode: row -> architecture.
        among: whose networks these are, for the message: `the study`, `the space`, ...
        extreme: what the smallest of their values is called: `seen`, `reachable`, `found`.
    """
    metrics = list(limits)
    excess = _excess(values, upper, limits=limits, directions=directions)  # (N, L)
    if not len(excess) or np.isinf(excess).all():
        metric = metrics[0]
        return InfeasibleError(
            f"no network of {among} has a value of {metric!r} to compare with its limit",
            metric=metric,
            limit=limits[metric],
        )
    alone = excess.min(axis=0)  # (L,) how close each limit is to being kept if it were the only one
    if (alone > 0).any():
        j = int(np.argmax(alone))
        row, context = int(np.argmin(excess[:, j])), extreme
    else:
        row = int(np.argmin(excess.sum(axis=1)))
        j = int(np.argmax(excess[row]))
        others = [m for m in metrics if m != metrics[j]]
        rest = np.flatnonzero((np.delete(excess, j, axis=1) == 0).all(axis=1))
        if len(rest):  # the networks that keep all other limits: how close do they come to this one?
            row = int(rest[np.argmin(excess[rest, j])])
            context = f"among those that keep {_listed(others, limits, directions)}"
        else:
            context = "of the one that comes nearest to all limits together"
    metric = metrics[j]
    floor = directions.get(metric) is Direction.MAXIMIZE
    bound = values[metric] if floor else upper.get(metric, values[metric])
    reachable = float(bound[row])
    return InfeasibleError(
        f"no network of {among} keeps {_listed(metrics, limits, directions)}: the limit on {metric} binds, "
        f"the {'largest' if floor else 'smallest'} {context} is {reachable:.6g}; loosen it to that",
        metric=metric,
        limit=limits[metric],
        reachable=reachable,
        architecture=decode(row),
    )


def _listed(metrics: list[str], limits: Mapping[str, float], directions: Mapping[str, Direction]) -> str:
    signs = {m: ">=" if directions.get(m) is Direction.MAXIMIZE else "<=" for m in metrics}
    return " and ".join(f"{m} {signs[m]} {limits[m]:g}" for m in metrics)


def _excess(
    values: Mapping[str, FloatArray],
    upper: Mapping[str, FloatArray],
    *,
    limits: Mapping[str, float],
    directions: Mapping[str, Direction],
) -> FloatArray:
    """(N, L) relative excess over each limit; inf where the value is not known."""
    n = len(next(iter(values.values()), np.zeros(0)))
    columns = np.zeros((n, len(limits)))
    for j, (metric, limit) in enumerate(limits.items()):
        floor = directions.get(metric) is Direction.MAXIMIZE
        bound = values[metric] if floor else upper.get(metric, values[metric])
        excess = relative_excess(bound, limit, floor=floor)
        columns[:, j] = np.where(np.isnan(excess), np.inf, excess)
    return columns
