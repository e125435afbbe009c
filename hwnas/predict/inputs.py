"""What a predictor learns from of an architecture: its choices, how often each option is chosen, what costs nothing.

Numpy only: knows choices, option indices and numbers; never what a metric or a feature means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.predict.kernel import ChoiceDistances
from hwnas.types import Choice, FloatArray, IntArray

Features = Callable[[IntArray], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """N architectures as predictors take them.

    Attributes:
        hot: (N, S) float32, see `ChoiceDistances.one_hot`.
        features: (N, F) what is known without an evaluation, standardised over the space.
        counts: (N, C) how often each option is chosen, standardised likewise; C may be 0.
    """

    hot: FloatArray
    features: FloatArray
    counts: FloatArray

    def __len__(self) -> int:
        return len(self.hot)

    def __getitem__(self, rows: IntArray | slice) -> Inputs:
        return Inputs(hot=self.hot[rows], features=self.features[rows], counts=self.counts[rows])

    def joined(self, other: Inputs) -> Inputs:
        """These and then the others."""
        return Inputs(
            hot=np.concatenate([self.hot, other.hot]),
            features=np.concatenate([self.features, other.features]),
            counts=np.concatenate([self.counts, other.counts]),
        )


class Representation:
    """Turns encodings into `Inputs`.

    Args:
        choices: of the space.
        sample: (M, D) canonical encodings of the space, by whose means and deviations is standardised.
        features: (N, D) -> (N, F) what is known without an evaluation, finite; None: nothing is. Features that are
            positive all over the sample count by their logarithms: costs of networks differ by factors.
    """

    def __init__(self, choices: Sequence[Choice], sample: IntArray, *, features: Features | None = None) -> None:
        self.distances = ChoiceDistances(choices)
        self._counts = OptionCounts(choices, self.distances)
        self._features = features
        raw = self._raw(sample)
        usable = np.isfinite(raw).all(axis=0) & (raw.max(axis=0) > raw.min(axis=0))
        self._columns = np.flatnonzero(usable)
        self._positive = (raw[:, self._columns] > 0).all(axis=0)
        self._of_features = _Scale(self._transformed(raw))
        self._of_counts = _Scale(self._counts(self.distances.one_hot(sample)))

    def __call__(self, encodings: IntArray, raw: FloatArray | None = None) -> Inputs:
        """(N, D) canonical -> inputs of N architectures.

        Args:
            encodings: of the architectures.
            raw: (N, F) their features, where they are known already.
        """
        hot = self.distances.one_hot(encodings)
        raw = self._raw(encodings) if raw is None else raw
        return Inputs(
            hot=hot,
            features=self._of_features(self._transformed(raw)),
            counts=self._of_counts(self._counts(hot)),
        )

    def _raw(self, encodings: IntArray) -> FloatArray:
        return self._features(encodings) if self._features is not None else np.zeros((len(encodings), 0))

    def _transformed(self, raw: FloatArray) -> FloatArray:
        used = raw[:, self._columns]
        found: FloatArray = np.where(self._positive, np.log(np.maximum(used, 1e-300)), used)
        return found


class OptionCounts:
    """How often each option is chosen, over all choices that have the same options and are switched on.

    Twenty blocks of one network choose each among the same kernels, and how many are large tells much of what it is
    worth long before it is known which block gains most.
    """

    def __init__(self, choices: Sequence[Choice], distances: ChoiceDistances) -> None:
        groups: dict[tuple[object, ...], list[IntArray]] = {}
        for choice, places in zip(choices, distances.places, strict=True):
            if len(places):
                groups.setdefault(tuple(choice.options), []).append(places)
        # of one choice alone the one-hot row says the same
        shared = [np.stack(places) for places in groups.values() if len(places) > 1]
        # (S, C) which one-hot columns are counted together
        self._sums = np.zeros((distances.width, sum(places.shape[1] for places in shared)), dtype=np.float32)
        together = [column for places in shared for column in places.T]
        for count, columns in enumerate(together):
            self._sums[columns, count] = 1.0

    def __call__(self, hot: FloatArray) -> FloatArray:
        """(N, S) one-hot rows -> (N, C) counts; C is the sum of the options of all such groups."""
        return (hot @ self._sums).astype(float)


class _Scale:
    """To mean 0 and deviation 1 over a sample; what is the same everywhere becomes 0."""

    def __init__(self, sample: FloatArray) -> None:
        self._center = sample.mean(axis=0)
        width = sample.std(axis=0)
        self._width = np.where(width > 0, width, np.inf)

    def __call__(self, values: FloatArray) -> FloatArray:
        found: FloatArray = (values - self._center) / self._width
        return found
