"""The sampler `map-elites` (Mouret & Clune, 2015): the best network for each cell of what networks cost.

Costs are known before a network is evaluated, so a child is drawn for a cell, not by chance: cells that hold few
networks of the space are tried as often as those that hold many.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.candidates import key_of
from hwnas.search.encoding_sampler import EncodingSampler, History, unbeaten
from hwnas.search.problem import Problem
from hwnas.types import FloatArray, IntArray

_SAMPLED = 2048  # networks that tell how costs are distributed
_CHILDREN = 256  # one of which is evaluated


def map_elites(
    problem: Problem, /, *, seed: int, n_cells: int | None = None, n_startup_trials: int | None = None
) -> BaseSampler:
    """Cells by quantiles of the first two known costs over the space; one cell if none is known.

    The best of a cell is decided by the objectives that are no axis of the cells; of several objectives, a cell keeps
    all networks that no other of it beats (Pierrot et al., 2022), by all objectives where every one is an axis.

    Args:
        problem: what is searched.
        seed: of proposals.
        n_cells: about so many, as many along each cost; None: an eighth of the trials, at least 4.
        n_startup_trials: random networks at the beginning; None: a tenth of the trials, at least 8.
    """
    return _MapElites(
        problem,
        seed=seed,
        n_cells=n_cells or max(4, problem.n_trials // 8),
        n_startup_trials=n_startup_trials or max(8, problem.n_trials // 10),
    )


class _MapElites(EncodingSampler):
    def __init__(self, problem: Problem, *, seed: int, n_cells: int, n_startup_trials: int) -> None:
        super().__init__(problem, seed=seed)
        self._n_startup = n_startup_trials
        self._history = History(problem)
        self._axes = problem.known_costs[:2]
        self._side = max(2, round(n_cells ** (1 / max(1, len(self._axes)))))
        # of those that are no axis, if there are any
        others = [i for i, m in enumerate(problem.directions) if m not in self._axes]
        self._judged = others or list(range(len(problem.directions)))
        self._elites: dict[int, IntArray] = {}  # cell -> numbers of the trials of its best networks
        self._placed: IntArray = np.zeros(0, dtype=np.int64)  # numbers of the trials that have their cells

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        taken = self._history.read(study)
        self._place()
        if len(self._history) < self._n_startup:
            return self.candidates.uniform(rng)
        parents = self._parents(rng)
        children = self.candidates.mutants(parents, rng, _CHILDREN)
        children = children[self.candidates.within(children)]
        children = children[[key_of(child) not in taken for child in children]]
        if not len(children):
            # the space sampler finds the nearest that is new
            parent: IntArray = parents[0]
            return parent
        cells = self.cells(children)
        child: IntArray = children[rng.choice(np.flatnonzero(cells == rng.choice(np.unique(cells))))]
        return child

    def cells(self, encodings: IntArray) -> IntArray:
        """(N,) the cell of each network."""
        found = np.zeros(len(encodings), dtype=np.int64)
        if not self._axes:
            return found
        for column, edges in zip(self._costs(encodings).T, self._edges.T, strict=True):
            found = found * self._side + np.searchsorted(edges, column, side="left")
        return found

    @cached_property
    def _edges(self) -> FloatArray:
        """(side - 1, axes) where cells end along each cost."""
        # the same whatever the seed: archives of several searches can be compared
        sample = self.candidates.uniform_many(np.random.default_rng(0), _SAMPLED)
        return np.asarray(np.nanquantile(self._costs(sample), np.arange(1, self._side) / self._side, axis=0))

    def _costs(self, encodings: IntArray) -> FloatArray:
        estimates = self.problem.estimate(encodings)
        return np.stack([estimates[m].value for m in self._axes], axis=1)

    def _place(self) -> None:
        """Hold the networks that are new against the best of their cells."""
        history = self._history
        rows = np.flatnonzero(~np.isin(history.numbers, self._placed))
        if not len(rows):
            return
        self._placed = history.numbers
        for row, cell in zip(rows, self.cells(history.encodings[rows]).tolist(), strict=True):
            numbers = np.append(self._elites.get(cell, self._placed[:0]), history.numbers[row])
            of = np.searchsorted(history.numbers, numbers)
            best = unbeaten(history.points[of][:, self._judged], history.excess[of])
            self._elites[cell] = numbers[best]

    def _parents(self, rng: np.random.Generator) -> IntArray:
        """(K, D) one network of each cell that has any, so that a full cell breeds no more than others."""
        numbers = [rng.choice(np.sort(self._elites[cell])) for cell in sorted(self._elites)]
        parents: IntArray = self._history.encodings[np.searchsorted(self._history.numbers, rng.permutation(numbers))]
        return parents
