"""Within a limit: how far the best network that a search found is from the best there is, in points of accuracy.

NAS-Bench-201 on each device it was measured on, where the best network within any limit is known: on a Raspberry Pi 4
within 10 ms, on the others within the median latency of all networks. Accuracy alone is asked for, latency is limited
and known in closed form to those who can use it. `predictor-front` is asked for the whole front within the limit.
Optuna's own samplers are told by how much each evaluated network exceeds it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from _common import Benchmark, Figure, script
from search_front import Table, made_up_problem, nas_bench_problems

if TYPE_CHECKING:
    from hwnas.types import IntArray, Option

AT = (25, 50, 75, 100)
OWN = ("predictor", "predictor-front", "nsga2", "regularised-evolution", "local-search", "tpe", "random")
PEERS = ("optuna-nsga2", "optuna-tpe", "optuna-gp")
SLOW = {"optuna-gp": 3}  # sampler -> seeds at most: it thinks for seconds about each proposal
LIMITS = {"nb201_raspi4": 10.0}  # the median latency elsewhere
ASKED = ("nb201_raspi4", "predictor", 75, 0.10)  # problem, sampler, evaluations, points below the best at most


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", default=[*OWN, *PEERS], help=f"({' '.join([*OWN, *PEERS])})")
    parser.add_argument("--seeds", type=int, default=10, help="searches of each (10)")
    bench = Benchmark("search_within", parser, argv)
    problems = [made_up_problem()] if bench.smoke else nas_bench_problems()
    samplers = ["predictor", "random"] if bench.smoke else bench.options.samplers
    seeds, at = (1, (10, 20)) if bench.smoke else (bench.options.seeds, AT)
    best, limits = {}, {}
    for p in problems:
        sizes = [len(c.options) for c in p.space.choices]
        everything = np.indices(sizes).reshape(len(sizes), -1).T
        latency = p.latency(everything)
        limits[p.name] = LIMITS.get(p.name, float(np.nanmedian(latency)))
        best[p.name] = float(p.accuracy(everything)[latency <= limits[p.name]].max())
    missing: dict[str, dict[str, list[list[float]]]] = {p.name: {s: [] for s in samplers} for p in problems}
    with bench.console.progress("searches") as progress:
        for seed in range(seeds):  # problems and samplers take turns
            for p in problems:
                for sampler in samplers:
                    if seed >= SLOW.get(sampler, seeds):
                        continue
                    encodings = searched(p, sampler, limit=limits[p.name], n=max(at), seed=seed)
                    kept = np.where(p.latency(encodings) <= limits[p.name], p.accuracy(encodings), -np.inf)
                    missing[p.name][sampler].append([best[p.name] - float(kept[:k].max()) for k in at])
                    done = sum(len(runs) for of in missing.values() for runs in of.values())
                    progress(done, len(problems) * len(samplers) * seeds, f"{p.name}, {sampler}, seed {seed}")
    figures = [figure for p in problems for figure in _figures(p.name, missing[p.name], at)]
    return bench.publish(figures, details={"limits_ms": limits, "best": best, "missing": missing})


def searched(problem: Table, sampler: str, *, limit: float, n: int, seed: int) -> IntArray:
    """(n, D) what a sampler asks for, in this order."""
    if sampler.startswith("optuna-"):
        return _optuna(problem, sampler.removeprefix("optuna-"), limit=limit, n=n, seed=seed)
    from hwnas.search import Problem, Sampling, search

    whole = sampler == "predictor-front"
    asked = Problem(
        problem.space,
        {"accuracy": "maximize", **({"latency_ms": "minimize"} if whole else {})},
        n_trials=n,
        closed_form={"latency_ms": problem.latency},
        limits={"latency_ms": limit},
    )

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(problem.accuracy(problem.space.encode(architecture)[None])[0])}

    name = "predictor" if whole else sampler
    return search(asked, evaluate, sampling=Sampling(sampler=name, seed=seed)).encodings.astype(int)


def _optuna(problem: Table, name: str, *, limit: float, n: int, seed: int) -> IntArray:
    """Optuna as its documentation shows it: every choice suggested, the excess over the limit as a constraint."""
    import warnings

    import numpy as np
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked: list[IntArray] = []

    def objective(trial: optuna.Trial) -> float:
        given = {c.name: trial.suggest_categorical(c.name, c.options) for c in problem.space.choices}
        encoding = problem.space.encode(given)
        asked.append(encoding)
        latency = float(problem.latency(encoding[None])[0])
        if np.isnan(latency):
            trial.set_user_attr("excess", limit)
            raise optuna.TrialPruned
        trial.set_user_attr("excess", latency - limit)
        return float(problem.accuracy(encoding[None])[0])

    def excess(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
        return (trial.user_attrs["excess"],)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samplers = {
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, constraints_func=excess),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, constraints_func=excess),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed, constraints_func=excess),
        }
        study = optuna.create_study(direction="maximize", sampler=samplers[name]())
        study.optimize(objective, n_trials=n)
    return np.stack(asked)


def _figures(name: str, missing: Mapping[str, Sequence[Sequence[float]]], at: Sequence[int]) -> list[Figure]:
    """Means and medians over the seeds."""
    found: list[Figure] = []
    for sampler, runs in missing.items():
        for k, values in zip(at, zip(*runs, strict=True), strict=True):
            most = ASKED[3] if (name, sampler, k) == ASKED[:3] else None
            mean = round(statistics.mean(values), 3)
            found.append(Figure(name=f"{name}_{sampler}_points_below_at_{k}", value=mean, at_most=most))
        found.append(
            Figure(name=f"{name}_{sampler}_worst_points_below_at_{at[-1]}", value=round(max(r[-1] for r in runs), 3))
        )
    return found


if __name__ == "__main__":
    script(main)
