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

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def picks(
    gain: FloatArray, costs: Sequence[FloatArray], *, tolerance: FloatArray, rows: IntArray | None = None
) -> Iterator[Pick]:
    """Rows in the order in which to take them; each is what would be taken if those before it did not exist.

    A network is never dominated (in its value and all of its costs together) by one that comes later: whatever is at
    least as good is within the tolerance too, and what costs nowhere more and somewhere less comes first.

    Nothing is sorted: of a hundred thousand networks one is wanted, within milliseconds.

    Args:
        gain: (N,) the value, larger is better, no NaN in the rows to choose from.
        costs: K of them, the most important first, each (N,), smaller is better; NaN is the most expensive.
        tolerance: (N,) how much less than this network's value is still as good, at least 0.
        rows: to choose from, rising; None: all.
    """
    left = np.arange(len(gain)) if rows is None else rows
    values = gain[left]
    while len(left):
        best = int(left[values.argmax()])
        # a difference of whole samples is compared with an error of whole samples: leave room for rounding
        least = gain[best] - tolerance[best] - 1e-12 * abs(gain[best])
        row = _cheapest(left[values >= least], [*costs, -gain])
        yield Pick(row=row, best=best)
        others = left != row
        left, values = left[others], values[others]


def _cheapest(rows: IntArray, costs: Sequence[FloatArray]) -> int:
    """The first of the rows that cost least: in the first cost, of these in the second, and so on."""
    for cost in costs:
        if len(rows) == 1:
            break
        mine = cost[rows]
        known = ~np.isnan(mine)
        if known.any():
            rows = rows[mine == mine[known].min()]
    return int(rows[0])


def cost_names(
    known: Iterable[str], *, metric: str, directions: Mapping[str, Direction], first: Iterable[str] = ()
) -> list[str]:
    """What a network is paid with, the most important first.

    Args:
        known: metrics that have values.
        metric: what is gained; every other metric is a cost.
        directions: metric -> direction; these count first. A metric without one is minimised.
        first: metrics that count next, those with a limit.
    """
    known = set(known)
    # `fromkeys` keeps the first place of each: objectives, limits,
    # size, then by name, so the order never depends on chance
    return [m for m in dict.fromkeys([*directions, *first, SIZE, *sorted(known)]) if m in known and m != metric]


def paid(values: FloatArray, upper: FloatArray | None, *, direction: Direction | None) -> FloatArray:
    """(N,) a metric as a cost, to minimise: by its upper bounds where there are any."""
    if direction is Direction.MAXIMIZE:
        return -values
    # `fmax`: where one of the two is NaN the other counts
    found: FloatArray = values.astype(float) if upper is None else np.fmax(values, upper)
    return found


def by_price(costs: Sequence[FloatArray], rows: IntArray) -> IntArray:
    """Costs, the most important first, each (N,) -> the rows, the cheapest first; equal ones keep their order."""
    expensive = [np.where(np.isnan(cost[rows]), np.inf, cost[rows]) for cost in costs]
    order = np.lexsort([np.zeros(len(rows)), *expensive[::-1]])  # the last key counts most
    found: IntArray = rows[order]
    return found
