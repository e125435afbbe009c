"""The sampler `predictor`: a Gaussian process predicts what is evaluated, closed forms tell the rest, and the network
that promises most is evaluated next.

It alternates: fit to all evaluated networks; of the whole space, listed where it is small and searched by evolution
where it is not, find the network within the limits that is expected to add most to the front; evaluate it. Networks
that other processes are evaluating count as if they were as predicted, so that no two ask for the same. When neither
the last evaluations nor any that are left are worth having, the search ends and says so.

Knows problems and Optuna's trials; never what a metric means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hwnas.predict.blas import one_thread
from hwnas.predict.gaussian_process import GaussianProcess, Hyperparameters
from hwnas.predict.inputs import Representation
from hwnas.predict.targets import compressed, least_that_counts
from hwnas.search.archive import non_dominated
from hwnas.search.candidates import FinishedError, key_of
from hwnas.search.encoding_sampler import EncodingSampler
from hwnas.search.ledger import CLAIM, Ledger, claim_of
from hwnas.search.problem import Problem
from hwnas.search.promise import Knowledge, Pool, Promise
from hwnas.search.space_sampler import VALUES
from hwnas.types import Direction, Estimate, FloatArray, IntArray

_REFIT = 1.1  # hyperparameters are fitted again when there are so many times as many networks
_GENERATIONS = 6  # of the inner search
_POOL = 2048  # architectures in each
_PARENTS = 64
_LEARNED = 400  # networks that the process learns from: the time of every proposal grows with their square
_SAMPLE = 512  # networks by which what predictors take is standardised
_SPREAD = "hwnas:predictor:spread"  # a trial whose network was spread over the space, not given to the search
_PATIENCE = 1 / 3  # share of the evaluations, the last ones, in which the front must have grown
_LEAST_PATIENCE = 60  # evaluations
_GROWN = 1e-3  # of what the front encloses: no less, or the search may end
_CURIOSITY = 0.6  # share of the predicted deviations that counts
_DOUBT = 2.0  # the same for some proposals, later on: a process that is wrong and sure never looks again
_DOUBT_FROM = 90  # evaluations
_DOUBT_EVERY = 5  # evaluations
_EXPECTED = 1e-4  # likewise, of the next network


def predictor(problem: Problem, /, *, seed: int, n_startup_trials: int = 12, stop_early: bool = True) -> BaseSampler:
    """Gaussian process and expected hypervolume improvement.

    Args:
        problem: what is searched.
        seed: of proposals.
        n_startup_trials: networks spread over the space before the first fit, initial ones included.
        stop_early: end the search when the front has stopped to grow.
    """
    return Predictor(problem, seed=seed, n_startup_trials=n_startup_trials, stop_early=stop_early)


class Predictor(EncodingSampler):
    """See the module and `predictor`."""

    def __init__(self, problem: Problem, *, seed: int, n_startup_trials: int, stop_early: bool) -> None:
        super().__init__(problem, seed=seed)
        self._n_startup = max(n_startup_trials, 3)
        self._stop_early = stop_early
        self._ledger = Ledger()
        self._rows: dict[int, tuple[IntArray, Mapping[str, float]]] = {}  # by trial number
        self._spread_trials: set[int] = set()
        # what nobody knows before it is evaluated
        asked = dict.fromkeys([*problem.directions, *problem.limits])
        self._evaluated = [metric for metric in asked if metric not in problem.closed_form]
        self._fits: dict[str, tuple[int, Hyperparameters]] = {}

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        """The network that promises most.

        Raises:
            FinishedError: none promises enough.
        """
        with one_thread():
            return self._proposed(study, trial, rng)

    # ------------------------------------------------------------ proposals

    def _proposed(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        running, taken = self._look(study)
        if len(self._rows) < self._n_startup:
            # by Optuna's storage, as its own samplers do: a trial has no way to say it itself
            study._storage.set_trial_system_attr(trial._trial_id, _SPREAD, True)
            return self._spread(taken, running, rng)
        # at full deviations the search goes on too long to what is merely unlike all that is known
        n = len(self._rows)
        doubts = n >= _DOUBT_FROM and n % _DOUBT_EVERY == 0
        promise = self._promise(running, rng, curiosity=_DOUBT if doubts else _CURIOSITY)
        pool, found = self._searched(promise, rng)
        if not len(pool):
            # limits so tight that chance keeps none: the space sampler mends what it is given
            parent: IntArray = self._parents(promise)[-1]
            return parent
        if self._stop_early:
            self._check_worthwhile(promise, pool, taken)
        chosen: IntArray = pool.encodings[self._best_new(pool.encodings, found, taken)]
        return chosen

    def _spread(self, taken: AbstractSet[bytes], running: Sequence[IntArray], rng: np.random.Generator) -> IntArray:
        """A network unlike those there are, and in the part of the known costs with the fewest of them."""
        pool = self.candidates.uniform_many(rng, _POOL // 2)
        known = [*(encoding for encoding, _ in self._rows.values()), *running]
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
        chosen: IntArray = pool[self._best_new(pool, apart, taken)]
        return chosen

    def _best_new(self, pool: IntArray, scores: FloatArray, taken: AbstractSet[bytes]) -> int:
        """The row of most that is not taken; of most, if all are: the space sampler says that nothing is left."""
        order = np.argsort(-scores, kind="stable")
        return int(next((i for i in order if key_of(pool[i]) not in taken), order[0]))

    def _searched(self, promise: Promise, rng: np.random.Generator) -> tuple[Pool, FloatArray]:
        """Networks that promise much, and what they promise: all of a space that is small, else the best of some
        generations that begin with the front, its neighbours and chance; none if limits let none of these through.
        """
        if self.candidates.listed is not None:
            return self._listed, promise(self._listed)
        parents = self._parents(promise)
        made = np.concatenate(
            [self.candidates.uniform_many(rng, _POOL // 2), self.candidates.mutants(parents, rng, _POOL // 2)]
        )
        best = self._pool(made[:0])
        found: FloatArray = np.zeros(0)
        for _ in range(_GENERATIONS):
            # distinct: copies of the best would crowd out every other parent
            pool = self._pool(_distinct(np.concatenate([best.encodings, made])))
            if not len(pool):
                return pool, np.zeros(0)
            found = promise(pool)
            order = np.argsort(-found, kind="stable")[:_PARENTS]
            best, found = pool[order], found[order]
            made = self.candidates.mutants(best.encodings, rng, _POOL)
        return best, found

    def _parents(self, promise: Promise) -> IntArray:
        """(K, D) some of the front."""
        parents: IntArray = promise.knowledge.encodings[self._front(promise.knowledge)][-_PARENTS:]
        return parents

    def _pool(self, encodings: IntArray) -> Pool:
        """Those of some networks that keep the limits, with all that is known of them."""
        estimates = self.problem.estimate(encodings)
        kept = self.candidates.within(encodings, estimates)
        if not kept.all():
            encodings = encodings[kept]
            estimates = {m: Estimate(value=e.value[kept], upper=e.upper[kept]) for m, e in estimates.items()}
        inputs = self.representation(encodings, _columns(estimates, len(encodings)))
        return Pool(encodings=encodings, estimates=estimates, inputs=inputs)

    def _check_worthwhile(self, promise: Promise, pool: Pool, taken: AbstractSet[bytes]) -> None:
        """End the search if the front has not grown for long and nothing is expected to make it grow."""
        n = len(self._rows)
        patience = max(_LEAST_PATIENCE, int(n * _PATIENCE))
        if n < self._n_startup + patience:
            return
        enclosed, before = promise.enclosed(n), promise.enclosed(n - patience)
        if enclosed is None or before is None or enclosed - before >= _GROWN * enclosed:
            return
        # to end, nothing must be expected at the whole deviations either
        found = promise.at(1.0)(pool)
        expected = float(found[self._best_new(pool.encodings, found, taken)])
        if expected < _EXPECTED * enclosed:
            raise FinishedError(
                f"in the last {patience} evaluations the front grew by {(enclosed - before) / enclosed:.2%} of what it "
                f"encloses, and of no network that is left more than {expected / enclosed:.3%} is expected"
            )

    # ------------------------------------------------------------ what is known

    def _look(self, study: Study) -> tuple[list[IntArray], AbstractSet[bytes]]:
        """Encodings that are being evaluated; keys of those that are taken."""
        for trial in self._ledger.read(study.get_trials(deepcopy=False)):
            if trial.state is TrialState.COMPLETE:
                encoding = np.array(trial.user_attrs[CLAIM], dtype=np.int64)
                self._rows[trial.number] = encoding, trial.user_attrs[VALUES]
                if trial.system_attrs.get(_SPREAD):
                    self._spread_trials.add(trial.number)
                # where limits are tight, more of those that keep them are found from what kept them
                self.candidates.remember(encoding)
        # trials of several processes finish out of order, and nothing may depend on it
        if [*self._rows] != sorted(self._rows):
            self._rows = dict(sorted(self._rows.items()))
        running: list[IntArray] = [
            np.array(t.user_attrs[CLAIM], dtype=np.int64) for t in self._ledger.running if claim_of(t)
        ]
        return running, set(self._ledger.claims) | {key_of(e) for e in running}

    def _promise(self, running: Sequence[IntArray], rng: np.random.Generator, *, curiosity: float) -> Promise:
        """What networks promise, by all that is known now."""
        encodings = np.stack([encoding for encoding, _ in self._rows.values()])
        metrics = dict.fromkeys([*self.problem.directions, *self._evaluated])
        values = {m: np.array([v[m] for _, v in self._rows.values()]) for m in metrics}
        knowledge = Knowledge(encodings=encodings, inputs=self.representation(encodings), values=values)
        rows = self._instructive(knowledge, rng)
        promise = Promise(
            self.problem,
            knowledge,
            {m: self._fitted(m, knowledge, rows) for m in self._evaluated},
            weights=rng.dirichlet(np.ones(len(self.problem.directions))),
            least={m: self._worth(m, values[m]) for m in self.problem.directions},
            curiosity=curiosity,
        )
        return promise.believing(self._pool(np.stack(running))) if running else promise

    def _instructive(self, knowledge: Knowledge, rng: np.random.Generator) -> IntArray:
        """Rows to learn from: all, or those that the fewest others beat and as many of the rest at random."""
        n = len(knowledge.encodings)
        if n <= _LEARNED:
            return np.arange(n)
        points = np.stack([knowledge.oriented(m, self.problem) for m in self.problem.directions], axis=1)
        no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
        order = np.argsort(no_worse.sum(axis=0), kind="stable")
        rest = rng.permutation(order[_LEARNED // 2 :])[: _LEARNED - _LEARNED // 2]
        return np.sort(np.concatenate([order[: _LEARNED // 2], rest]))

    def _fitted(self, metric: str, knowledge: Knowledge, rows: IntArray) -> GaussianProcess:
        """The process of one metric, with hyperparameters of now or of not long ago."""
        targets = knowledge.values[metric]
        # how bad a bad network is tells little of what a good one will be
        if metric in self.problem.directions:
            sign = 1.0 if self.problem.directions[metric] is Direction.MAXIMIZE else -1.0
            targets = sign * compressed(sign * targets, below=sign * self._worth(metric, targets))
        n, start = self._fits.get(metric, (0, None))
        fit = len(targets) >= n * _REFIT
        process = GaussianProcess(
            self.representation.distances,
            knowledge.inputs[rows],
            targets[rows],
            start=start,
            fit=fit,
            seed=self._seed,
        )
        if fit:
            self._fits[metric] = (len(targets), process.hyperparameters)
        return process

    def _worth(self, metric: str, values: FloatArray) -> float:
        """The value below which no network counts, by the first ones."""
        sign = 1.0 if self.problem.directions[metric] is Direction.MAXIMIZE else -1.0
        first = sign * values[: self._n_startup]
        spread = np.array([number in self._spread_trials for number in self._rows])[: self._n_startup]
        return sign * least_that_counts(first[spread], first[~spread])

    def _front(self, knowledge: Knowledge) -> IntArray:
        points = np.stack([knowledge.oriented(m, self.problem) for m in self.problem.directions], axis=1)
        return np.flatnonzero(non_dominated(points))

    @cached_property
    def _listed(self) -> Pool:
        """The whole space."""
        assert self.candidates.listed is not None
        return self._pool(self.candidates.listed)

    @cached_property
    def representation(self) -> Representation:
        """What predictors take of networks; what closed forms tell are their features."""
        sample = self.candidates.uniform_many(np.random.default_rng(self._seed), _SAMPLE)
        return Representation(self.problem.space.choices, sample, features=self._closed_forms)

    def _closed_forms(self, encodings: IntArray) -> FloatArray:
        return _columns(self.problem.estimate(encodings), len(encodings))


def _columns(estimates: Mapping[str, Estimate], n: int) -> FloatArray:
    """(n, F) what closed forms tell of n networks."""
    return np.stack([e.value for e in estimates.values()], axis=1) if estimates else np.zeros((n, 0))


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
