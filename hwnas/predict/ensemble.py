"""Several models of one metric as one, each weighted by how well it predicts networks that it was not fitted to.

A Gaussian process, boosted trees and, from eight networks on, a linear model of options and pairs of options. Each
one's deviations are first calibrated on networks left out. Then weights are those of the mixture under which the
left-out networks are likeliest (stacking of predictive distributions: Yao et al., 2018). A model that ranks left-out
networks much worse than the best one, or that the mixture hardly needs, is left out.

Numpy and SciPy only, but for the models: never what a metric means, trials or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hwnas.errors import ConfigError
from hwnas.predict.gaussian_process import GaussianProcess, Hyperparameters
from hwnas.predict.inputs import Features, Inputs, Representation
from hwnas.predict.linear import LEAST as LEAST_OF_LINEAR
from hwnas.predict.linear import fit_linear
from hwnas.predict.trees import BoostedTrees
from hwnas.types import Choice, FloatArray, IntArray

LEAST = 4  # networks, below which nothing is fitted
_MUCH_WORSE = 0.15  # of rank correlation
_HARDLY = 0.05  # of the mixture
_STEPS = 200
_PIECE = 4096
SHARES = (0.5, 0.8, 0.95)  # of values, for which intervals are checked


class Model(Protocol):
    """What an ensemble is made of."""

    def predict(self, encodings: IntArray, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical, the same as inputs -> mean and standard deviation, each (N,)."""
        ...

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """For each evaluated network, predicted without it: mean and standard deviation, each (N,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well a model predicts networks that it was not fitted to, and whether it knows how well.

    Attributes:
        rank_correlation: Spearman's, of predicted and known values.
        rmse: root of the mean squared error, in the metric's unit.
        within: for the shares of `SHARES`, how many of the known values lie in the intervals that should hold so many.
        log_likelihood: mean logarithm of the density of known values.
        weight: in the ensemble.
    """

    rank_correlation: float
    rmse: float
    within: tuple[float, ...]
    log_likelihood: float
    weight: float


class Ensemble:
    """Fitted to N networks; predicts others. See the module.

    Args:
        choices: of the space.
        encodings: (N, D) canonical, different ones.
        targets: (N,) finite.
        features: (M, D) -> (M, F) what is known without an evaluation; None: nothing is.
        seed: of all chance.
        start: hyperparameters of the Gaussian process, taken as they are; None: they are fitted.

    Attributes:
        calibrations: name of each model -> its own, and that of the `ensemble`.
        hyperparameters: of the Gaussian process.

    Raises:
        ConfigError: fewer than `LEAST` networks.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        encodings: IntArray,
        targets: FloatArray,
        *,
        features: Features | None = None,
        seed: int = 0,
        start: Hyperparameters | None = None,
    ) -> None:
        if len(targets) < LEAST:
            raise ConfigError(f"a predictor needs {LEAST} evaluated networks, and {len(targets)} are known")
        self.encodings, self.targets = encodings, targets
        self._represented = Representation(choices, encodings, features=features)
        inputs = self._represented(encodings)
        process = GaussianProcess(
            self._represented.distances, inputs, targets, start=start, fit=start is None, seed=seed
        )
        self.hyperparameters = process.hyperparameters
        models: dict[str, Model] = {
            "gaussian process": _Process(process),
            "boosted trees": _Trees(BoostedTrees(inputs, targets, seed=seed)),
        }
        if len(targets) >= LEAST_OF_LINEAR:
            models["linear"] = _Linear(choices, encodings, targets, seed=seed)
        left_out = {name: _calibrated(model.left_out(), targets) for name, model in models.items()}
        self._weights = _weights({n: (m, s) for n, (m, s, _) in left_out.items()}, targets)
        self._models = {n: (models[n], left_out[n][2], w) for n, w in self._weights.items() if w > 0}
        self.calibrations = {
            name: _calibration([(mean, std, 1.0)], targets, weight=self._weights[name])
            for name, (mean, std, _) in left_out.items()
        }
        mixed = [(left_out[n][0], left_out[n][1], w) for n, w in self._weights.items() if w > 0]
        self.calibrations["ensemble"] = _calibration(mixed, targets, weight=1.0)
        self.left_out = _mixed(mixed)

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical -> mean and standard deviation of the metric, each (N,)."""
        pieces = [encodings[i : i + _PIECE] for i in range(0, len(encodings), _PIECE)]
        found = [self._predict(piece) for piece in pieces] or [(np.zeros(0), np.zeros(0))]
        return np.concatenate([mean for mean, _ in found]), np.concatenate([std for _, std in found])

    def _predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        inputs = self._represented(encodings)
        parts = []
        for model, factor, weight in self._models.values():
            mean, std = model.predict(encodings, inputs)
            parts.append((mean, factor * std, weight))
        return _mixed(parts)


