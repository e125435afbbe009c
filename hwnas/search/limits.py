"""Why none of many evaluated networks keeps the limits, and what the nearest would need.

Shared by studies and queries. Numpy only; works on columns of values, never on trials or Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from hwnas.errors import InfeasibleError, StudyError
from hwnas.limits import Limit, excess, listed
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
    """The error for limits that none of N networks keeps; names the limit that binds.

    That is the one that must be loosened by least, as a share of it, for some network to keep it and all others; the
    value told is that network's, rounded to the side that lets it be kept. If no single limit can be loosened so, all
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
    problem = f"no network of {among} keeps {listed(limits)}"
    # for each limit, of the networks that keep all others, the one that misses it by least
    nearest = [(float(e[i]), j, i) for j, e in enumerate(_alone(beyond)) if np.isfinite(e[i := int(e.argmin())])]
    if not nearest:
        # nearest by the sum of shares: several must be loosened, and all of it is told
        row = int(beyond.sum(axis=1).argmin())
        told = _missed(limits, beyond[row], [float(x.decisive(values, upper)[row]) for x in limits])
        worst = limits[int(beyond[row].argmax())]
        return InfeasibleError(
            f"{problem}, nor if any one of these limits is loosened; the one that comes nearest has {told} and keeps "
            f"the others: as limits these can be kept",
            metric=worst.metric,
            limit=worst.value,
            architecture=decode(row),
        )
    # the excess is a share of the limit, so metrics of different units compare
    _, j, row = min(nearest)
    binding, others = limits[j], [limit for limit in limits if limit is not limits[j]]
    reachable = float(binding.decisive(values, upper)[row])
    context = f"among those that keep {listed(others)}" if others else extreme
    return InfeasibleError(
        f"{problem}: the limit on {binding.metric} binds, the {'largest' if binding.floor else 'smallest'} {context} "
        f"is {binding.met_at(reachable)}; {'lower' if binding.floor else 'raise'} the limit to that",
        metric=binding.metric,
        limit=binding.value,
        reachable=reachable,
        architecture=decode(row),
    )


def _missed(limits: Sequence[Limit], beyond: FloatArray, decisive: Sequence[float]) -> str:
    """What the limits that one network exceeds would have to be.

    Args:
        limits: L of them.
        beyond: (L,) the network's excess over each.
        decisive: L values, of what counts against each.
    """
    columns = zip(limits, beyond, decisive, strict=True)
    return " and ".join(f"{limit.metric} = {limit.met_at(value)}" for limit, e, value in columns if e > 0)


def _alone(beyond: FloatArray) -> Iterator[FloatArray]:
    """For each limit (N,) the excess over it of the networks that keep all others; inf of the rest."""
    for j in range(beyond.shape[1]):
        others = (np.delete(beyond, j, axis=1) == 0).all(axis=1)
        yield np.where(others, beyond[:, j], np.inf)
