"""The sampler `local-search` (White, Nolen & Savani, 2021): the neighbours of the best network, then of a better one.

With several objectives it is Pareto local search (Paquete, Chiarandini & Stützle, 2004): the neighbours of all networks
that no other of this run beats. When these have no neighbour that is new, another run begins elsewhere.
"""

from __future__ import annotations

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.candidates import key_of
from hwnas.search.encoding_sampler import EncodingSampler, History, first_new, unbeaten
from hwnas.search.problem import Problem
from hwnas.types import IntArray

_RUN = "hwnas:local_search:run"  # which run a trial is of, so that every process knows where it is


def local_search(problem: Problem, /, *, seed: int, n_startup_trials: int = 10) -> BaseSampler:
    """Hill climbing that moves on as soon as a neighbour is better (the paper's variant `query_until_lower`).

    Neighbours differ in one choice that matters, and are tried in random order. A choice that a change switches on has
    its first option.

    Args:
        problem: what is searched.
        seed: of proposals.
        n_startup_trials: random networks with which each run begins.
    """
    return _LocalSearch(problem, seed=seed, n_startup_trials=n_startup_trials)


class _LocalSearch(EncodingSampler):
    def __init__(self, problem: Problem, *, seed: int, n_startup_trials: int) -> None:
        super().__init__(problem, seed=seed)
        self._n_startup = n_startup_trials
        self._history = History(problem, note=_RUN)
        self._exhausted: set[bytes] = set()  # networks whose neighbours are all taken, which stays so

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        taken = self._history.read(study)
        # a trial without a note was given to the search as one to begin with
        runs = np.array([note or 0 for note in self._history.notes], dtype=np.int64)
        run = int(runs.max(initial=0))
        mine = np.flatnonzero(runs == run)
        found: IntArray | None = None
        if len(mine) >= self._n_startup:
            best = mine[unbeaten(self._history.points[mine], self._history.excess[mine])]
            for row in rng.permutation(best):
                encoding = self._history.encodings[row]
                if key_of(encoding) in self._exhausted:
                    continue
                found = first_new(rng.permutation(self.candidates.neighbours(encoding)), taken)
                if found is not None:
                    break
                self._exhausted.add(key_of(encoding))
            run += found is None
        # by Optuna's storage, as its own samplers do: a trial has no way to say it itself
        study._storage.set_trial_system_attr(trial._trial_id, _RUN, run)
        return self.candidates.uniform(rng) if found is None else found
