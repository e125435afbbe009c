"""The sampler `regularised-evolution` (Real, Aggarwal, Huang & Le, 2019, algorithm 1): the oldest die, not the worst.

The population is the networks that were evaluated last; a tournament among some of them finds a parent, and its mutant
is evaluated next. With several objectives the network wins that fewest of the population dominate.
"""

from __future__ import annotations

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.encoding_sampler import EncodingSampler, History, first_new
from hwnas.search.problem import Problem
from hwnas.search.samplers.genetic import default_population
from hwnas.types import FloatArray, IntArray

_TOURNAMENT = 4  # a quarter of the population, as 25 of 100 in the paper


def regularised_evolution(
    problem: Problem, /, *, seed: int, population_size: int | None = None, tournament_size: int | None = None
) -> BaseSampler:
    """Aging evolution with tournaments.

    A network that keeps the limits wins against one that does not; of several, one that fewest others dominate, for one
    objective the best. Chance decides between equal ones, so that parents are from all of the front.

    Args:
        problem: what is searched.
        seed: of proposals.
        population_size: the networks evaluated last that may be parents, and random ones at the beginning; None: a
            tenth of the trials, within 8 and 50.
        tournament_size: drawn for each tournament, with replacement; None: a quarter of the population.
    """
    population = population_size or default_population(problem)
    return _RegularisedEvolution(
        problem, seed=seed, population=population, tournament=tournament_size or max(2, population // _TOURNAMENT)
    )


class _RegularisedEvolution(EncodingSampler):
    def __init__(self, problem: Problem, *, seed: int, population: int, tournament: int) -> None:
        super().__init__(problem, seed=seed)
        self._population, self._tournament = population, tournament
        self._history = History(problem)

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        taken = self._history.read(study)
        if len(self._history) < self._population:
            return self.candidates.uniform(rng)
        first = len(self._history) - self._population
        drawn = first + rng.integers(self._population, size=self._tournament)
        parent = self._history.encodings[self._winner(drawn, first, rng)]
        near = self.candidates.neighbours(parent, fill=rng.integers(self.problem.sizes))
        mutant = first_new(rng.permutation(near), taken)
        # all its neighbours are taken: the space sampler finds the nearest network that is not
        return parent if mutant is None else mutant

    def _winner(self, drawn: IntArray, first: int, rng: np.random.Generator) -> int:
        """The row of those drawn that fewest of the population dominate; of equal ones any."""
        history = self._history
        dominating = n_dominating(history.points[drawn], among=history.points[first:])
        # by the last key first
        order = np.lexsort((rng.random(len(drawn)), dominating, history.excess[drawn]))
        return int(drawn[order[0]])


def n_dominating(points: FloatArray, *, among: FloatArray) -> IntArray:
    """(N,) how many others dominate each point (Fonseca & Fleming, 1993, section 2.2).

    Args:
        points: (N, M), every column minimised.
        among: (K, M) the others; a point itself may be among them.
    """
    # (N, 1, M) against (1, K, M) -> (N, K)
    no_worse = (among[None] <= points[:, None]).all(axis=2)
    better = (among[None] < points[:, None]).any(axis=2)
    return np.asarray((no_worse & better).sum(axis=1))
