"""The sampler `random`: chance, against which all others are held."""

from __future__ import annotations

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.encoding_sampler import EncodingSampler
from hwnas.search.problem import Problem
from hwnas.types import IntArray


def random(problem: Problem, /, *, seed: int) -> BaseSampler:
    """Uniform over the encodings whose network keeps the closed-form limits."""
    return _Uniform(problem, seed=seed)


class _Uniform(EncodingSampler):
    def __init__(self, problem: Problem, *, seed: int) -> None:
        super().__init__(problem, seed=seed)
        # of the whole search, not of a trial: what a seed gives is what it gave before samplers had trials of their own
        self._rng = np.random.default_rng(seed)

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        # within the limits: uniform over all encodings, mended, would crowd at the limits' edge
        return self.candidates.uniform(self._rng)
