"""Genetic samplers in generations, `nsga2` and `nsga3`: Optuna's, which learn what they read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hwnas.search.ledger import Ledger
from hwnas.search.problem import Problem
from hwnas.search.samplers._experimental import experiments_allowed


def nsga2(
    problem: Problem,
    /,
    *,
    seed: int,
    population_size: int | None = None,
    crossover_prob: float = 0.9,
    mutation_prob: float | None = None,
) -> BaseSampler:
    """NSGA-II (Deb et al., 2002), with uniform crossover and constrained domination.

    Args:
        problem: what is searched.
        seed: of proposals.
        population_size: networks in a generation; None: a tenth of the trials, within 8 and 50.
        crossover_prob: share of children with two parents.
        mutation_prob: of each choice; None: one choice a child on average.
    """
    return Nsga2(
        problem,
        population_size=population_size or default_population(problem),
        crossover_prob=crossover_prob,
        mutation_prob=mutation_prob,
        seed=seed,
    )


def nsga3(
    problem: Problem,
    /,
    *,
    seed: int,
    population_size: int | None = None,
    crossover_prob: float = 0.9,
    mutation_prob: float | None = None,
) -> BaseSampler:
    """NSGA-III (Deb & Jain, 2014): as `nsga2`, for three and more objectives."""
    with experiments_allowed():
        return _Nsga3(
            problem,
            population_size=population_size or default_population(problem),
            crossover_prob=crossover_prob,
            mutation_prob=mutation_prob,
            seed=seed,
        )


class _Generations(optuna.samplers.BaseGASampler):  # type: ignore[misc, unused-ignore]
    """Keeps count of generations and their parents, for which Optuna reads every trial of the study, every time."""

    def __init__(self, problem: Problem, **options: Any) -> None:
        super().__init__(**options)
        distributions = {c.name: optuna.distributions.CategoricalDistribution(c.options) for c in problem.space.choices}
        # by name, as Optuna's intersection of search spaces is: the order decides what random numbers a choice gets
        self._free = {name: d for name, d in sorted(distributions.items()) if not d.single()}
        self._seen = Ledger()
        self._members: dict[int, list[FrozenTrial]] = {}
        self._parents: dict[int, list[FrozenTrial]] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._free)  # every trial has them all

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        self._look(study)
        known = trial.system_attrs.get(self._get_generation_key())
        if known is not None:
            return int(known)
        # the newest may be short of members; a new one begins when it is full
        newest = max(self._members, default=0)
        assert self.population_size is not None, "`default_population` gives one"
        generation = newest if len(self._members.get(newest, ())) < self.population_size else newest + 1
        # as `BaseGASampler` writes it, so that Optuna reads our studies and we read its
        study._storage.set_trial_system_attr(trial._trial_id, self._get_generation_key(), generation)
        return generation

    def awaits_running(self, study: Study, /) -> bool:
        """Whether the newest generation is only full once trials that are running complete: the next has parents then.

        Those of other processes count as well; `search` waits for its own alone.
        """
        self._look(study)
        generations = [t.system_attrs.get(self._get_generation_key()) for t in self._seen.running]
        newest = max([*self._members, *(int(g) for g in generations if g is not None)], default=0)
        complete, running = len(self._members.get(newest, ())), generations.count(newest)
        assert self.population_size is not None, "`default_population` gives one"
        return complete < self.population_size <= complete + running

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        self._look(study)
        # trials of several processes finish out of order, and selection must not depend on it
        return sorted(self._members.get(generation, ()), key=lambda t: t.number)

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        # a full generation never changes, so neither do its parents
        if generation not in self._parents:
            self._parents[generation] = super().get_parent_population(study, generation)
        return self._parents[generation]

    def _look(self, study: Study) -> None:
        for trial in self._seen.read(study.get_trials(deepcopy=False)):
            generation = trial.system_attrs.get(self._get_generation_key())
            if trial.state is TrialState.COMPLETE and generation is not None:
                self._members.setdefault(int(generation), []).append(trial)


class Nsga2(_Generations, optuna.samplers.NSGAIISampler):  # type: ignore[misc, unused-ignore]
    """See `nsga2`."""


class _Nsga3(_Generations, optuna.samplers.NSGAIIISampler):  # type: ignore[misc, unused-ignore]
    pass


def default_population(problem: Problem) -> int:
    """Networks in a generation where nobody says: a tenth of the trials, within 8 and 50."""
    # about ten generations; 50 is Optuna's own default
    return int(np.clip(problem.n_trials // 10, 8, 50))
