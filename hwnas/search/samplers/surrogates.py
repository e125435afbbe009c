"""Optuna's samplers that model what was evaluated: `tpe` and `gp`, set up for architectures."""

from __future__ import annotations

import optuna
from optuna.samplers import BaseSampler

from hwnas.search.problem import Problem
from hwnas.search.samplers._experimental import experiments_allowed


def tpe(problem: Problem, /, *, seed: int, n_startup_trials: int = 16, multivariate: bool = True) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al., 2011; several objectives: Ozaki et al., 2022).

    Args:
        problem: what is searched.
        seed: of proposals.
        n_startup_trials: random trials before the model is used.
        multivariate: model choices together.
    """
    with experiments_allowed():
        return optuna.samplers.TPESampler(n_startup_trials=n_startup_trials, multivariate=multivariate, seed=seed)


def gp(problem: Problem, /, *, seed: int, n_startup_trials: int = 16) -> BaseSampler:
    """Optuna's Gaussian process; what it expects of a network is the growth of the hypervolume (Daulton et al., 2020).

    Limits on evaluated metrics weigh it by the odds that they are kept. It loads torch when it first fits, and a
    proposal takes the longer the more trials there are: a second at some hundred.

    Args:
        problem: what is searched.
        seed: of proposals.
        n_startup_trials: random trials before the model is used.
    """
    return optuna.samplers.GPSampler(n_startup_trials=n_startup_trials, seed=seed)
