"""Accuracy of networks that were not evaluated, from those that were: what a catalogue's predictions are made by.

The one place that decides how. Knows spaces, closed forms and studies; never devices, tables or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hwnas.predict import Calibration, Ensemble, Hyperparameters
from hwnas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from hwnas.cost import SlotCost
    from hwnas.search import Study

_MOST = 1000  # networks that predict: of more the time grows with the cube, and the error hardly falls
FEATURES = ("macs", "parameters", "peak_memory_bytes")  # what is the same on every device


class Predicts(Protocol):
    """What tells the accuracy of networks."""

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical -> mean and standard deviation, each (N,)."""
        ...


class AccuracyPredictor:
    """An ensemble over a space's choices and the closed forms that no device changes.

    Args:
        study: the evaluated networks.
        models: metric -> cost; those of `FEATURES` count.
        seed: of the networks that are used where there are many, and of the ensemble.
        start: hyperparameters of an ensemble that was fitted to the same networks; None: they are fitted.

    Attributes:
        encodings: (N, D) of the networks it was fitted to.
        accuracies: (N,) theirs.

    Raises:
        ConfigError: too few evaluated networks.
    """

    def __init__(
        self, study: Study, models: Mapping[str, SlotCost], *, seed: int, start: Hyperparameters | None = None
    ) -> None:
        self._models = {m: models[m] for m in FEATURES if m in models}
        self.encodings, self.accuracies = networks_that_predict(study, seed=seed)
        self._ensemble = Ensemble(
            study.choices,
            self.encodings,
            self.accuracies,
            features=self._costs if self._models else None,
            seed=seed,
            start=start,
        )

    @property
    def n_networks(self) -> int:
        """It was fitted to."""
        return len(self.accuracies)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """With which the same is made again in no time."""
        return self._ensemble.hyperparameters

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """Of each model, and of the `ensemble`."""
        return self._ensemble.calibrations

    @property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """For each network, predicted without it: mean and standard deviation, each (N,)."""
        return self._ensemble.left_out

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical -> mean and standard deviation of the accuracy, each (N,)."""
        mean, std = self._ensemble.predict(encodings)
        # what is no share is as near as a share can be
        return np.clip(mean, 0.0, 1.0), std

    def _costs(self, encodings: IntArray) -> FloatArray:
        """(N, D) -> (N, F) the closed forms."""
        return np.stack([model.estimate(encodings).value for model in self._models.values()], axis=1)


def networks_that_predict(study: Study, *, seed: int) -> tuple[IntArray, FloatArray]:
    """Encodings (N, D) and accuracies (N,) of the networks of a study that a predictor is fitted to."""
    accuracy = study.values[study.ranked_by]
    rows = np.flatnonzero(np.isfinite(accuracy))
    if len(rows) > _MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST, replace=False))
    return study.encodings[rows].astype(np.int64), accuracy[rows]
