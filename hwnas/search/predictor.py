"""The sampler `predictor`: a Gaussian process predicts what is evaluated, closed forms tell the rest, and the network
that promises most is evaluated next.

It alternates: fit to all evaluated networks; of the whole space, listed where it is small and searched by evolution
where it is not, find the network within the limits that is expected to add most to the front; evaluate it. Networks
that other processes are evaluating count as if they were as predicted, so that no two ask for the same.

Knows problems and Optuna's trials; never what a metric means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hwnas.predict.gaussian_process import GaussianProcess, Hyperparameters
from hwnas.predict.inputs import Inputs, Representation
from hwnas.predict.targets import compressed
from hwnas.search.acquisition import expected_hypervolume_improvement, expected_improvement
from hwnas.search.archive import non_dominated
from hwnas.search.candidates import Candidates, key_of
from hwnas.search.ledger import CLAIM, Ledger, claim_of
from hwnas.search.problem import Problem
from hwnas.search.space_sampler import VALUES
from hwnas.types import BoolArray, Direction, FloatArray, IntArray

_REFIT = 1.1  # hyperparameters are fitted again when there are so many times as many networks
_GENERATIONS = 6  # of the inner search
_POOL = 4096  # architectures in each
_PARENTS = 64
_SAMPLE = 512  # networks by which what predictors take is standardised
_WORTH = 30  # percent of the first networks, which are spread, that are no part of a front worth having


def predictor(problem: Problem, /, *, seed: int, n_startup_trials: int = 12) -> BaseSampler:
    """Gaussian process and expected hypervolume improvement.

    Args:
        problem: what is searched.
        seed: of proposals.
        n_startup_trials: networks spread over the space before the first fit, initial ones included.
    """
    return Predictor(problem, seed=seed, n_startup_trials=n_startup_trials)


class Predictor(BaseSampler):
    """See the module and `predictor`."""

    def __init__(self, problem: Problem, *, seed: int, n_startup_trials: int) -> None:
        self._problem = problem
        self._seed = seed
        self._n_startup = n_startup_trials
        self._candidates = Candidates(problem)
        self._ledger = Ledger()
        self._encodings: list[IntArray] = []
        self._values: list[Mapping[str, float]] = []
        # what nobody knows before it is evaluated
        asked = dict.fromkeys([*problem.directions, *problem.limits])
        self._evaluated = [metric for metric in asked if metric not in problem.closed_form]
        self._fits: dict[str, tuple[int, Hyperparameters]] = {}
        self._listed: tuple[IntArray, Inputs] | None = None

    # ------------------------------------------------------------ Optuna

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {c.name: CategoricalDistribution(c.options) for c in self._problem.space.choices}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        rng = np.random.default_rng([self._seed, trial.number])
        encoding = self._propose(study, rng)
        return {c.name: c.options[int(i)] for c, i in zip(self._problem.space.choices, encoding, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise NotImplementedError(f"{param_name!r} is always sampled together with the other choices")

    # ------------------------------------------------------------ proposals

    def _propose(self, study: Study, rng: np.random.Generator) -> IntArray:
        self._look(study)
        running = [np.array(t.user_attrs[CLAIM], dtype=np.int64) for t in self._ledger.running if claim_of(t)]
        taken = set(self._ledger.claims) | {key_of(e) for e in running}
        if len(self._encodings) < max(self._n_startup, 3):
            return self._spread(taken, running, rng)
        scores = _Scores(self, running, rng)
        if self._candidates.listed is not None:
            pool, inputs = self._all()
            return self._best_new(pool, scores(pool, inputs), taken)
        return self._evolve(scores, taken, rng)

    def _spread(self, taken: set[bytes], running: Sequence[IntArray], rng: np.random.Generator) -> IntArray:
        """A network unlike those there are, and in the part of the known costs with the fewest of them."""
        pool = self._candidates.uniform_many(rng, _POOL // 4)
        known = [*self._encodings, *running]
        if not known:
            first: IntArray = pool[0]
            return first
        there, seen = self.representation(pool), self.representation(np.stack(known))
        distances = self.representation.distances
        apart = (there.hot @ distances.matrix(np.ones(len(distances))) @ seen.hot.T).min(axis=1)
        # halfway between choices and costs: networks that cost alike may differ in everything
        apart = apart / max(float(apart.max()), 1e-12)
        if there.features.shape[1]:
            # by place in the order of costs: by the costs themselves, the few extreme ones would come first
            ordered = np.sort(there.features, axis=0)
            places = [
                np.stack([np.searchsorted(ordered[:, f], of[:, f]) / len(pool) for f in range(of.shape[1])], axis=1)
                for of in (there.features, seen.features)
            ]
            gap = np.abs(places[0][:, None, :] - places[1][None, :, :]).max(axis=2).min(axis=1)
            apart = apart + gap / max(float(gap.max()), 1e-12)
        return self._best_new(pool, apart, taken)

    def _best_new(self, pool: IntArray, scores: FloatArray, taken: set[bytes]) -> IntArray:
        for i in np.argsort(-scores, kind="stable"):
            if key_of(pool[i]) not in taken:
                found: IntArray = pool[i]
                return found
        # the space sampler says that nothing is left
        best: IntArray = pool[int(np.argmax(scores))]
        return best

    def _evolve(self, scores: _Scores, taken: set[bytes], rng: np.random.Generator) -> IntArray:
        """The best of some generations that begin with the front, its neighbours and chance."""
        parents = np.stack([self._encodings[i] for i in self._front_rows()][-_PARENTS:])
        pool = np.concatenate(
            [self._candidates.uniform_many(rng, _POOL // 2), self._candidates.mutants(parents, rng, _POOL // 2)]
        )
        best: IntArray = parents[:0]
        found: FloatArray = np.zeros(0)
        for _ in range(_GENERATIONS):
            # distinct: copies of the best would crowd out every other parent
            pool = _distinct(np.concatenate([best, pool]))
            pool = pool[self._candidates.within(pool)]
            if not len(pool):
                # limits so tight that chance keeps none: the space sampler mends what it is given
                newest: IntArray = parents[-1]
                return newest
            found = scores(pool, self.representation(pool))
            order = np.argsort(-found, kind="stable")[:_PARENTS]
            best, found = pool[order], found[order]
            pool = self._candidates.mutants(best, rng, _POOL)
        return self._best_new(best, found, taken)

    # ------------------------------------------------------------ what is known

    def _look(self, study: Study) -> None:
        for trial in self._ledger.read(study.get_trials(deepcopy=False)):
            if trial.state is TrialState.COMPLETE:
                self._encodings.append(np.array(trial.user_attrs[CLAIM], dtype=np.int64))
                # where limits are tight, more of those that keep them are found from what kept them
                self._candidates.remember(self._encodings[-1])
                self._values.append(trial.user_attrs[VALUES])

    def _all(self) -> tuple[IntArray, Inputs]:
        if self._listed is None:
            assert self._candidates.listed is not None
            self._listed = (self._candidates.listed, self.representation(self._candidates.listed))
        return self._listed

    @cached_property
    def representation(self) -> Representation:
        """What predictors take of networks; what closed forms tell are their features."""
        sample = self._candidates.uniform_many(np.random.default_rng(self._seed), _SAMPLE)
        return Representation(self._problem.space.choices, sample, features=self._closed_forms)

    def _closed_forms(self, encodings: IntArray) -> FloatArray:
        found = self._problem.estimate(encodings)
        return np.stack([e.value for e in found.values()], axis=1) if found else np.zeros((len(encodings), 0))

    def fitted(self, metric: str, inputs: Inputs, targets: FloatArray) -> GaussianProcess:
        """The process of one metric, with hyperparameters of now or of not long ago."""
        # how bad a bad network is tells little of what a good one will be
        if metric in self._problem.directions:
            sign = 1.0 if self._problem.directions[metric] is Direction.MAXIMIZE else -1.0
            targets = sign * compressed(sign * targets, below=self.worth(sign * targets))
        n, start = self._fits.get(metric, (0, None))
        fit = len(targets) >= n * _REFIT
        process = GaussianProcess(self.representation.distances, inputs, targets, start=start, fit=fit, seed=self._seed)
        if fit:
            self._fits[metric] = (len(targets), process.hyperparameters)
        return process

    def worth(self, gains: FloatArray) -> float:
        """The least value that counts: what some of the networks that were spread over the space do not reach.

        Args:
            gains: (N,) of all networks in the order of their trials, more is better.
        """
        return float(np.percentile(gains[: self._n_startup], _WORTH))

    def _front_rows(self) -> IntArray:
        points = np.stack(
            [self.oriented(m, np.array([v[m] for v in self._values])) for m in self._problem.directions], axis=1
        )
        rows: IntArray = np.flatnonzero(non_dominated(points))
        return rows

    def oriented(self, metric: str, values: FloatArray) -> FloatArray:
        """Values to minimise."""
        return -values if self._problem.directions[metric] is Direction.MAXIMIZE else values


def _distinct(encodings: IntArray) -> IntArray:
    """(N, D) -> (M, D) each row once.

    By 64 random bits a row: sorting whole rows would take longer than all predictions, and that two of some thousand
    rows fall together is as likely as one in 10^12, and would cost one candidate.
    """
    with np.errstate(over="ignore"):
        weights = np.random.default_rng(0).integers(1, 2**63, size=encodings.shape[1], dtype=np.uint64) | np.uint64(1)
        _, first = np.unique((encodings.astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64), return_index=True)
    rows: IntArray = encodings[np.sort(first)]
    return rows


class _Scores:
    """What each network promises, given what is known at one moment."""

    def __init__(self, sampler: Predictor, running: Sequence[IntArray], rng: np.random.Generator) -> None:
        self._sampler = sampler
        self._problem = sampler._problem
        inputs = sampler.representation(np.stack(sampler._encodings))
        self._values = {
            m: np.array([v[m] for v in sampler._values]) for m in (*self._problem.directions, *sampler._evaluated)
        }
        self._processes = {m: sampler.fitted(m, inputs, self._values[m]) for m in sampler._evaluated}
        if running:
            self._believe(np.stack(running), inputs)
        weights = rng.exponential(size=len(self._problem.directions))
        self._weights = weights / weights.sum()

    def __call__(self, encodings: IntArray, inputs: Inputs) -> FloatArray:
        directions = self._problem.directions
        predicted = {m: p.predict(inputs) for m, p in self._processes.items()}
        unknown = [m for m in directions if m in predicted]
        known = [m for m in directions if m not in predicted]
        if len(unknown) == 1 and len(known) <= 1:
            scores = self._improvement(unknown[0], known, encodings, predicted[unknown[0]])
        else:
            scores = self._scalarised(encodings, predicted)
        return scores * self._likely(predicted)

    def _improvement(
        self, metric: str, known: list[str], encodings: IntArray, predicted: tuple[FloatArray, FloatArray]
    ) -> FloatArray:
        sign = 1.0 if self._problem.directions[metric] is Direction.MAXIMIZE else -1.0
        mean, std = sign * predicted[0], predicted[1]
        value, kept = sign * self._values[metric], self._kept()
        if not known:
            return expected_improvement(mean, std, float(value[kept].max()) if kept.any() else float(value.min()))
        cost = self._sampler.oriented(known[0], self._values[known[0]])
        points = np.stack([-value[kept], cost[kept]], axis=1)
        front = points[non_dominated(points)]
        front = np.unique(front, axis=0)[::-1]  # rising cost, rising value
        mine = self._sampler.oriented(known[0], self._problem.estimate(encodings)[known[0]].value)
        # as far as anything was evaluated: beyond that the most accurate network would earn for nothing
        reference = (self._sampler.worth(value), float(front[:, 1].max(initial=cost.max())))
        return expected_hypervolume_improvement(
            mean, std, mine, front_value=-front[:, 0], front_cost=front[:, 1], reference=reference
        )

    def _scalarised(self, encodings: IntArray, predicted: Mapping[str, tuple[FloatArray, FloatArray]]) -> FloatArray:
        """How good each network may be in all objectives at once, weighted anew each time (Knowles, 2006, section III).

        The augmented Tchebycheff norm of what is known and of the optimistic end of what is predicted.
        """
        found = []
        for metric in self._problem.directions:
            seen = self._sampler.oriented(metric, self._values[metric])
            low, high = float(seen.min()), float(seen.max())
            if metric in predicted:
                mean, std = predicted[metric]
                value: FloatArray = self._sampler.oriented(metric, mean) - std
            else:
                value = self._sampler.oriented(metric, self._problem.estimate(encodings)[metric].value)
            found.append((value - low) / ((high - low) or 1.0))
        columns = np.stack(found, axis=1) * self._weights
        worst: FloatArray = columns.max(axis=1) + 0.05 * columns.sum(axis=1)
        return np.exp(-worst)  # positive, so that the odds of keeping a limit can weigh it

    def _likely(self, predicted: Mapping[str, tuple[FloatArray, FloatArray]]) -> FloatArray | float:
        """(N,) the odds that limits on what is predicted are kept; 1 without any."""
        from scipy.special import ndtr

        odds: FloatArray | float = 1.0
        for metric in predicted:
            for limit in self._problem.limits_on(metric):
                mean, std = predicted[metric]
                room = (mean - limit.value) / std if limit.floor else (limit.value - mean) / std
                odds = odds * ndtr(room)
        return odds

    def _kept(self) -> BoolArray:
        """(N,) which evaluated networks keep the limits on what is evaluated; the others were never proposed."""
        kept = np.ones(len(next(iter(self._values.values()))), dtype=bool)
        for metric in self._processes:
            for limit in self._problem.limits_on(metric):
                kept &= limit.beyond(self._values[metric]) <= 0
        return kept

    def _believe(self, running: IntArray, inputs: Inputs) -> None:
        """Take the networks that others are evaluating for as good as predicted (Ginsbourger et al., 2010)."""
        more = self._sampler.representation(running)
        estimates = self._problem.estimate(running)
        for metric, values in self._values.items():
            process = self._processes.get(metric)
            found = process.predict(more)[0] if process is not None else estimates[metric].value
            self._values[metric] = np.concatenate([values, found])
            if process is not None:
                self._processes[metric] = GaussianProcess(
                    self._sampler.representation.distances,
                    inputs.joined(more),
                    self._values[metric],
                    start=process.hyperparameters,
                    fit=False,
                )
