"""Ridge regression on the options of choices and on pairs of them: what an exact solver can maximise.

A metric is taken for a constant, a number for each option of each choice, and a table for each of a few pairs of
choices. Choices that have the same options also share a number for each option (twenty blocks with the same kernels):
from few networks these are known first, and what is left for a single choice is a difference. All is fitted at once as
a kernel machine (Saunders et al., 1998), so that pairs cost nothing before their tables are asked for; the penalty and
the shares are those of least error when each network is predicted by the others, which has a closed form (Allen, 1974).

Which pairs count: those whose tables vary most when all pairs are allowed; how many, cross-validation decides, in which
each part is predicted by pairs that were chosen without it.

Numpy and SciPy only: knows choices and option indices, never what a metric means, trials or tables of costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwnas.errors import ConfigError
from hwnas.predict._states import CenteredRows, Pair, States
from hwnas.types import Choice, FloatArray, IntArray

LEAST = 8  # networks, below which nothing is fitted
_PENALTIES = np.logspace(-4, 1, 11)  # of kernels whose diagonals are about 1
_SHARED = (0.0, 1.0, 4.0, 16.0)  # variance of what choices with the same options have in common
_OF_PAIRS = (0.1, 0.5)  # variance of pairs
_NO_PAIRS = (0.0,)
_FOLDS = 5
_NUMBERS_OF_PAIRS = (0, 8, 24)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """What some choices add to the metric.

    Attributes:
        scope: indices of one or two choices, ascending.
        values: one axis a choice: its options in order and, where it has a parent, that it is switched off.
    """

    scope: tuple[int, ...]
    values: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """How well a model predicts networks that it was not fitted to.

    Attributes:
        n: networks, each predicted once.
        rank_correlation: Spearman's, of predicted and known values; 0 where one of them is the same for all.
        rank_correlation_error: its standard error (Bonett & Wright, 2000).
        rmse: root of the mean squared error, in the metric's unit.
        rmse_error: its standard error.
    """

    n: int
    rank_correlation: float
    rank_correlation_error: float
    rmse: float
    rmse_error: float

    @classmethod
    def of(cls, predicted: FloatArray, known: FloatArray) -> CrossValidation:
        """Of (N,) predictions."""
        from scipy.stats import rankdata

        n = len(known)
        ranks = np.stack([rankdata(predicted), rankdata(known)])
        varies = bool((ranks.std(axis=1) > 0).all())
        rho = float(np.asarray(np.corrcoef(ranks))[0, 1]) if varies else 0.0
        squares = (predicted - known) ** 2
        rmse = float(np.sqrt(squares.mean()))
        return cls(
            n=n,
            rank_correlation=rho,
            rank_correlation_error=float((1 - rho**2) * np.sqrt((1 + rho**2 / 2) / max(n - 3, 1))),
            rmse=rmse,
            rmse_error=float(squares.std() / np.sqrt(n) / (2 * rmse)) if rmse else 0.0,
        )


class LinearModel:
    """Fitted to N networks; predicts others. See the module.

    Args:
        choices: of the space.
        encodings: (N, D) canonical, of the evaluated networks.
        targets: (N,) finite.
        pairs: of choices, whose options count together.
        shared: variance of what choices with the same options have in common, beside 1 for what they have alone; None:
            that of least error of some.

    Raises:
        ConfigError: fewer than `LEAST` networks.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        encodings: IntArray,
        targets: FloatArray,
        *,
        pairs: Sequence[Pair] = (),
        shared: float | None = None,
    ) -> None:
        if len(targets) < LEAST:
            raise ConfigError(f"a linear model needs {LEAST} evaluated networks, and {len(targets)} are known")
        self._states = States(choices)
        self._own = self._states(encodings)
        self._hot = CenteredRows(self._states.hot(self._own), self._states)
        self._center = float(targets.mean())
        self._y = targets - self._center
        self.pairs = tuple(pairs)
        kernels = self._hot.kernels(self._hot.rows, self.pairs)
        self._scales = [float(np.diag(k).mean()) or 1.0 for k in kernels]
        kernels = self._scaled(kernels)
        weights = list(
            itertools.product(
                (1.0,), _SHARED if shared is None else (shared,), _OF_PAIRS if len(self.pairs) else _NO_PAIRS
            )
        )
        fits = [_Fit.of(_sum(w, kernels), self._y) for w in weights]
        best = min(range(len(fits)), key=lambda i: fits[i].error)
        self._weights, self._fit = weights[best], fits[best]
        self.shared = self._weights[1]

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        """(N, D) canonical -> mean and standard deviation of each network's metric, each (N,).

        The deviation includes what no such model can tell of a network (its lack of fit), as the evaluated networks
        show it when they are left out.
        """
        rows = self._hot.centered(self._states.hot(self._states(encodings)))
        across = _sum(self._weights, self._scaled(self._hot.kernels(rows, self.pairs)))
        own = across @ self._fit.inverse
        known = np.einsum("ij,ij->i", own, across)
        prior = _sum(self._weights, self._scaled(self._hot.diagonals(rows, self.pairs)))
        variance = self._fit.noise * (1 + np.maximum(prior - known, 0.0) / self._fit.penalty)
        return self.mean(encodings), np.sqrt(variance)

    def mean(self, encodings: IntArray) -> FloatArray:
        """(N, D) canonical -> (N,) the mean alone: a few look-ups, for whoever asks about very many networks."""
        states = self._states(encodings)
        found = np.full(len(encodings), self.constant)
        for term in self.terms:
            found += term.values[tuple(states[:, c] for c in term.scope)]
        return found

    def left_out(self) -> FloatArray:
        """(N,) what each evaluated network is predicted to be by the others, with the shares and penalty of all."""
        return self._center + self._y - self._fit.residuals

    @property
    def constant(self) -> float:
        """What is added to every network."""
        return self._center

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """What choices and pairs of choices add; with the constant they are the mean that is predicted."""
        alpha, rows = self._fit.alpha, self._hot.rows
        main, shared, joint = (w / s for w, s in zip(self._weights, self._scales, strict=True))
        of_options = main * rows.T @ alpha + shared * self._hot.unshared(rows.T @ alpha)
        found = []
        for c in self._states.columns:
            block = self._states.block(c)
            values = of_options[block] - self._hot.means[block] @ of_options[block]
            found.append(Term(scope=(c,), values=values))
        for a, b in self.pairs:
            of_a, of_b = self._states.block(a), self._states.block(b)
            together = joint * (rows[:, of_a] * alpha[:, None]).T @ rows[:, of_b]
            found.append(Term(scope=(a, b), values=self._hot.offset(a) @ together @ self._hot.offset(b).T))
        return tuple(found)

    def strength(self) -> Mapping[Pair, float]:
        """Pair of choices -> the deviation of what it adds to the evaluated networks."""
        return {
            (t.scope[0], t.scope[1]): float(t.values[self._own[:, t.scope[0]], self._own[:, t.scope[1]]].std())
            for t in self.terms
            if len(t.scope) == 2
        }

    def _scaled(self, kernels: Sequence[FloatArray]) -> list[FloatArray]:
        """Kernels whose diagonals are about 1 over the evaluated networks."""
        return [k / s for k, s in zip(kernels, self._scales, strict=True)]