# ---------------------------------------------------------------- models


class _Process:
    def __init__(self, process: GaussianProcess) -> None:
        self._process = process

    def predict(self, encodings: IntArray, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        mean, std = self._process.predict(inputs)
        # with the noise of what is measured: so are the values of networks left out
        return mean, np.hypot(std, self._process.noise)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        return self._process.left_out()


class _Linear:
    def __init__(self, choices: Sequence[Choice], encodings: IntArray, targets: FloatArray, *, seed: int) -> None:
        self._model, told = fit_linear(choices, encodings, targets, seed=seed)
        self._error = told.rmse or 1e-9

    def predict(self, encodings: IntArray, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        return self._model.predict(encodings)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        mean = self._model.left_out()
        return mean, np.full(len(mean), self._error)


class _Trees:
    def __init__(self, trees: BoostedTrees) -> None:
        self._trees = trees

    def predict(self, encodings: IntArray, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        return self._trees.predict(inputs)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        return self._trees.left_out()


# ---------------------------------------------------------------- weights


def _calibrated(left_out: tuple[FloatArray, FloatArray], targets: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Means, deviations of the right size on average, and the factor that makes them so."""
    mean, std = left_out
    factor = float(np.sqrt((((targets - mean) / std) ** 2).mean()))
    # no narrower than they are: a few networks that were met well are no proof
    factor = max(factor, 1.0)
    return mean, factor * std, factor


def _weights(left_out: Mapping[str, tuple[FloatArray, FloatArray]], targets: FloatArray) -> dict[str, float]:
    """Model -> its share of the mixture under which the targets are likeliest; 0 for those that it can do without."""
    correlation = {name: rank_correlation(mean, targets) for name, (mean, _) in left_out.items()}
    used = [name for name in left_out if correlation[name] >= max(correlation.values()) - _MUCH_WORSE]
    while True:
        density = np.stack([_log_density(*left_out[name], targets) for name in used])
        density = np.exp(density - density.max(axis=0))  # of each network up to a factor
        shares = np.full(len(used), 1 / len(used))
        for _ in range(_STEPS):  # expectation maximisation: each step is likelier
            responsible = shares[:, None] * density
            shares = (responsible / responsible.sum(axis=0)).mean(axis=1)
        if shares.min() >= _HARDLY:
            return {name: float(shares[used.index(name)]) if name in used else 0.0 for name in left_out}
        used.pop(int(np.argmin(shares)))


def _mixed(parts: Sequence[tuple[FloatArray, FloatArray, float]]) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of a mixture of normal values, given as mean, deviation and share each."""
    mean = np.sum([w * m for m, _, w in parts], axis=0)
    square = np.sum([w * (s**2 + m**2) for m, s, w in parts], axis=0)
    return mean, np.sqrt(np.maximum(square - mean**2, 1e-18))


def _log_density(mean: FloatArray, std: FloatArray, targets: FloatArray) -> FloatArray:
    found: FloatArray = -0.5 * ((targets - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return found


def _calibration(
    parts: Sequence[tuple[FloatArray, FloatArray, float]], targets: FloatArray, *, weight: float
) -> Calibration:
    from scipy.special import ndtri

    mean, std = _mixed(parts)
    off = np.abs(targets - mean) / std
    return Calibration(
        rank_correlation=rank_correlation(mean, targets),
        rmse=float(np.sqrt(((targets - mean) ** 2).mean())),
        within=tuple(float((off <= ndtri(0.5 + share / 2)).mean()) for share in SHARES),
        log_likelihood=float(_log_density(mean, std, targets).mean()),
        weight=weight,
    )


def rank_correlation(predicted: FloatArray, known: FloatArray) -> float:
    """Spearman's; 0 where one of them is the same for all."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(predicted), rankdata(known)])
    if (ranks.std(axis=1) == 0).any():
        return 0.0
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
