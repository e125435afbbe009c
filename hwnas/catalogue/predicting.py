"""Accuracy of networks that were not evaluated, from those that were: what a catalogue's predictions are made by.

The one place that decides how. Knows spaces, closed forms and studies; never devices, tables or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hwnas.predict import GaussianProcess, Representation
from hwnas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from hwnas.cost import SlotCost
    from hwnas.search import Study

_MOST = 1000  # networks that predict: of more the time grows with the cube, and the error hardly falls
_CHUNK = 4096
FEATURES = ("macs", "parameters", "peak_memory_bytes")  # what is the same on every device


class Predicts(Protocol):
    """What tells the accuracy of networks."""

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical -> mean and standard deviation, each (N,)."""
        ...


class AccuracyPredictor:
    """A Gaussian process over a space's choices and the closed forms that no device changes.

    Its standard deviations are widened by what networks left out of the fit show them to be too small.

    Args:
        study: the evaluated networks.
        models: metric -> cost; those of `FEATURES` count.
        seed: of the networks that are used where there are many.
    """

    def __init__(self, study: Study, models: Mapping[str, SlotCost], *, seed: int) -> None:
        self._models = {m: models[m] for m in FEATURES if m in models}
        accuracy = study.values["accuracy"]
        rows = np.flatnonzero(np.isfinite(accuracy))
        if len(rows) > _MOST:
            rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST, replace=False))
        encodings = study.encodings[rows].astype(np.int64)
        self._inputs = Representation(study.choices, encodings, features=self._costs if self._models else None)
        self._process = GaussianProcess(self._inputs.distances, self._inputs(encodings), accuracy[rows], seed=seed)
        mean, std = self._process.left_out()
        self._widening = max(1.0, float(np.sqrt((((accuracy[rows] - mean) / std) ** 2).mean())))
        self.n_networks = len(rows)

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical -> mean and standard deviation of the accuracy, each (N,)."""
        chunks = [encodings[i : i + _CHUNK] for i in range(0, len(encodings), _CHUNK)]
        found = [self._process.predict(self._inputs(chunk)) for chunk in chunks]
        if not found:
            return np.zeros(0), np.zeros(0)
        mean, std = (np.concatenate([part[i] for part in found]) for i in range(2))
        # what is no share is as near as a share can be
        return np.clip(mean, 0.0, 1.0), self._widening * std

    def _costs(self, encodings: IntArray) -> FloatArray:
        """(N, D) -> (N, F) the closed forms."""
        return np.stack([model.estimate(encodings).value for model in self._models.values()], axis=1)
