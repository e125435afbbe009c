"""Which of several networks to take: of those that are as good within their noise the cheapest, never a dominated one.

The one-standard-error rule (Breiman, Friedman, Olshen & Stone, 1984, section 3.4.3): what is chosen by a metric that
was measured on samples need not be the one with the best value, since another sample would have put another first.
Every network whose value is within one standard error of the best is as good, and the cheapest of them is taken.

The standard error is that of the best value alone. Networks of one supernet are measured on the same images, and most
images that one of them gets wrong the other gets wrong too, so that the standard error of their difference is smaller
than that of two independent values (1.4 times the one used) and near the one used; it would need the answers to every
image. Numpy only; never knows what a metric means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hwnas.types import Direction, FloatArray, IntArray

SIZE = "size_bytes"  # what counts next where two networks cost the same in all that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One network that was taken.

    Attributes:
        row: of the network.
        best: row of the one with the best value of those that were left; the same row if that was taken.
    """

    row: int
    best: int


def picks(gain: FloatArray, costs: FloatArray, *, tolerance: FloatArray) -> Iterator[Pick]:
    """Rows in the order in which to take them; each is what would be taken if those before it did not exist.

    A network is never dominated (in its value and all of its costs together) by one that comes later: whatever is at
    least as good is within the tolerance too, and what costs nowhere more and somewhere less comes first.

    Args:
        gain: (N,) the value, larger is better, no NaN.
        costs: (N, K) smaller is better, the most important first; NaN is the most expensive.
        tolerance: (N,) how much less than this network's value is still as good, at least 0.
    """
    price = np.empty(len(gain), dtype=np.int64)
    # (N, K + 1) -> rank of each row; of equal costs the better value comes first
    price[by_price(np.column_stack([costs, -gain]))] = np.arange(len(gain))
    falling = np.argsort(-gain, kind="stable")
    left = np.ones(len(gain), dtype=bool)
    for _ in range(len(gain)):
        best = int(falling[0])
        # a difference of whole samples is compared with an error of whole samples: leave room for rounding
        least = gain[best] - tolerance[best] - 1e-12 * abs(gain[best])
        n = int(np.searchsorted(-gain[falling], -least, side="right"))
        near = falling[:n]
        # near: (n,) rows within the tolerance of the best that is left
        row = int(near[np.argmin(price[near])])
        yield Pick(row=row, best=best)
        left[row] = False
        falling = falling[left[falling]]


def cost_columns(
    values: Mapping[str, FloatArray],
    upper: Mapping[str, FloatArray],
    *,
    metric: str,
    directions: Mapping[str, Direction],
    first: Iterable[str] = (),
) -> tuple[list[str], FloatArray]:
    """What a network is paid with, the most important first, by upper bounds where there are any.

    Args:
        values: metric -> (N,).
        upper: metric -> (N,) for the metrics that have a bound.
        metric: what is gained; every other metric is a cost.
        directions: metric -> direction; these count first. A metric without one is minimised.
        first: metrics that count next, those with a limit.

    Returns:
        The metrics, and (N, K) to minimise.
    """
    # `fromkeys` keeps the first place of each: objectives, limits,
    # size, then by name, so the order never depends on chance
    names = [m for m in dict.fromkeys([*directions, *first, SIZE, *sorted(values)]) if m in values and m != metric]
    columns = [
        # `fmax`: where one of the two is NaN the other counts
        -values[m] if directions.get(m) is Direction.MAXIMIZE else np.fmax(values[m], upper.get(m, values[m]))
        for m in names
    ]
    n = len(values[metric])
    return names, np.stack(columns, axis=1).astype(float) if columns else np.zeros((n, 0))


def by_price(costs: FloatArray) -> IntArray:
    """(N, K) costs, the most important first -> (N,) rows, the cheapest first; equal ones keep their order."""
    expensive = np.where(np.isnan(costs), np.inf, costs)
    return np.lexsort([np.zeros(len(costs)), *expensive.T[::-1]])  # the last key counts most
