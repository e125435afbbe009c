"""Which networks of a space are worth offering: those predicted to be the most accurate at any price.

An archive of cells (MAP-Elites: Mouret & Clune, 2015): along every cost the range of its logarithm is cut into cells,
and a network stays if it is among the best of a cell of any cost. Each round its best are mutated and crossed. A space
that is small enough is listed outright. Numpy only; never torch, tables or what a cost means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwnas.search.candidates import Candidates
from hwnas.search.problem import Problem
from hwnas.types import FloatArray, IntArray, SearchSpace

if TYPE_CHECKING:
    from hwnas.catalogue.predicting import Predicts
    from hwnas.cost import SlotCost

_CELLS = 64  # along each cost
_ROUNDS = 16
_CHILDREN = 16_384  # of each round, at most
_LEAST_CHILDREN = 1024
_PARENTS = 1024


def promising(
    space: SearchSpace, predictor: Predicts, costs: Sequence[SlotCost], *, start: IntArray, most: int, seed: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """The networks worth offering, but for those that are known.

    Args:
        space: the networks.
        predictor: of their accuracy.
        costs: by which they are compared, on whatever devices.
        start: (K, D) canonical, networks that are known to be good; none of them is returned.
        most: networks at most.
        seed: of chance.

    Returns:
        (N, D) canonical, with the mean and the standard deviation of their accuracy, each (N,).
    """
    rng = np.random.default_rng(seed)
    candidates = Candidates(Problem(space, {"accuracy": "maximize"}, n_trials=1))
    listed = candidates.listed
    if listed is not None:
        pool = listed
        mean, std = predictor.predict(pool)
        return _without(start, *_best(pool, mean, std, costs, most=most + len(start)), most=most)
    n_children = min(_CHILDREN, max(_LEAST_CHILDREN, most))
    pool = np.unique(np.concatenate([start, candidates.uniform_many(rng, n_children)]), axis=0)
    mean, std = predictor.predict(pool)
    for _ in range(_ROUNDS):
        # of equal rank the first: they are in the order of their rank
        children = np.unique(candidates.mutants(pool[:_PARENTS], rng, n_children), axis=0)
        children = children[~_among(children, pool)]
        its_mean, its_std = predictor.predict(children)
        pool, mean, std = _best(
            np.concatenate([pool, children]),
            np.concatenate([mean, its_mean]),
            np.concatenate([std, its_std]),
            costs,
            most=most + len(start),
        )
    return _without(start, pool, mean, std, most=most)


def _best(
    pool: IntArray, mean: FloatArray, std: FloatArray, costs: Sequence[SlotCost], *, most: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """The networks that rank first in a cell of some cost, then those that rank second, and so on."""
    rank = np.full(len(pool), len(pool))
    for cost in costs:
        rank = np.minimum(rank, _ranks(_cells(cost.estimate(pool).value), mean))
    order = np.lexsort([-mean, rank])[:most]
    return pool[order], mean[order], std[order]


def _cells(values: FloatArray) -> IntArray:
    """(N,) the cell of each network along one cost."""
    logs = np.log(np.maximum(values, 1e-300))
    low, high = float(logs.min()), float(logs.max())
    cells = np.floor((logs - low) / ((high - low) or 1.0) * _CELLS)
    return np.minimum(cells, _CELLS - 1).astype(np.int64)


def _ranks(cells: IntArray, mean: FloatArray) -> IntArray:
    """(N,) the place of each network in its cell, from 0 for the best mean."""
    order = np.lexsort([-mean, cells])
    sorted_cells = cells[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_cells[1:] != sorted_cells[:-1]]))
    first = np.repeat(starts, np.diff(np.concatenate([starts, [len(cells)]])))
    rank = np.empty(len(cells), dtype=np.int64)
    rank[order] = np.arange(len(cells)) - first
    return rank


def _without(
    known: IntArray, pool: IntArray, mean: FloatArray, std: FloatArray, *, most: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    kept = np.flatnonzero(~_among(pool, known))[:most]
    return pool[kept], mean[kept], std[kept]


def _among(rows: IntArray, others: IntArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(N,) which rows are among others."""
    # a row as one value: so many bytes compare at once
    whole = np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))
    a, b = (np.ascontiguousarray(x, dtype=rows.dtype).view(whole).ravel() for x in (rows, others))
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.isin(a, b)
    return found
