"""A Gaussian process over architectures: what a metric will be, and how unsure that is, from few evaluated networks.

The covariance of two networks is `a exp(-sum_d w_d distance_d)` over their choices, with a weight for each choice
(`hwnas.predict.kernel`), plus `b exp(-sum_f (difference_f / length_f)^2 / 2)` over features that cost nothing (latency,
MACs, parameters), plus two trends, which are linear: in how often each option is chosen, and in those features. The
trends tell from a few dozen networks what the first two terms need hundreds for. Amplitudes, weights, lengths and noise
are those of largest posterior density given the evaluated networks (Rasmussen & Williams, 2006, section 5.4.1), under
wide priors that keep few networks from deciding them.

Numpy and SciPy only: never what a metric means, never trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwnas.predict.inputs import Inputs
from hwnas.predict.kernel import ChoiceDistances
from hwnas.types import FloatArray, IntArray

_JITTER = 1e-8
_MOST_FITTED = 256  # networks that decide the hyperparameters: more change them little, and cost cubes
_ITERATIONS = 60
_WIDEST = 6.0  # of a prior, on either side: what lies beyond no number of networks makes likely
_NEVER = 1e10
_PIECE = 512  # networks predicted at once
_LEAST_VARIANCE = 1e-6  # of targets' variance: what single precision leaves of nothing
_SCALARS = 5  # hyperparameters before those of each choice and feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """Of the covariance, as logarithms; targets and features are standardised.

    Attributes:
        choices: variance over choices.
        weights: (D,) of each choice's distance.
        features: variance over features.
        lengths: (F,) of each feature.
        trends: (2,) variances of what is linear in the counts of options, and in the features.
        noise: variance of what is measured.
    """

    choices: float
    weights: FloatArray
    features: float
    lengths: FloatArray
    trends: FloatArray
    noise: float

    def vector(self) -> FloatArray:
        return np.array([self.choices, self.features, self.noise, *self.trends, *self.weights, *self.lengths])

    @classmethod
    def from_vector(cls, vector: FloatArray, *, n_choices: int) -> Hyperparameters:
        return cls(
            choices=float(vector[0]),
            features=float(vector[1]),
            noise=float(vector[2]),
            trends=vector[3:_SCALARS],
            weights=vector[_SCALARS : _SCALARS + n_choices],
            lengths=vector[_SCALARS + n_choices :],
        )


class GaussianProcess:
    """Fitted to N networks; predicts others. See the module.

    Args:
        distances: of the space's choices.
        inputs: of the N evaluated networks.
        targets: (N,) finite.
        start: hyperparameters to begin from; None: the prior's. With `fit=False` they are taken as they are.
        fit: whether to fit hyperparameters.
        seed: of the choice of networks that decide them, where there are many.
    """

    def __init__(
        self,
        distances: ChoiceDistances,
        inputs: Inputs,
        targets: FloatArray,
        *,
        start: Hyperparameters | None = None,
        fit: bool = True,
        seed: int = 0,
    ) -> None:
        self._distances = distances
        self._inputs = inputs
        self._targets = targets
        self._center = float(targets.mean())
        self._scale = float(targets.std()) or 1.0
        self._y = (targets - self._center) / self._scale
        self._prior = _prior(len(distances), inputs.features.shape[1])
        self.hyperparameters = start or Hyperparameters.from_vector(self._prior[0], n_choices=len(distances))
        if fit:
            self.hyperparameters = self._fitted(seed)
        covariance = _Covariance(distances, inputs).at(self.hyperparameters).total
        self._inverse = np.linalg.inv(covariance)
        self._alpha = self._inverse @ self._y
        # the variance is a sum of squares so, and cannot fall below zero by more than rounding
        self._whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T.astype(np.float32)

    # ------------------------------------------------------------ what it tells

    def predict(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the metric of N networks, without its noise, each (N,).

        In single precision and pieces that stay in the processor's cache: whole spaces are predicted for every trial.
        """
        mean, variance = np.empty(len(inputs)), np.empty(len(inputs))
        alpha, across = self._alpha.astype(np.float32), self._across
        for begin in range(0, len(inputs), _PIECE):
            piece = slice(begin, begin + _PIECE)
            found, prior = across(inputs[piece])
            mean[piece] = found @ alpha
            explained = found @ self._whitening
            variance[piece] = prior - np.einsum("ij,ij->i", explained, explained)
        std = np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
        return self._center + self._scale * mean, self._scale * std

    @cached_property
    def _across(self) -> Callable[[Inputs], tuple[FloatArray, FloatArray]]:
        """N networks -> (N, n) their covariance with the evaluated ones, float32; (N,) their own."""
        h, single = self.hyperparameters, np.float32
        # every row has as many ones as there are choices: the amplitude is shared out among them
        weighed = self._distances.matrix(np.exp(h.weights)) @ self._inputs.hot.T.astype(float)
        weighed = (h.choices / max(len(self._distances), 1) - weighed).astype(single)
        lengths = np.exp(h.lengths)
        there = self._inputs.features / lengths
        # -(here - there)^2 / 2 + amplitude as a product: of [here, -here^2 / 2, 1] and these rows
        ones = np.ones((1, len(there)))
        apart = np.concatenate([there.T, ones, h.features - 0.5 * (there**2).sum(axis=1)[None]]).astype(single)
        lines = self._lines(self._inputs).astype(single).T
        constant = np.exp(h.choices) + (np.exp(h.features) if len(lengths) else 0.0)

        def across(inputs: Inputs) -> tuple[FloatArray, FloatArray]:
            found = inputs.hot @ weighed
            np.exp(found, out=found)
            if len(lengths):
                here = inputs.features / lengths
                squares = -0.5 * (here**2).sum(axis=1, keepdims=True)
                close = np.concatenate([here, squares, np.ones_like(squares)], axis=1).astype(single) @ apart
                # rounding must not bring two networks nearer than one
                np.minimum(close, single(h.features), out=close)
                found += np.exp(close, out=close)
            line = self._lines(inputs).astype(single)
            found += line @ lines
            return found, constant + np.einsum("ij,ij->i", line, line).astype(float)

        return across

    def _lines(self, inputs: Inputs) -> FloatArray:
        """(N, C + F) whose products are the covariance of both trends."""
        amplitudes = np.exp(0.5 * self.hyperparameters.trends)
        return np.concatenate([a * of for a, of in zip(amplitudes, _linear(inputs), strict=True)], axis=1)

    def with_more(self, inputs: Inputs, targets: FloatArray) -> GaussianProcess:
        """The process of these and K other networks, with the same hyperparameters.

        Args:
            inputs: of the others.
            targets: (K,).
        """
        joined, together = self._inputs.joined(inputs), np.concatenate([self._targets, targets])
        return GaussianProcess(self._distances, joined, together, start=self.hyperparameters, fit=False)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """For each evaluated network mean and standard deviation (noise included) that the others predict it with.

        In closed form (Rasmussen & Williams, 2006, section 5.4.2), with the hyperparameters of all.
        """
        diagonal = np.diag(self._inverse)
        mean = self._y - self._alpha / diagonal
        return self._center + self._scale * mean, self._scale / np.sqrt(diagonal)

    @property
    def noise(self) -> float:
        """Standard deviation of what is measured of one and the same network, as far as the networks tell."""
        return self._scale * float(np.exp(0.5 * self.hyperparameters.noise))

    # ------------------------------------------------------------ the fit

    def loss(self, rows: IntArray) -> Callable[[FloatArray], tuple[float, FloatArray]]:
        """The negative logarithm of the posterior density of hyperparameters (up to a constant), and its gradient.

        Args:
            rows: of the evaluated networks that decide.
        """
        y, covariances = self._y[rows], _Covariance(self._distances, self._inputs[rows])
        n_choices, (center, width) = len(self._distances), self._prior

        def of(vector: FloatArray) -> tuple[float, FloatArray]:
            h = Hyperparameters.from_vector(vector, n_choices=n_choices)
            parts = covariances.at(h)
            try:
                lower = np.linalg.cholesky(parts.total)
            except np.linalg.LinAlgError:  # so little noise that two networks are one: never the best
                return _NEVER, np.zeros_like(vector)
            inverse = np.linalg.inv(parts.total)
            alpha = inverse @ y
            off = (vector - center) / width
            value = 0.5 * float(y @ alpha) + float(np.log(np.diag(lower)).sum()) + 0.5 * float(off @ off)
            # the derivative by any hyperparameter is half the trace of this with that of the covariance
            return value, 0.5 * covariances.contracted(inverse - np.outer(alpha, alpha), h, parts) + off / width

        return of

    def _fitted(self, seed: int) -> Hyperparameters:
        from scipy.optimize import minimize

        rows: IntArray = np.arange(len(self._y))
        if len(rows) > _MOST_FITTED:
            rows = np.random.default_rng(seed).choice(len(rows), _MOST_FITTED, replace=False)
        center, width = self._prior
        bounds = list(zip(center - _WIDEST * width, center + _WIDEST * width, strict=True))
        found = minimize(
            self.loss(rows),
            self.hyperparameters.vector(),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _ITERATIONS},
        )
        return Hyperparameters.from_vector(found.x, n_choices=len(self._distances))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """(n, n) each: the covariance of what is measured, and what of it is of choices, features and the two trends."""

    total: FloatArray
    choices: FloatArray
    features: FloatArray
    trends: tuple[FloatArray, ...]


