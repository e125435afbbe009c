"""Gradient-boosted trees over choices, counts of options and features that cost nothing (GBDT-NAS: Luo et al., 2020).

They learn thresholds and interactions that smooth models do not, and know nothing of their own uncertainty: their
deviation is the error of networks that were left out. Numpy and scikit-learn only: never what a metric means.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hwnas.predict.inputs import Inputs
from hwnas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sklearn.ensemble import GradientBoostingRegressor

_FOLDS = 5


class BoostedTrees:
    """Fitted to N networks; predicts others. See the module.

    Args:
        inputs: of the N evaluated networks.
        targets: (N,) finite.
        seed: of the subsamples that trees are grown on, and of the parts that are left out.
    """

    def __init__(self, inputs: Inputs, targets: FloatArray, *, seed: int = 0) -> None:
        self._inputs, self._targets, self._seed = inputs, targets, seed
        self._model = self._grown(np.arange(len(targets)))

    def predict(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the metric of N networks, each (N,)."""
        mean = np.asarray(self._model.predict(_columns(inputs)), dtype=float)
        return mean, np.full(len(inputs), self._error)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """For each evaluated network, as trees predict it that were grown without the fifth it is in; each (N,)."""
        return self._left_out, np.full(len(self._targets), self._error)

    @cached_property
    def _left_out(self) -> FloatArray:
        n = len(self._targets)
        parts = np.random.default_rng(self._seed).permutation(n) % min(_FOLDS, n)
        found = np.empty(n)
        for part in range(min(_FOLDS, n)):
            own = np.flatnonzero(parts == part)
            found[own] = self._grown(np.flatnonzero(parts != part)).predict(_columns(self._inputs[own]))
        return found

    @property
    def _error(self) -> float:
        # of equal values nothing is missed; a deviation of 0 would claim certainty
        return float(np.sqrt(((self._left_out - self._targets) ** 2).mean())) or 1e-9

    def _grown(self, rows: IntArray) -> GradientBoostingRegressor:
        from sklearn.ensemble import GradientBoostingRegressor

        # shallow, slow and subsampled (Friedman, 2002): networks are few
        model = GradientBoostingRegressor(
            n_estimators=150, max_depth=3, learning_rate=0.06, subsample=0.7, random_state=self._seed
        )
        return model.fit(_columns(self._inputs[rows]), self._targets[rows])


def _columns(inputs: Inputs) -> FloatArray:
    return np.concatenate([inputs.hot, inputs.counts, inputs.features], axis=1)
