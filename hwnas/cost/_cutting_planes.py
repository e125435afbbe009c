"""Weighted sums of several metrics whose least is as large as it can be for what limits allow.

Their weights are those of the Lagrangian dual (Geoffrion, 1974), by cutting planes (Kelley, 1960): a linear program
over the networks met so far gives the next weights to try. Knows layers of costs; never what a metric means.
"""

from __future__ import annotations

import math
import time

import numpy as np

from hwnas.cost._layers import Bound, Layers, UndecidedError
from hwnas.types import FloatArray, IntArray

_ROUNDS = 24
_KEPT = 6  # of the weighted sums, the last and best
_ROUNDING = 1e-12  # relative: sums of a few dozen entries in another order


def most(bound: Bound, caps: FloatArray) -> float:
    """What no network within the limits exceeds of a weighted sum; (M,) caps."""
    used = bound.weights > 0
    shares = bound.weights[used] * caps[used]
    return float(shares.sum() + 100 * _ROUNDING * np.abs(shares).sum())


def weighted_sums(
    layers: Layers,
    caps: FloatArray,
    *,
    largest: FloatArray,
    until: float,
    objective: int | None = None,
    is_proof: bool = True,
) -> tuple[list[Bound], IntArray | None]:
    """The last and best of the weighted sums, and (D,) a network within the limits if one was met on the way.

    Without an objective the first such network ends it.

    Args:
        layers: the costs.
        caps: (M,) limits; inf without one.
        largest: (M,) what no network exceeds.
        until: when to give up, by `time.monotonic`.
        objective: the metric in which the network is to be the least of those met; its own limit need not be kept.
        is_proof: that there is no network within the limits is all that is asked, and ends it.

    Raises:
        UndecidedError: it is too late.
    """
    limited = np.flatnonzero(layers.sums & np.isfinite(caps))
    bounds: list[Bound] = []
    if not len(limited):
        bound = layers.bound(np.zeros(len(caps)), caps)
        return bounds, layers.minimizer(bound, caps) if np.isfinite(bound.total) else None
    # a limit of nothing is kept by what costs nothing; its weight must stay a number
    room = np.maximum(caps[limited], 1e-9 * largest[limited])
    shares, reach = np.full(len(limited), 1 / len(limited)), math.inf  # all limits alike, to begin with
    points: list[FloatArray] = []
    best: IntArray | None = None
    lowest = math.inf
    for _ in range(_ROUNDS):
        weights = np.zeros(len(caps))
        weights[limited] = shares / room
        bound = layers.bound(weights, caps)
        bounds.append(bound)
        if bound.total > most(bound, caps) and (is_proof or math.isinf(bound.total)):
            break
        assignment = layers.minimizer(bound, caps)
        values = layers.values(assignment)
        kept = values <= caps
        if objective is None and kept.all():
            return bounds, assignment
        if objective is not None and np.delete(kept, objective).all() and values[objective] < lowest:
            best, lowest = assignment, float(values[objective])
        points.append(values[limited] / room)  # (L,) cost over limit: units cancel
        if bound.total >= reach - 1e-6 * abs(reach):  # no weights are better
            break
        shares, reach = next_shares(np.stack(points))
        if time.monotonic() > until:
            raise UndecidedError("the time allowed was not enough")
    return bounds[-_KEPT:], best  # earlier ones prune less


def next_shares(points: FloatArray) -> tuple[FloatArray, float]:
    """The weights under which the smallest weighted sum of the known points is largest, and that sum.

    Args:
        points: (K, L) cost over limit of K networks.

    Returns:
        (L,) non-negative weights that add up to 1; the least over the space is at most the sum.
    """
    from scipy.optimize import linprog  # takes half a second to import, which few need

    known, n = points.shape
    # keeps the tolerances of the solver meaningful for limits far below the costs; all may cost nothing
    scale = float(np.abs(points).max()) or 1.0
    solution = linprog(
        c=[*np.zeros(n), -1.0],  # maximise t
        A_ub=np.hstack([-points / scale, np.ones((known, 1))]),  # t <= weights @ points, for each point
        b_ub=np.zeros(known),
        A_eq=[[*np.ones(n), 0.0]],
        b_eq=[1.0],
        bounds=[*[(0.0, 1.0)] * n, (None, None)],
    )
    assert solution.x is not None, "the set of weights is never empty, and t is bounded"
    shares = np.clip(solution.x[:n], 0.0, 1.0)
    return shares / shares.sum(), float(solution.x[n] * scale)
