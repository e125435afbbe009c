"""Which of many evaluated networks keep limits, and why none does.

Shared by studies and queries. Numpy only; works on columns of values, never on trials or Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

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

    That is the one that must be loosened by least, as a share of it, for some network to keep it and all others; the
    value told is that network's, rounded to the side that lets it be kept. If no single limit can be loosened so, all
    that the nearest network exceeds are told.

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
    problem = f"no network of {among} keeps {_listed(metrics, limits, directions)}"
    bounds = {m: values[m] if _is_floor(m, directions) else upper.get(m, values[m]) for m in metrics}
    # for each limit, of the networks that keep all others, the one that misses it by least
    nearest = [(float(e[i]), j, i) for j, e in enumerate(_alone(excess)) if np.isfinite(e[i := int(e.argmin())])]
    if not nearest:
        row = int(excess.sum(axis=1).argmin())
        beyond = [m for m, e in zip(metrics, excess[row], strict=True) if e > 0]
        told = " and ".join(f"{m} = {outward(float(bounds[m][row]), floor=_is_floor(m, directions))}" for m in beyond)
        metric = metrics[int(excess[row].argmax())]
        return InfeasibleError(
            f"{problem}, nor if any one of these limits is loosened; the one that comes nearest has {told} and keeps "
            f"the others: as limits these can be kept",
            metric=metric,
            limit=limits[metric],
            architecture=decode(row),
        )
    _, j, row = min(nearest)
    metric, others = metrics[j], [m for m in metrics if m != metrics[j]]
    floor, reachable = _is_floor(metric, directions), float(bounds[metric][row])
    context = f"among those that keep {_listed(others, limits, directions)}" if others else extreme
    return InfeasibleError(
        f"{problem}: the limit on {metric} binds, the {'largest' if floor else 'smallest'} {context} is "
        f"{outward(reachable, floor=floor)}; {'lower' if floor else 'raise'} the limit to that",
        metric=metric,
        limit=limits[metric],
        reachable=reachable,
        architecture=decode(row),
    )


def outward(value: float, *, floor: bool) -> str:
    """Six digits, never below a value that a limit must allow, never above one that a floor must: it can be kept."""
    rounding = ROUND_FLOOR if floor else ROUND_CEILING
    return str(Context(prec=6, rounding=rounding).create_decimal_from_float(value).normalize())


def _alone(excess: FloatArray) -> Iterator[FloatArray]:
    """For each limit (N,) the excess over it of the networks that keep all others; inf of the rest."""
    for j in range(excess.shape[1]):
        others = (np.delete(excess, j, axis=1) == 0).all(axis=1)
        yield np.where(others, excess[:, j], np.inf)


def _is_floor(metric: str, directions: Mapping[str, Direction]) -> bool:
    return directions.get(metric) is Direction.MAXIMIZE


def _listed(metrics: list[str], limits: Mapping[str, float], directions: Mapping[str, Direction]) -> str:
    signs = {m: ">=" if _is_floor(m, directions) else "<=" for m in metrics}
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
        floor = _is_floor(metric, directions)
        bound = values[metric] if floor else upper.get(metric, values[metric])
        excess = relative_excess(bound, limit, floor=floor)
        columns[:, j] = np.where(np.isnan(excess), np.inf, excess)
    return columns
