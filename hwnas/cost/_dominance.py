"""Which of many rows of costs no other row is nowhere above; knows nothing of what they are the costs of."""

from __future__ import annotations

import numpy as np

from hwnas.types import FloatArray, IntArray

_PAIRWISE = 400  # up to so many rows are all compared with one another


def undominated(state: IntArray, values: FloatArray, *, states: int) -> IntArray:
    """Rows that no other row of their state is nowhere above, of equal ones one; if they are many, more than these."""
    rows = np.arange(len(state))
    # bytes and milliseconds must weigh alike in the pivots' sums
    scale = np.abs(values).max(axis=0, initial=0.0)
    unit = values / np.where(scale > 0, scale, 1.0)
    m = values.shape[1]
    # the row best on the whole, then one nearly best in each metric: comparing with few rows drops most, in linear time
    pivots = [np.ones(m), *(np.ones(m) + 1e3 * np.eye(m))]
    for weights in pivots:
        if len(rows) < 2:
            return rows
        score = unit[rows] @ weights
        best = np.full(states, np.inf)
        np.minimum.at(best, state[rows], score)
        pivot = np.full(states, -1)
        is_best = rows[score == best[state[rows]]]
        pivot[state[is_best]] = is_best
        mine = pivot[state[rows]]
        # the pivot itself stays, though it is nowhere below itself
        rows = rows[(rows == mine) | ~(values[rows] >= values[mine]).all(axis=1)]
    if len(rows) <= _PAIRWISE:
        v, s = values[rows], state[rows]
        no_worse = (v[:, None] <= v[None]).all(axis=2) & (s[:, None] == s[None])  # row i is nowhere above row j
        equal = no_worse & no_worse.T
        earlier = np.tri(len(rows), k=-1, dtype=bool).T  # i < j
        # of equal rows the first stays, else each would drop the other
        rows = rows[~(no_worse & (~equal | earlier)).any(axis=0)]
    return rows
