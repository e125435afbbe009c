"""What evaluating a network promises, given all that is known at one moment.

With one predicted objective and at most one known cost: what it is expected to add to the front. With any other
objectives: how good it may be by a weighting of them that is drawn anew each time. Times the odds that limits on what
is predicted are kept.

Knows problems and predictions; never trials, nor how candidates are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwnas.predict.gaussian_process import GaussianProcess
from hwnas.predict.inputs import Inputs
from hwnas.search.acquisition import expected_hypervolume_improvement, expected_improvement
from hwnas.search.archive import hypervolume, non_dominated
from hwnas.search.problem import Problem
from hwnas.types import BoolArray, Direction, Estimate, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """N networks that may be evaluated.

    Attributes:
        encodings: (N, D) canonical.
        estimates: metric -> what closed forms tell of them.
        inputs: the same networks as predictors take them.
    """

    encodings: IntArray
    estimates: Mapping[str, Estimate]
    inputs: Inputs

    def __len__(self) -> int:
        return len(self.encodings)

    def __getitem__(self, rows: IntArray) -> Pool:
        estimates = {m: Estimate(value=e.value[rows], upper=e.upper[rows]) for m, e in self.estimates.items()}
        return Pool(encodings=self.encodings[rows], estimates=estimates, inputs=self.inputs[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Knowledge:
    """The evaluated networks.

    Attributes:
        encodings: (N, D) canonical, in the order in which they were asked for.
        inputs: the same as predictors take them.
        values: metric -> (N,), objectives and evaluated metrics.
    """

    encodings: IntArray
    inputs: Inputs
    values: Mapping[str, FloatArray]

    def oriented(self, metric: str, problem: Problem) -> FloatArray:
        """(N,) an objective, to be minimised."""
        return oriented(self.values[metric], metric, problem)


def oriented(values: FloatArray, metric: str, problem: Problem) -> FloatArray:
    """Values of an objective, to be minimised."""
    return -values if problem.directions[metric] is Direction.MAXIMIZE else values


class Promise:
    """See the module.

    Args:
        problem: what is searched.
        knowledge: the networks that were evaluated.
        processes: evaluated metric -> what predicts it, fitted to these networks.
        weights: (M,) of the objectives, in the order of their directions; not used for one or two.
        least: objective -> the worst value that counts.
        curiosity: share of the predicted deviations that counts: 1 for what is expected, less for what is all but
            known.
    """

    def __init__(
        self,
        problem: Problem,
        knowledge: Knowledge,
        processes: Mapping[str, GaussianProcess],
        *,
        weights: FloatArray,
        least: Mapping[str, float],
        curiosity: float = 1.0,
    ) -> None:
        self._problem = problem
        self.knowledge = knowledge
        self._processes = dict(processes)
        self._weights = weights
        self._least = least
        self._curiosity = curiosity
        self._predicted = [m for m in problem.directions if m in processes]
        self._known = [m for m in problem.directions if m not in processes]

    def __call__(self, pool: Pool) -> FloatArray:
        """(N,) more is better."""
        found = {m: p.predict(pool.inputs) for m, p in self._processes.items()}
        predicted = {m: (mean, self._curiosity * std) for m, (mean, std) in found.items()}
        if len(self._predicted) == 1 and len(self._known) <= 1:
            scores = self._improvement(pool, *predicted[self._predicted[0]])
        else:
            scores = self._scalarised(pool, predicted)
        return scores * self._likely(found)

    def at(self, curiosity: float) -> Promise:
        """The same with another share of the predicted deviations."""
        return Promise(
            self._problem,
            self.knowledge,
            self._processes,
            weights=self._weights,
            least=self._least,
            curiosity=curiosity,
        )

    def believing(self, running: Pool) -> Promise:
        """The same if networks that are being evaluated were as good as predicted (Ginsbourger et al., 2010)."""
        more, known = running.inputs, self.knowledge
        values = {}
        for metric, seen in known.values.items():
            process = self._processes.get(metric)
            found = process.predict(more)[0] if process is not None else running.estimates[metric].value
            values[metric] = np.concatenate([seen, found])
        encodings = np.concatenate([known.encodings, running.encodings])
        return Promise(
            self._problem,
            Knowledge(encodings=encodings, inputs=known.inputs.joined(more), values=values),
            {m: p.with_more(more, values[m][len(known.inputs) :]) for m, p in self._processes.items()},
            weights=self._weights,
            least=self._least,
            curiosity=self._curiosity,
        )

    def enclosed(self, n: int) -> float | None:
        """What the first n evaluated networks enclose, in the unit of what networks promise; None if it has none.

        For one objective how far it rose above the least that counts, for two the area under their front.
        """
        if len(self._predicted) != 1 or len(self._known) > 1:
            return None
        value, kept = -self.knowledge.oriented(self._predicted[0], self._problem)[:n], self._kept()[:n]
        least, most = self._reference()
        if not kept.any():
            return 0.0
        if not self._known:
            return max(float(value[kept].max()) - least, 0.0)
        cost = self.knowledge.oriented(self._known[0], self._problem)[:n]
        return hypervolume(np.stack([-value[kept], cost[kept]], axis=1), reference=(-least, most))

    # ------------------------------------------------------------ one predicted objective

    def _improvement(self, pool: Pool, mean: FloatArray, std: FloatArray) -> FloatArray:
        metric = self._predicted[0]
        value, kept = -self.knowledge.oriented(metric, self._problem), self._kept()
        mean = -oriented(mean, metric, self._problem)
        if not self._known:
            return expected_improvement(mean, std, float(value[kept].max()) if kept.any() else float(value.min()))
        cost = self.knowledge.oriented(self._known[0], self._problem)
        points = np.stack([-value[kept], cost[kept]], axis=1)
        front = np.unique(points[non_dominated(points)], axis=0)[::-1]  # rising cost, rising value
        mine = oriented(pool.estimates[self._known[0]].value, self._known[0], self._problem)
        return expected_hypervolume_improvement(
            mean, std, mine, front_value=-front[:, 0], front_cost=front[:, 1], reference=self._reference()
        )

    def _reference(self) -> tuple[float, float]:
        """The least value and the largest cost that count."""
        least = -float(oriented(np.array(self._least[self._predicted[0]]), self._predicted[0], self._problem))
        if not self._known:
            return least, np.inf
        metric = self._known[0]
        cost = self.knowledge.oriented(metric, self._problem)
        # as far as anything was evaluated: beyond that the most accurate network would earn for nothing
        most = float(cost.max())
        limits = [x.value for x in self._problem.limits_on(metric) if not x.floor]
        if limits and self._problem.directions[metric] is Direction.MINIMIZE:
            # but who names a limit asks for the best network within it, which lies next to it: it earns as much as the
            # same at all costs together
            most = max(most, 2 * min(limits) - float(cost.min()))
        return least, most

    # ------------------------------------------------------------ any other objectives

    def _scalarised(self, pool: Pool, predicted: Mapping[str, tuple[FloatArray, FloatArray]]) -> FloatArray:
        """How good each network may be in all objectives at once, weighted anew each time (Knowles, 2006, section III).

        The augmented Tchebycheff norm of what is known and of the optimistic end of what is predicted.
        """
        found = []
        for metric in self._problem.directions:
            seen = self.knowledge.oriented(metric, self._problem)
            low, high = float(seen.min()), float(seen.max())
            if metric in predicted:
                mean, std = predicted[metric]
                value: FloatArray = oriented(mean, metric, self._problem) - std
            else:
                value = oriented(pool.estimates[metric].value, metric, self._problem)
            found.append((value - low) / ((high - low) or 1.0))
        columns = np.stack(found, axis=1) * self._weights
        worst: FloatArray = columns.max(axis=1) + 0.05 * columns.sum(axis=1)
        return np.exp(-worst)  # positive, so that the odds of keeping a limit can weigh it

    # ------------------------------------------------------------ limits on what is evaluated

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
        kept = np.ones(len(self.knowledge.encodings), dtype=bool)
        for metric in self._processes:
            for limit in self._problem.limits_on(metric):
                kept &= limit.beyond(self.knowledge.values[metric]) <= 0
        return kept
