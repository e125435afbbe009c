"""Which of many rows of costs no other row is nowhere above; knows nothing of what they are the costs of.

Rows of up to three costs are told apart completely, however many: sorted by the first cost, a row can only be dominated
by one before it, and is if of these one is no higher in the two that are left. Of halves that are sorted by the second
cost, the least third cost of the first half so far says that of the second half (divide and conquer; Kung, Luccio &
Preparata, 1975), for all pairs of halves of one size at once.
"""

from __future__ import annotations

import numpy as np

from hwnas.types import BoolArray, FloatArray, IntArray

_PAIRWISE = 400  # up to so many rows of more than three costs are all compared with one another


def undominated(state: IntArray, values: FloatArray, *, states: int) -> IntArray:
    """Rows that no other row of their state is nowhere above, of equal ones one.

    Args:
        state: (N,) of each row, from 0.
        values: (N, M) its costs; of more than three where many rows are left, more than these rows may be returned.
        states: how many there are.

    Returns:
        Ascending indices of rows.
    """
    if values.shape[1] <= 2:
        return _by_two(state, values)
    rows = _by_pivots(state, values, states=states)
    if values.shape[1] == 3:
        return rows[_by_three(state[rows], values[rows])]
    return rows[_by_pairs(state[rows], values[rows])] if len(rows) <= _PAIRWISE else rows


def _by_pivots(state: IntArray, values: FloatArray, *, states: int) -> IntArray:
    """Rows that are not dominated by a few: the one best on the whole, then one nearly best in each cost.

    Comparing with few rows drops most, in linear time.
    """
    rows = np.arange(len(state))
    # bytes and milliseconds must weigh alike in the pivots' sums
    scale = np.abs(values).max(axis=0, initial=0.0)
    unit = values / np.where(scale > 0, scale, 1.0)
    m = values.shape[1]
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
    return rows


def _by_two(state: IntArray, values: FloatArray) -> IntArray:
    """Of rows of at most two costs, sorted by the first, those whose second is below that of all before."""
    first, last = (values[:, 0], values[:, -1]) if values.shape[1] else (np.zeros(len(state)),) * 2
    order = np.lexsort((last, first, state))
    key = _in_falling_blocks(state, last)[order]
    least = np.minimum.accumulate(key)
    is_lower = np.ones(len(order), dtype=bool)
    is_lower[1:] = key[1:] < least[:-1]
    return np.sort(order[is_lower])


def _by_three(state: IntArray, values: FloatArray) -> BoolArray:
    """(N,) which rows of three costs none is nowhere above."""
    n = len(state)
    order = np.lexsort((values[:, 2], values[:, 1], values[:, 0], state))
    size = 1 << max(n - 1, 0).bit_length()
    # rows that fill up to a power of two are after all others, and above them
    third = np.full(size, np.iinfo(np.int64).max)
    third[:n] = _in_falling_blocks(state, values[:, 2])[order]
    # places in that order, by state and second cost; of equal ones the first stays first
    place: IntArray = np.arange(size)
    place[:n] = np.lexsort((values[order, 1], state[order]))
    is_dominated = np.zeros(size, dtype=bool)
    while size > 1:  # blocks of this size, each sorted by the second cost
        half = size // 2
        place = place.reshape(-1, size)
        is_second = place % size >= half
        found = third[place]
        least = np.minimum.accumulate(np.where(is_second, np.iinfo(np.int64).max, found), axis=1)
        is_dominated[place[is_second & (least <= found)]] = True
        # the halves of each block keep the order by the second cost
        place = np.stack([place[~is_second].reshape(-1, half), place[is_second].reshape(-1, half)], axis=1)
        size = half
    kept = np.ones(n, dtype=bool)
    kept[order] = ~is_dominated[:n]
    return kept


def _in_falling_blocks(state: IntArray, values: FloatArray) -> IntArray:
    """(N,) ranks of values that are lower in each state than in the states before it.

    The least so far, of rows sorted by state, is then at most a row's own only by a row of its own state.
    """
    distinct, rank = np.unique(values, return_inverse=True)
    ranks: IntArray = rank.astype(np.int64) - state.astype(np.int64) * (len(distinct) + 1)
    return ranks


def _by_pairs(state: IntArray, values: FloatArray) -> BoolArray:
    """(N,) the same for any number of costs, by comparing all rows with one another."""
    no_worse = (values[:, None] <= values[None]).all(axis=2) & (state[:, None] == state[None])  # row i nowhere above j
    equal = no_worse & no_worse.T
    earlier = np.tri(len(state), k=-1, dtype=bool).T  # i < j
    # of equal rows the first stays, else each would drop the other
    dropped: BoolArray = (no_worse & (~equal | earlier)).any(axis=0)
    return ~dropped
