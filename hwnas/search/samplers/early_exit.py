"""The sampler `early-exit`: NSGA-II whose first networks are cheap (EEEA-Net: Termritthikun et al., 2021, section 3.2).

A network of the initial population is drawn until it passes a threshold on what it costs, which is known without
evaluating it. The threshold is raised by degrees from one member to the next.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.candidates import Candidates
from hwnas.search.problem import Problem
from hwnas.search.samplers.genetic import Nsga2, default_population
from hwnas.types import FloatArray, IntArray

_SAMPLED = 1024  # networks that tell what cheap means
_DRAWN = 256


def early_exit(
    problem: Problem,
    /,
    *,
    seed: int,
    population_size: int | None = None,
    n_thresholds: int = 5,
    largest_share: float = 0.5,
    crossover_prob: float = 0.9,
    mutation_prob: float | None = None,
) -> BaseSampler:
    """`nsga2` that starts with cheap networks; the same as `nsga2` if no cost is known in closed form.

    A network costs as much as the largest of its places in the order of each known cost.

    Args:
        problem: what is searched.
        seed: of proposals.
        population_size: networks in a generation; None: a tenth of the trials, within 8 and 50.
        n_thresholds: degrees in which the threshold is raised.
        largest_share: of the networks within the limits that pass the last threshold, above 0, at most 1.
        crossover_prob: share of children with two parents.
        mutation_prob: of each choice; None: one choice a child on average.
    """
    return _EarlyExit(
        problem,
        seed=seed,
        population_size=population_size or default_population(problem),
        thresholds=np.arange(1, n_thresholds + 1) / n_thresholds * largest_share,
        crossover_prob=crossover_prob,
        mutation_prob=mutation_prob,
    )


class _EarlyExit(Nsga2):
    def __init__(self, problem: Problem, *, seed: int, thresholds: FloatArray, **options: Any) -> None:
        super().__init__(problem, seed=seed, **options)
        self._problem = problem
        self._candidates = Candidates(problem)
        self._seed = seed
        self._thresholds = thresholds

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As NSGA-II, but for the first generation."""
        if self.get_trial_generation(study, trial) or not self._problem.known_costs:
            found: dict[str, Any] = super().sample_relative(study, trial, search_space)
            return found
        encoding = self._cheap(trial.number, np.random.default_rng([self._seed, trial.number]))
        return {c.name: c.options[int(i)] for c, i in zip(self._problem.space.choices, encoding, strict=True)}

    def _cheap(self, member: int, rng: np.random.Generator) -> IntArray:
        """(D,) the first random network that passes the member's threshold, or the cheapest of many."""
        assert self.population_size is not None, "`default_population` gives one"
        # trials that failed count as members: the threshold rises all the same
        degree = min(member * len(self._thresholds) // self.population_size, len(self._thresholds) - 1)
        drawn = self._candidates.uniform_many(rng, _DRAWN)
        dearness = self._dearness(drawn)
        passing = np.flatnonzero(dearness <= self._thresholds[degree])
        cheap: IntArray = drawn[passing[0] if len(passing) else int(np.argmin(dearness))]
        return cheap

    def _dearness(self, encodings: IntArray) -> FloatArray:
        """(N,) the share of the space's networks that are cheaper, all costs considered."""
        costs, order = self._sampled
        largest = _largest_place(self._costs(encodings), costs)
        return np.asarray(np.searchsorted(order, largest) / len(order))

    @cached_property
    def _sampled(self) -> tuple[FloatArray, FloatArray]:
        """Costs of networks of the space, (sampled, costs), each column in order; their largest places in order."""
        costs = self._costs(self._candidates.uniform_many(np.random.default_rng(0), _SAMPLED))
        in_order = np.sort(costs, axis=0)
        return in_order, np.sort(_largest_place(costs, in_order))

    def _costs(self, encodings: IntArray) -> FloatArray:
        estimates = self._problem.estimate(encodings)
        return np.stack([estimates[m].value for m in self._problem.known_costs], axis=1)


def _largest_place(costs: FloatArray, in_order: FloatArray) -> FloatArray:
    """(N, costs) -> (N,) the largest of a network's places among others' costs, each column of them in order."""
    places = [np.searchsorted(column, own) for column, own in zip(in_order.T, costs.T, strict=True)]
    return np.asarray(np.stack(places, axis=1).max(axis=1), dtype=float)