class _Covariance:
    """Of n networks with each other, at any hyperparameters; what does not depend on them is computed once."""

    def __init__(self, distances: ChoiceDistances, inputs: Inputs) -> None:
        self._distances, self._features = distances, inputs.features
        self._hot = inputs.hot.astype(float)
        self._trends = [of @ of.T for of in _linear(inputs)]

    def at(self, h: Hyperparameters) -> _Parts:
        n = len(self._hot)
        choices = np.exp(h.choices - self._hot @ self._distances.matrix(np.exp(h.weights)) @ self._hot.T)
        features = np.zeros((n, n))
        if self._features.shape[1]:
            features = np.exp(h.features - 0.5 * _squared(self._features, self._features, np.exp(h.lengths)))
        trends = tuple(float(v) * part for v, part in zip(np.exp(h.trends), self._trends, strict=True))
        noise = (float(np.exp(h.noise)) + _JITTER) * np.eye(n)
        return _Parts(total=choices + features + sum(trends) + noise, choices=choices, features=features, trends=trends)

    def contracted(self, outer: FloatArray, h: Hyperparameters, parts: _Parts) -> FloatArray:
        """The sum of an (n, n) matrix times the covariance's derivative, by each hyperparameter."""
        of_choices, of_features = outer * parts.choices, outer * parts.features
        weights = -np.exp(h.weights) * self._distances.contract(self._hot.T @ of_choices @ self._hot)
        lengths = [
            float((of_features * ((column[:, None] - column[None, :]) / length) ** 2).sum())
            for column, length in zip(self._features.T, np.exp(h.lengths), strict=True)
        ]
        trends = [float((outer * part).sum()) for part in parts.trends]
        noise = float(np.exp(h.noise)) * float(np.trace(outer))
        return np.array([of_choices.sum(), of_features.sum(), noise, *trends, *weights, *lengths])


def _linear(inputs: Inputs) -> tuple[FloatArray, FloatArray]:
    """What the trends are linear in, of variance 1 together."""
    counts, features = inputs.counts, inputs.features
    return counts / np.sqrt(max(counts.shape[1], 1)), features / np.sqrt(max(features.shape[1], 1))


def _prior(n_choices: int, n_features: int) -> tuple[FloatArray, FloatArray]:
    """Center and width of each hyperparameter's normal prior, in logarithms."""
    # together the choices are worth one or two lengths: what a random pair of networks differs in
    weight = np.log(2.0 / max(n_choices, 1))
    center = [0.0, -1.0, np.log(0.01), -1.0, -1.0, *[weight] * n_choices, *[np.log(1.5)] * n_features]
    width = [1.0, 1.0, 1.5, 1.5, 1.5, *[1.0] * n_choices, *[1.0] * n_features]
    return np.array(center), np.array(width)


def _squared(a: FloatArray, b: FloatArray, lengths: FloatArray) -> FloatArray:
    """(N, F), (M, F) -> (N, M) squared distances in units of the lengths."""
    a, b = a / lengths, b / lengths
    found: FloatArray = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0)
    return found
