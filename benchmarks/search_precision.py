"""What a search gains by measuring first how much accuracy each region loses in each precision.

A preset with made-up latencies (int8 multiplies faster, changes of precision cost time) and made-up accuracies: what
the options of a network add, and what each region loses in int8. Three cases: a few regions are sensitive, all are
alike, int8 loses nothing. Each is searched by the sampler `predictor` at equal numbers of trials, from three starts:
without sensitivities, the networks that do the most arithmetic within some latencies; with them, half as many and those
that tell the sensitivities, as with `search.sensitivities`; and these added to all of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script

if TYPE_CHECKING:
    from hwnas.cost import SlotCost
    from hwnas.limits import Limit
    from hwnas.search import Study
    from hwnas.spaces import Space
    from hwnas.types import FloatArray, IntArray, Option

_NS_PER_MAC = {"fp32": 0.12, "int8": 0.05}
_NS_PER_ELEMENT = 0.3  # of a change of precision
_LOST = {"skewed": (0.002, 1.2), "even": (0.001, 0.0), "none": (0.0, 0.0)}  # median and spread of ln, a region
_TESTED = 400  # networks that the predictor ranks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mobilenet-tiny", help="(mobilenet-tiny)")
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 75, 100], help="compared after (50 75 100)")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each kind (5)")
    parser.add_argument("--cases", nargs="+", choices=list(_LOST), default=list(_LOST), help="(all)")
    bench = Benchmark("search_precision", parser, argv)
    o = bench.options
    preset, trials, seeds = ("test-tiny", [24], 1) if bench.smoke else (o.preset, o.trials, o.seeds)
    figures: list[Figure] = []
    details: dict[str, Any] = {"preset": preset, "trials": trials}
    for case in o.cases[:1] if bench.smoke else o.cases:
        rows = [_Case(preset, case, seed=seed).compared(trials) for seed in range(seeds)]
        details[case] = rows
        figures += _figures(case, rows)
    return bench.publish(figures, details=details)


class _Case:
    """One made-up device and training: latencies that add up, accuracies with and without what int8 loses."""

    def __init__(self, preset: str, case: str, *, seed: int) -> None:
        import numpy as np

        from hwnas import registry
        from hwnas.cost import SlotBlocks, SlotCost, closed_form_costs

        self.seed = seed
        self.space: Space = registry.load("spaces", preset)(3, 10)
        blocks = SlotBlocks.of(self.space)
        latency = SlotCost(metric="latency_ms", table=blocks.table(_milliseconds), upper_ratio=1.02)
        self.models: dict[str, SlotCost] = {"latency_ms": latency, **closed_form_costs(blocks)}
        rng = np.random.default_rng([seed, sorted(_LOST).index(case)])
        precisions = [c for c, choice in enumerate(self.space.choices) if choice.name.endswith(".precision")]
        median, spread = _LOST[case]
        self.lost = {c: median * float(np.exp(rng.normal(0, spread))) for c in precisions}
        # what the other choices add beside the arithmetic, for each of their options
        self.added = {
            c: 0.003 * rng.normal(size=len(choice.options))
            for c, choice in enumerate(self.space.choices)
            if c not in self.lost
        }
        self.low, self.high = (float(np.log(v)) for v in self.models["macs"].bounds())

    def accuracy(self, encodings: IntArray) -> FloatArray:
        """(N, D) -> (N,)."""
        import numpy as np

        active = self.space.active(encodings)
        macs = np.log(self.models["macs"].estimate(encodings).value)
        # it saturates: the last half of the arithmetic adds little
        found = 0.95 - 0.2 * np.exp(-3.0 * (macs - self.low) / (self.high - self.low))
        for c, values in self.added.items():
            found = found + active[:, c] * values[encodings[:, c]]
        # quantized neighbours lose less than each alone, as errors of different signs
        losses = [active[:, c] * loss * np.isin(encodings[:, c], self._quantized(c)) for c, loss in self.lost.items()]
        return np.asarray(found - 0.7 * np.sum(losses, axis=0) - 0.3 * np.sqrt(np.sum(np.square(losses), axis=0)))

    def compared(self, trials: Sequence[int]) -> dict[str, Any]:
        """Hypervolumes after each number of trials and the predictor's ranks, with and without sensitivities."""
        import numpy as np

        from hwnas.pipeline.seeding import MOST, seed_architectures
        from hwnas.pipeline.sensitivities import plan_sensitivities

        latency = self.models["latency_ms"]
        fastest, slowest = latency.bounds()
        limits = [_limit("latency_ms", latency.upper_ratio * (fastest + 0.4 * (slowest - fastest)))]
        plan = plan_sensitivities(self.space, self.models, limits, n_trials=max(trials))
        assert plan.encodings, plan.why_not
        tells = [self.space.decode(e) for e in plan.encodings]
        seeds = {n: seed_architectures(self.space, self.models, limits, most=n) for n in (MOST, MOST // 2)}
        starts = {"without": seeds[MOST], "with": [*seeds[MOST // 2], *tells], "added": [*seeds[MOST], *tells]}
        studies = {name: self.searched(start, limits, max(trials)) for name, start in starts.items()}
        together = np.concatenate([_points(s) for s in studies.values()])
        # as far down as the worse half: what lies below encloses much and matters to nobody
        worst = np.array([np.median(together[:, 0]), together[:, 1].max()])
        whole = _hypervolume(together, worst)
        row: dict[str, Any] = {
            "networks": len(plan.encodings),
            "told": {s.choice: s.loss for s in plan.read(studies["with"])},
        }
        for name, study in studies.items():
            for n in trials:
                row[f"{name}_{n}"] = {
                    "hypervolume": _hypervolume(_points(study)[:n], worst) / whole,
                    **self.ranked(study, n, limits),
                }
        return row

    def searched(self, initial: Sequence[Mapping[str, Option]], limits: Sequence[Limit], n_trials: int) -> Study:
        """One search by `predictor`."""
        from hwnas.limits import as_mapping
        from hwnas.search import Problem, Sampling, search

        def evaluate(architecture: Mapping[str, Option]) -> dict[str, float]:
            return {"accuracy": float(self.accuracy(self.space.encode(architecture)[None])[0])}

        problem = Problem(
            self.space,
            {"accuracy": "maximize", "latency_ms": "minimize"},
            n_trials=n_trials,
            limits=as_mapping(list(limits)),
            closed_form=self.models,
        )
        return search(problem, evaluate, sampling=Sampling(seed=self.seed, initial=tuple(initial)))

    def ranked(self, study: Study, n: int, limits: Sequence[Limit]) -> dict[str, float]:
        """How the sampler's own predictor, fitted to the first trials, ranks networks near the front."""
        import numpy as np
        from scipy.stats import spearmanr

        from hwnas.cost import feasible_encodings
        from hwnas.predict import GaussianProcess, Representation

        rng = np.random.default_rng(self.seed)
        others = self.space.sample(20 * _TESTED, rng)
        # neighbours of good networks: what the search has to tell apart
        others = np.concatenate(
            [others, self.space.mutate(np.repeat(study.encodings.astype(np.int64), 10, axis=0), rng, probability=0.15)]
        )
        others = np.unique(others[feasible_encodings(others, self.models, limits)], axis=0)
        best = others[np.argsort(-self.accuracy(others))[: 2 * _TESTED]]
        tested = best[rng.permutation(len(best))[:_TESTED]]

        def features(encodings: IntArray) -> FloatArray:
            return np.stack([m.estimate(encodings).value for m in self.models.values()], axis=1)

        representation = Representation(self.space.choices, self.space.sample(512, rng), features=features)
        known = study.encodings[:n].astype(np.int64)
        process = GaussianProcess(
            representation.distances, representation(known), study.values["accuracy"][:n], seed=self.seed
        )
        predicted = process.predict(representation(tested))[0]
        error = predicted - self.accuracy(tested)
        return {
            "rank_correlation": float(spearmanr(predicted, self.accuracy(tested))[0]),
            "rmse": float(np.sqrt((error**2).mean())),
        }

    def _quantized(self, choice: int) -> list[int]:
        from hwnas.precisions import is_quantized

        return [i for i, o in enumerate(self.space.choices[choice].options) if is_quantized(str(o))]


def _limit(metric: str, value: float) -> Limit:
    from hwnas.limits import Limit

    return Limit(metric=metric, value=value)


def _milliseconds(block: Any) -> float:
    from hwnas.cost import macs
    from hwnas.precisions import is_conversion

    if is_conversion(block.kind):
        import math

        return 1e-6 * (300 + _NS_PER_ELEMENT * math.prod(block.in_shape))
    return 1e-6 * (1000 + _NS_PER_MAC[block.precision] * macs(block))


def _points(study: Study) -> FloatArray:
    """(N, 2), both minimised."""
    import numpy as np

    return np.stack([-study.values["accuracy"], study.values["latency_ms"]], axis=1)


def _hypervolume(points: FloatArray, worst: FloatArray) -> float:
    from hwnas.search import hypervolume

    return hypervolume(points, reference=worst.tolist())


def _figures(case: str, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Means over seeds; hypervolumes as shares of what all searches enclose together at the end."""
    import numpy as np

    figures = [Figure(name=f"{case}_networks_that_tell", value=float(np.mean([row["networks"] for row in rows])))]
    for key in rows[0]:
        if isinstance(rows[0][key], dict) and "hypervolume" in rows[0][key]:
            figures += [
                Figure(name=f"{case}_{key}_trials_{what}", value=float(np.mean([row[key][what] for row in rows])))
                for what in rows[0][key]
            ]
    return figures


if __name__ == "__main__":
    script(main)
