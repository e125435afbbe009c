"""The exact solver on the published Once-for-All problem: what it finds under a fitted model, and how sure that is.

A linear model, and one with pairs of choices, is fitted to random networks of the space with their accuracy by the
published predictor. Within each limit on a phone's latency an integer program finds the network that the model predicts
to be best; a genetic search with 100,000 evaluations of the same model is its rival, and the same search on the
published predictor itself shows what there is to find. A limit that nothing keeps must be refused.

Then random sets of one to three tight limits on a preset with made-up costs: what `hwnas.cost.exact` (partial networks
that others dominate are dropped) and the integer program each take to say whether a network keeps them, and to find
the one with the most MACs within looser ones. Both must say the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script
from search_front import once_for_all_problem, shared_folder
from search_limits import Trial

if TYPE_CHECKING:
    import numpy as np

    from hwnas.cost import SlotCost
    from hwnas.limits import Limit
    from hwnas.predict import LinearModel
    from hwnas.spaces import CategoricalSpace
    from hwnas.types import FloatArray, IntArray

_WITHIN_MS = (20.0, 30.0, 50.0)
_POPULATION = 200
_SURROGATE = "benchmarks/ofa_mbv3_surrogate.npz"
_LOOSE = (1.5, 3.0, 6.0)  # times the least latency
_PATIENCE_S = 20.0
_HOLDOUT = 2_000

Values = Callable[["IntArray"], "FloatArray"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fitted", type=int, nargs="+", default=[200, 1000], help="to so many networks (200 1000)")
    parser.add_argument("--pairs", type=int, default=24, help="of choices, in the model that has some (24)")
    parser.add_argument("--evaluations", type=int, default=100_000, help="of the genetic search (100000)")
    parser.add_argument("--sets", type=int, default=40, help="of limits that both solvers decide (40)")
    parser.add_argument("--preset", default="mobilenet-tiny", help="of these sets (mobilenet-tiny)")
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    bench = Benchmark("search_exact", parser, argv)
    o = bench.options
    figures: list[Figure] = []
    details: list[dict[str, Any]] = []
    if bench.smoke:
        figures += compare("test-tiny", sets=4, seed=o.seed, loose=(1.5,))
        problem = _Problem(*_made_up())
        figures += problem.run(fitted=[40], pairs=2, evaluations=2_000, within=(3.5,), seed=o.seed, details=details)
    else:
        problem = _Problem(*_once_for_all())
        figures += problem.run(
            fitted=o.fitted, pairs=o.pairs, evaluations=o.evaluations, within=_WITHIN_MS, seed=o.seed, details=details
        )
        figures += compare(o.preset, sets=o.sets, seed=o.seed, loose=_LOOSE)
    return bench.publish(figures, details={"searches": details, "seed": o.seed, "preset": o.preset})


class _Problem:
    """A space with an accuracy that is evaluated and a latency that adds up over slots."""

    def __init__(self, space: CategoricalSpace, accuracy: Values, latency: SlotCost) -> None:
        self.space, self.accuracy, self.latency = space, accuracy, latency

    def run(
        self,
        *,
        fitted: Sequence[int],
        pairs: int,
        evaluations: int,
        within: Sequence[float],
        seed: int,
        details: list[dict[str, Any]],
    ) -> list[Figure]:
        """Fit, solve, search; one row of details for each model and limit."""
        import numpy as np

        from hwnas.predict import CrossValidation, fit_linear

        rng = np.random.default_rng(seed)
        others = np.unique(self.space.sample(_HOLDOUT, rng), axis=0)
        figures: list[Figure] = []
        for n in fitted:
            known = np.unique(self.space.sample(n, np.random.default_rng(seed + n)), axis=0)
            for name, numbers in ((f"fit_{n}", (0,)), (f"fit_{n}_pairs", (pairs,))):
                began = time.monotonic()
                model, quality = fit_linear(
                    self.space.choices, known, self.accuracy(known), numbers_of_pairs=numbers, seed=seed
                )
                seconds = time.monotonic() - began
                held_out = CrossValidation.of(model.predict(others)[0], self.accuracy(others))
                figures += [
                    Figure(name=f"{name}_s", value=seconds),
                    Figure(name=f"{name}_rank_correlation_cross_validated", value=quality.rank_correlation),
                    Figure(name=f"{name}_rank_correlation_held_out", value=held_out.rank_correlation),
                    Figure(name=f"{name}_rmse_points_held_out", value=held_out.rmse),
                ]
                for limit in within:
                    row = self._within(model, limit, evaluations=evaluations, seed=seed)
                    details.append({"model": name, "limit_ms": limit, **row})
                    figures += _figures(f"{name}_within_{limit:g}_ms", row)
        for limit in within:
            best = genetic(self.space, self.accuracy, self._time, limit=limit, evaluations=evaluations, seed=seed)
            value = float(self.accuracy(best[None])[0])
            figures.append(Figure(name=f"genetic_on_the_true_accuracy_within_{limit:g}_ms", value=value))
        return [*figures, self._refused(model)]

    def _time(self, encodings: IntArray) -> FloatArray:
        return self.latency.estimate(encodings).upper

    def _within(self, model: LinearModel, limit_ms: float, *, evaluations: int, seed: int) -> dict[str, Any]:
        """The solver's network and the genetic search's under one model."""
        from hwnas.cost import Objective, best_within
        from hwnas.limits import Limit

        objective = Objective.over_states(
            self.space.choices, [(t.scope, t.values) for t in model.terms], constant=model.constant
        )
        limit = Limit(metric="latency_ms", value=limit_ms)
        solved = best_within(objective, self.space, models={"latency_ms": self.latency}, limits=[limit], seconds=300)
        began = time.monotonic()
        found = genetic(
            self.space,
            model.mean,
            self._time,
            limit=limit_ms,
            evaluations=evaluations,
            seed=seed,
        )
        seconds = time.monotonic() - began
        both = self.space.canonical(_stack(solved.encoding, found))
        predicted, true, times = model.mean(both), self.accuracy(both), self._time(both)
        assert (times <= limit_ms).all(), "a network beyond its limit"
        return {
            "exact_predicted": float(predicted[0]),
            "exact_bound": solved.bound,
            "exact_gap": solved.gap,
            "exact_s": solved.seconds,
            "exact_true": float(true[0]),
            "genetic_predicted": float(predicted[1]),
            "genetic_true": float(true[1]),
            "genetic_s": seconds,
        }

    def _refused(self, model: LinearModel) -> Figure:
        """Seconds to prove that nothing is as fast as a thousandth below the fastest."""
        from hwnas.cost import Objective, best_within
        from hwnas.errors import InfeasibleError
        from hwnas.limits import Limit

        limit = Limit(metric="latency_ms", value=0.999 * self.latency.bounds()[0])
        objective = Objective.over_states(self.space.choices, [(t.scope, t.values) for t in model.terms])
        began = time.monotonic()
        try:
            best_within(objective, self.space, models={"latency_ms": self.latency}, limits=[limit])
        except InfeasibleError:
            return Figure(name="unreachable_limit_refused_s", value=time.monotonic() - began)
        return Figure(name="unreachable_limit_refused_s", value=None, at_most=0.0)


def _figures(name: str, row: dict[str, Any]) -> list[Figure]:
    ahead = row["exact_predicted"] - row["genetic_predicted"]
    return [
        # the solver's own tolerance is a millionth of the largest number it is given
        Figure(name=f"{name}_exact_ahead_of_genetic_predicted", value=ahead, at_least=-1e-5),
        *(Figure(name=f"{name}_{what}", value=value) for what, value in row.items()),
    ]


def genetic(
    space: CategoricalSpace, value: Values, cost: Values, *, limit: float, evaluations: int, seed: int
) -> IntArray:
    """(D,) the best network within a limit that a genetic search finds.

    Tournaments of two, uniform crossover, each choice changed with a probability of one in the number of choices, and
    the best of parents and children survive (Deb, 2000: what keeps the limit beats what does not, the less excess the
    better). The fastest of many random networks begin, so that some keep the limit.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = np.concatenate([space.sample(10 * _POPULATION, rng), space.smallest()[None]])
    parents = drawn[np.argsort(cost(drawn))[:_POPULATION]]

    def fitness(encodings: IntArray) -> FloatArray:
        beyond = np.maximum(cost(encodings) - limit, 0.0)
        return np.where(beyond > 0, -1e6 - beyond, value(encodings))

    scores = fitness(parents)
    for _ in range(evaluations // _POPULATION - 1):
        first, second = (_winners(scores, rng) for _ in range(2))
        children = space.crossover(parents[first], parents[second], rng)
        children = space.mutate(children, rng, probability=1 / len(space.choices))
        both, all_scores = np.concatenate([parents, children]), np.concatenate([scores, fitness(children)])
        _, distinct = np.unique(both, axis=0, return_index=True)
        kept = distinct[np.argsort(-all_scores[distinct])[:_POPULATION]]
        parents, scores = both[kept], all_scores[kept]
    return np.asarray(parents[int(np.argmax(scores))])


def _winners(scores: FloatArray, rng: np.random.Generator) -> IntArray:
    import numpy as np

    a, b = rng.integers(0, len(scores), (2, _POPULATION))
    return np.where(scores[a] >= scores[b], a, b)


def _stack(*encodings: IntArray) -> IntArray:
    import numpy as np

    return np.stack(encodings)


# ---------------------------------------------------------------- problems


def _once_for_all() -> tuple[CategoricalSpace, Values, SlotCost]:
    """The published problem, its latency table as factors."""
    import numpy as np

    problem = once_for_all_problem()
    data = np.load(shared_folder() / _SURROGATE)
    base, blocks = data["base_ms"].astype(float), data["block_ms"].astype(float)
    index = {c.name: i for i, c in enumerate(problem.space.choices)}
    tables = [((index["resolution"],), base)]
    for stage in range(5):
        for block in range(4):
            each = blocks[:, stage, int(block > 0)]  # (resolution, kernel, expand)
            there = (np.arange(3) + 2 > block).astype(float)  # (depth,)
            names = ("resolution", f"depth{stage}", f"kernel{stage}{block}", f"expand{stage}{block}")
            scope = tuple(index[name] for name in names)
            tables.append((scope, each[:, None] * there[None, :, None, None]))
    latency = _slot_cost(problem.space, tables)
    sampled = problem.space.sample(1000, np.random.default_rng(0))
    assert np.allclose(latency.estimate(sampled).value, problem.latency(sampled)), "the table is read wrongly"
    return problem.space, problem.accuracy, latency


def _made_up() -> tuple[CategoricalSpace, Values, SlotCost]:
    """Eight switches that cost 1 each and add more or less to what is no sum."""
    import numpy as np

    from hwnas.spaces import CategoricalSpace

    space = CategoricalSpace({f"s{i}": (0, 1, 2) for i in range(8)}, name="made-up")
    gains = np.random.default_rng(0).uniform(0.2, 1.0, 8)
    latency = _slot_cost(space, [((i,), np.array([0.1, 0.5, 1.0])) for i in range(8)])
    return space, lambda e: np.sqrt(e @ gains), latency


def _slot_cost(space: CategoricalSpace, tables: Sequence[tuple[tuple[int, ...], FloatArray]]) -> SlotCost:
    from hwnas.cost import SlotCost, SlotTable
    from hwnas.cost.elimination import Factor

    factors = tuple(Factor.over(scope, values) for scope, values in tables)
    sizes = tuple(len(c.options) for c in space.choices)
    table = SlotTable(sizes=sizes, factors=factors, canonical=space.canonical)
    return SlotCost(metric="latency_ms", table=table)


# ---------------------------------------------------------------- both solvers


def compare(preset: str, *, sets: int, seed: int, loose: Sequence[float]) -> list[Figure]:
    """Both solvers on the same sets of limits."""
    import numpy as np

    trial = Trial(preset)
    rng = np.random.default_rng(seed)
    took: dict[str, list[float]] = {"partial_networks": [], "integer_program": []}
    differ = 0
    for _ in range(sets):
        names = rng.choice(list(trial.models), size=int(rng.integers(1, 4)), replace=False)
        within = {str(m): trial.lowest[str(m)] * (1 + 10 ** rng.uniform(-3, -0.3)) for m in names}
        said = {}
        for solver, decide in (("partial_networks", _partial_networks), ("integer_program", _integer_program)):
            began = time.process_time()
            said[solver] = decide(trial, within, None) is not None
            took[solver].append(time.process_time() - began)
        differ += len(set(said.values())) > 1
    figures = [Figure(name="decided_differently", value=differ, at_most=0)]
    for solver, seconds in took.items():
        figures += [
            Figure(name=f"{solver}_decides_median_cpu_s", value=statistics.median(seconds)),
            Figure(name=f"{solver}_decides_longest_cpu_s", value=max(seconds)),
        ]
    for times in loose:
        within = {"latency_ms": trial.lowest["latency_ms"] * times}
        found: set[float] = set()
        for solver, decide in (("partial_networks", _partial_networks), ("integer_program", _integer_program)):
            began = time.process_time()
            best = decide(trial, within, "macs")
            seconds_taken = time.process_time() - began
            figures.append(Figure(name=f"most_macs_within_{times:g}_times_{solver}_cpu_s", value=seconds_taken))
            if best is None:  # it gave up
                figures.append(Figure(name=f"most_macs_within_{times:g}_times_{solver}_gave_up", value=1))
            else:
                found.add(best)
        figures.append(Figure(name=f"most_macs_within_{times:g}_times_answers", value=len(found), at_most=1))
    return figures


def _partial_networks(trial: Trial, within: dict[str, float], most: str | None) -> float | None:
    """What `hwnas.cost.exact` finds: 0, or the most of a metric; None if nothing, or not in time."""
    import numpy as np

    from hwnas.cost.elimination import Factor
    from hwnas.cost.exact import Cost, Exact, UndecidedError

    costs = {
        m: Cost(
            factors=(model := trial.models[m]).table.factors,
            combine=model.table.combine,
            offset=model.table.offset,
            ratio=model.upper_ratio,
        )
        for m in within
    }
    if most is not None:  # what is missing to the largest entries, which adds up and is never negative
        entries = trial.models[most].table.factors
        missing = tuple(Factor(scope=f.scope, values=f.values.max() - f.values) for f in entries)
        costs["missing"] = Cost(factors=missing, combine="sum", offset=0.0, ratio=1.0)
    exact = Exact(costs, trial.blocks.sizes, until=time.monotonic() + _PATIENCE_S)
    try:
        found = exact.feasible(within)
        if found is None or most is None:
            return None if found is None else 0.0
        least = trial.space.canonical(np.asarray(found)[None])
        total = sum(float(f.values.max()) for f in entries)
        known = total - float(trial.models[most].estimate(least).value[0])
        best = trial.space.canonical(exact.smallest("missing", within, known=known)[None])
        return float(trial.models[most].estimate(best).value[0])
    except UndecidedError:
        return None


def _integer_program(trial: Trial, within: dict[str, float], most: str | None) -> float | None:
    from hwnas.cost import Objective, best_within
    from hwnas.errors import InfeasibleError

    limits = _limits(within)
    objective = Objective(factors=trial.models[most].table.factors if most else ())
    try:
        found = best_within(objective, trial.space, models=trial.models, limits=limits)
    except InfeasibleError:
        return None
    return float(trial.models[most].estimate(found.encoding[None]).value[0]) if most else 0.0


def _limits(within: dict[str, float]) -> list[Limit]:
    from hwnas.limits import Limit

    return [Limit(metric=m, value=v) for m, v in within.items()]


if __name__ == "__main__":
    script(main)
