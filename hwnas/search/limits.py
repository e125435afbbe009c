"""Why none of many evaluated networks keeps the limits, and what the nearest would need.

Shared by studies and queries. Numpy only; works on columns of values, never on trials or Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from hwnas.errors import InfeasibleError, Relaxation, StudyError
from hwnas.limits import Limit, conflicting, excess, listed
from hwnas.types import FloatArray, Option


def check_known(metrics: Iterable[str], known: Iterable[str]) -> None:
    """Refuse metrics a study does not have.

    Raises:
        StudyError: lists the known metrics.
    """
    known = sorted(known)
    for metric in metrics:
        if metric not in known:
            raise StudyError(f"the study has no metric {metric!r}; known: {', '.join(known) or 'none'}")


def infeasible(
    values: Mapping[str, FloatArray],
    upper: Mapping[str, FloatArray],
    *,
    limits: Sequence[Limit],
    decode: Callable[[int], Mapping[str, Option]],
    among: str,
    extreme: str,
) -> InfeasibleError:
    """The error for limits that none of N networks keeps; names those that conflict, and which of them binds.

    That is the one that must be loosened by least, as a share of it, for some network to keep it and all others; the
    values told are networks', rounded to the side that lets them be kept. If no single limit can be loosened so, all
    that the nearest network exceeds are told.

    Args:
        values: metric -> (N,).
        upper: metric -> (N,) upper bounds for the metrics that have one.
        limits: at least one; not kept together by any row.
        decode: row -> architecture.
        among: whose networks these are, for the message: `the study`, `the space`, ...
        extreme: what the smallest of their values is called: `seen`, `reachable`, `found`.
    """
    beyond = excess(limits, values, upper)  # (N, L)
    # inf: a metric of the limits has no value
    if not len(beyond) or np.isinf(beyond).all():
        first = limits[0]
        return InfeasibleError(
            f"no network of {among} has a value of {first.metric!r} to compare with its limit",
            metric=first.metric,
            limit=first.value,
        )
    kept = {limit: beyond[:, j] == 0 for j, limit in enumerate(limits)}
    found = conflicting(limits, lambda some: bool(np.all([kept[x] for x in some], axis=0).any()))

    def loosened(limit: Limit, row: int | None) -> Relaxation:
        return Relaxation(
            metric=limit.metric,
            limit=limit.value,
            floor=limit.floor,
            reachable=None if row is None else float(limit.decisive(values, upper)[row]),
            architecture=None if row is None else decode(row),
        )

    problem = f"no network of {among} keeps {listed(limits)}"
    # for each, of the networks that keep all others, the one that misses it by least
    nearest = {x: row for j, x in enumerate(limits) if (row := _nearest(beyond, j)) is not None}
    conflict = [loosened(x, nearest.get(x)) for x in found]
    ways = sorted((x for x in conflict if x.reachable is not None), key=lambda x: x.share)
    if not ways:
        # nearest by the sum of shares: several must be loosened, and all of it is told
        row = int(beyond.sum(axis=1).argmin())
        together = [loosened(x, row) for x, e in zip(limits, beyond[row], strict=True) if e > 0]
        told = " and ".join(f"{x.metric} = {_rounded(x)}" for x in together)
        return InfeasibleError.of(
            f"{problem}, nor if any one of these limits is loosened; the one that comes nearest has {told} and keeps "
            f"the others: as limits these can be kept",
            conflict,
            together=together,
        )
    binding = ways[0]
    others = [x for x in limits if (x.metric, x.floor) != (binding.metric, binding.floor)]
    context = f"among those that keep {listed(others)}" if others else extreme
    told = "".join(f", or {_change(x)} the one on {x.metric} to {_rounded(x)}" for x in ways[1:])
    return InfeasibleError.of(
        f"{problem}: the limit on {binding.metric} binds, the {'largest' if binding.floor else 'smallest'} {context} "
        f"is {_rounded(binding)}; {_change(binding)} the limit to that{told}",
        conflict,
    )


def _nearest(beyond: FloatArray, j: int) -> int | None:
    """Of the networks that keep all limits but one, the row that misses this one by least; None if there is none."""
    others = (np.delete(beyond, j, axis=1) == 0).all(axis=1)
    missed = np.where(others, beyond[:, j], np.inf)
    row = int(missed.argmin())
    return row if np.isfinite(missed[row]) else None


def _change(relaxation: Relaxation) -> str:
    return "lower" if relaxation.floor else "raise"


def _rounded(relaxation: Relaxation) -> str:
    assert relaxation.reachable is not None
    return Limit(metric=relaxation.metric, value=0.0, floor=relaxation.floor).met_at(relaxation.reachable)
