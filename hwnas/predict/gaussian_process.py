"""A Gaussian process over architectures: what a metric will be, and how unsure that is, from few evaluated networks.

The covariance of two networks is `a exp(-sum_d w_d distance_d)` over their choices, with a weight for each choice
(`hwnas.predict.kernel`), plus `b exp(-sum_f (difference_f / length_f)^2 / 2)` over features that cost nothing (latency,
MACs, parameters). Amplitudes, weights, lengths and noise are those of largest posterior density given the evaluated
networks (Rasmussen & Williams, 2006, section 5.4.1), under wide priors that keep few networks from deciding them.

Numpy and SciPy only: never what a metric means, never trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwnas.predict.kernel import ChoiceDistances
from hwnas.types import FloatArray, IntArray

_JITTER = 1e-8
_MOST_FITTED = 256  # networks that decide the hyperparameters: more change them little, and cost cubes
_ITERATIONS = 60
_WIDEST = 6.0  # of a prior, on either side: what lies beyond no number of networks makes likely
_NEVER = 1e10


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """Of the covariance, as logarithms; targets and features are standardised.

    Attributes:
        choices: variance over choices.
        weights: (D,) of each choice's distance.
        features: variance over features.
        lengths: (F,) of each feature.
        noise: variance of what is measured.
    """

    choices: float
    weights: FloatArray
    features: float
    lengths: FloatArray
    noise: float

    def vector(self) -> FloatArray:
        return np.array([self.choices, self.features, self.noise, *self.weights, *self.lengths])

    @classmethod
    def from_vector(cls, vector: FloatArray, *, n_choices: int) -> Hyperparameters:
        return cls(
            choices=float(vector[0]),
            features=float(vector[1]),
            noise=float(vector[2]),
            weights=vector[3 : 3 + n_choices],
            lengths=vector[3 + n_choices :],
        )


class GaussianProcess:
    """Fitted to N networks; predicts others. See the module.

    Args:
        distances: of the space's choices.
        encodings: (N, D) canonical, of the evaluated networks.
        features: (N, F) standardised; F may be 0.
        targets: (N,) finite.
        start: hyperparameters to begin from; None: the prior's. With `fit=False` they are taken as they are.
        fit: whether to fit hyperparameters.
        seed: of the choice of networks that decide them, where there are many.
    """

    def __init__(
        self,
        distances: ChoiceDistances,
        encodings: IntArray,
        features: FloatArray,
        targets: FloatArray,
        *,
        start: Hyperparameters | None = None,
        fit: bool = True,
        seed: int = 0,
    ) -> None:
        self._distances = distances
        self._hot = distances.one_hot(encodings).astype(float)
        self._features = features
        self._center = float(targets.mean())
        self._scale = float(targets.std()) or 1.0
        self._y = (targets - self._center) / self._scale
        self._prior = _prior(len(distances), features.shape[1])
        self.hyperparameters = start or Hyperparameters.from_vector(self._prior[0], n_choices=len(distances))
        if fit:
            self.hyperparameters = self._fitted(seed)
        covariance = self._covariance(self.hyperparameters, np.arange(len(targets)))[0]
        self._inverse = np.linalg.inv(covariance)
        self._alpha = self._inverse @ self._y

    # ------------------------------------------------------------ what it tells

    def predict(self, encodings: IntArray, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, D), (N, F) -> mean and standard deviation of the metric without its noise, each (N,)."""
        h = self.hyperparameters
        across = (
            np.exp(h.choices - self._distances.one_hot(encodings) @ self._to_train) if len(self._distances) else 0.0
        )
        if features.shape[1]:
            across = across + np.exp(h.features - 0.5 * _squared(features, self._features, np.exp(h.lengths)))
        mean = across @ self._alpha
        variance = self._prior_variance - np.einsum("ij,ij->i", across @ self._inverse, across)
        std = np.sqrt(np.maximum(variance, _JITTER))
        return self._center + self._scale * mean, self._scale * std

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """For each evaluated network mean and standard deviation (noise included) that the others predict it with.

        In closed form (Rasmussen & Williams, 2006, section 5.4.2), with the hyperparameters of all.
        """
        diagonal = np.diag(self._inverse)
        mean = self._y - self._alpha / diagonal
        return self._center + self._scale * mean, self._scale / np.sqrt(diagonal)

    # ------------------------------------------------------------ covariance and its fit

    @property
    def _to_train(self) -> FloatArray:
        weighed = self._distances.matrix(np.exp(self.hyperparameters.weights)) @ self._hot.T
        # (S, n) in single precision: a whole space may be predicted
        return np.asarray(weighed, dtype=np.float32)

    @property
    def _prior_variance(self) -> float:
        h = self.hyperparameters
        return float(np.exp(h.choices)) + (float(np.exp(h.features)) if self._features.shape[1] else 0.0)

    def _covariance(self, h: Hyperparameters, rows: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(n, n) the covariance of what is measured; its part from choices; its part from features."""
        hot, features = self._hot[rows], self._features[rows]
        apart = hot @ self._distances.matrix(np.exp(h.weights)) @ hot.T
        of_choices = np.exp(h.choices - apart)
        of_features = (
            np.exp(h.features - 0.5 * _squared(features, features, np.exp(h.lengths)))
            if features.shape[1]
            else np.zeros_like(of_choices)
        )
        noise = (float(np.exp(h.noise)) + _JITTER) * np.eye(len(rows))
        return of_choices + of_features + noise, of_choices, of_features

    def loss(self, rows: IntArray) -> Callable[[FloatArray], tuple[float, FloatArray]]:
        """The negative logarithm of the posterior density of hyperparameters (up to a constant), and its gradient.

        Args:
            rows: of the evaluated networks that decide.
        """
        hot, features, y = self._hot[rows], self._features[rows], self._y[rows]
        n_choices, (center, width) = len(self._distances), self._prior

        def of(vector: FloatArray) -> tuple[float, FloatArray]:
            h = Hyperparameters.from_vector(vector, n_choices=n_choices)
            covariance, of_choices, of_features = self._covariance(h, rows)
            try:
                lower = np.linalg.cholesky(covariance)
            except np.linalg.LinAlgError:  # so little noise that two networks are one: never the best
                return _NEVER, np.zeros_like(vector)
            inverse = np.linalg.inv(covariance)
            alpha = inverse @ y
            off = (vector - center) / width
            value = 0.5 * float(y @ alpha) + float(np.log(np.diag(lower)).sum()) + 0.5 * float(off @ off)
            # the derivative by any hyperparameter is half the trace of this with that of the covariance
            outer = inverse - np.outer(alpha, alpha)
            pairs = outer * of_choices
            gradient = np.empty_like(vector)
            gradient[0] = 0.5 * pairs.sum()
            gradient[3 : 3 + n_choices] = -0.5 * np.exp(h.weights) * self._distances.contract(hot.T @ pairs @ hot)
            pairs = outer * of_features
            gradient[1] = 0.5 * pairs.sum()
            gradient[2] = 0.5 * float(np.exp(h.noise)) * float(np.trace(outer))
            for f, length in enumerate(np.exp(h.lengths)):
                difference = (features[:, f, None] - features[None, :, f]) / length
                gradient[3 + n_choices + f] = 0.5 * float((pairs * difference**2).sum())
            return value, gradient + off / width

        return of

    def _fitted(self, seed: int) -> Hyperparameters:
        from scipy.optimize import minimize

        rows = np.arange(len(self._y))
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


def _prior(n_choices: int, n_features: int) -> tuple[FloatArray, FloatArray]:
    """Center and width of each hyperparameter's normal prior, in logarithms."""
    # together the choices are worth one or two lengths: what a random pair of networks differs in
    weight = np.log(2.0 / max(n_choices, 1))
    center = [0.0, -1.0, np.log(0.01), *[weight] * n_choices, *[np.log(1.5)] * n_features]
    width = [1.0, 1.0, 1.5, *[1.0] * n_choices, *[1.0] * n_features]
    return np.array(center), np.array(width)


def _squared(a: FloatArray, b: FloatArray, lengths: FloatArray) -> FloatArray:
    """(N, F), (M, F) -> (N, M) squared distances in units of the lengths."""
    a, b = a / lengths, b / lengths
    found: FloatArray = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0)
    return found