def fit_linear(
    choices: Sequence[Choice],
    encodings: IntArray,
    targets: FloatArray,
    *,
    numbers_of_pairs: Sequence[int] = _NUMBERS_OF_PAIRS,
    seed: int = 0,
) -> tuple[LinearModel, CrossValidation]:
    """A model with as many pairs as cross-validation finds worth having, and how well it predicts.

    The fewest pairs are taken whose squared error is no larger than the least by more than one standard error of the
    difference (Breiman et al., 1984). That choice was made on the figures that are returned, nothing else was.

    Args:
        choices: of the space.
        encodings: (N, D) canonical, different ones.
        targets: (N,) finite.
        numbers_of_pairs: that are tried.
        seed: of the parts.

    Raises:
        ConfigError: fewer than `LEAST` networks.
    """
    if len(targets) < LEAST:
        raise ConfigError(f"a linear model needs {LEAST} evaluated networks, and {len(targets)} are known")
    numbers = sorted({min(n, len(_pairs(choices))) for n in numbers_of_pairs})
    # a part is left out whole, and what is fitted to the rest needs its least number of networks too
    folds = min(_FOLDS, len(targets) // 2) if len(targets) * (_FOLDS - 1) // _FOLDS >= LEAST else len(targets)
    parts = np.random.default_rng(seed).permutation(len(targets)) % folds
    predicted = np.empty((len(numbers), len(targets)))
    for part in range(folds if len(targets) > LEAST else 0):
        rest, own = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        for i, model in enumerate(_with_pairs(choices, encodings[rest], targets[rest], numbers=numbers)):
            predicted[i, own] = model.predict(encodings[own])[0]
    if len(targets) == LEAST:  # with one less nothing is fitted
        numbers = numbers[:1]
        predicted[0] = LinearModel(choices, encodings, targets).left_out()
    squares = (predicted[: len(numbers)] - targets) ** 2
    least = int(np.argmin(squares.mean(axis=1)))
    worse = squares - squares[least]
    near = worse.mean(axis=1) <= worse.std(axis=1) / np.sqrt(len(targets))
    taken = int(np.argmax(near))
    (model,) = _with_pairs(choices, encodings, targets, numbers=[numbers[taken]])
    return model, CrossValidation.of(predicted[taken], targets)


def _with_pairs(
    choices: Sequence[Choice], encodings: IntArray, targets: FloatArray, *, numbers: Sequence[int]
) -> list[LinearModel]:
    """A model for each number of pairs: of those that add most where all pairs are allowed."""
    alone = LinearModel(choices, encodings, targets)
    if not any(numbers):
        return [alone] * len(numbers)
    # what choices share is known from the model without pairs: found again each time, it would cost most of the time
    every = LinearModel(choices, encodings, targets, pairs=_pairs(choices), shared=alone.shared)
    strength = every.strength()
    ranked = sorted(strength, key=lambda pair: (-strength[pair], pair))
    return [
        LinearModel(choices, encodings, targets, pairs=sorted(ranked[:n]), shared=alone.shared) if n else alone
        for n in numbers
    ]


def _pairs(choices: Sequence[Choice]) -> list[Pair]:
    return list(itertools.combinations(States(choices).columns, 2))


# ---------------------------------------------------------------- ridge


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """Ridge regression with a kernel, at the penalty of least error of networks left out.

    Attributes:
        penalty: added to the kernel's diagonal.
        alpha: (N,) of each network.
        inverse: (N, N) of the kernel with the penalty.
        residuals: (N,) of networks left out.
        noise: variance of a network around what the model can tell.
        error: mean of the squared residuals.
    """

    penalty: float
    alpha: FloatArray
    inverse: FloatArray
    residuals: FloatArray
    noise: float
    error: float

    @classmethod
    def of(cls, kernel: FloatArray, targets: FloatArray) -> _Fit:
        """Of (N, N) and (N,) targets of mean 0."""
        values, vectors = np.linalg.eigh(kernel)
        values = np.maximum(values, 0.0)
        rotated, squares = vectors.T @ targets, vectors**2
        n = len(targets)
        best: tuple[float, float, FloatArray, FloatArray] | None = None
        for penalty in _PENALTIES.tolist():
            # the mean is fitted too: one degree of freedom more
            free = penalty * (squares @ (1 / (values + penalty))) - 1 / n
            residuals = penalty * (vectors @ (rotated / (values + penalty))) / np.maximum(free, 1e-6)
            error = float((residuals**2).mean())
            if best is None or error < best[0]:
                best = (error, penalty, residuals, free)
        assert best is not None
        error, penalty, residuals, free = best
        inverse = (vectors / (values + penalty)) @ vectors.T
        return cls(
            penalty=penalty,
            alpha=inverse @ targets,
            inverse=inverse,
            residuals=residuals,
            noise=float((residuals**2 * np.maximum(free, 1e-6)).mean()),
            error=error,
        )


def _sum(weights: Sequence[float], parts: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(sum(w * p for w, p in zip(weights, parts, strict=True) if w))
