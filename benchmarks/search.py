"""Samplers against one another on NAS-Bench-201: CIFAR-100 accuracy within a latency limit, in few trials.

All 15,625 networks of the table are known, so the best that can be found is, too. Latency is known in closed form, as
in a real search; accuracy counts as a trial.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import ROOT, Benchmark, Figure, script

from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from hwnas.search import Study
    from hwnas.spaces import CategoricalSpace
    from hwnas.types import FloatArray, IntArray, Option

FILE = "benchmarks/nb201_cifar100_devices.csv.gz"
OPERATORS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = 6
TRIALS = (100, 200, 300)
COLUMNS = {"accuracy": "test_accuracy_cifar100", "latency_ms": "raspi4_latency_ms"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--table", type=Path, help=f"CSV of all networks; {FILE} of the folder $HWNAS_SHARED if left out"
    )
    parser.add_argument("--samplers", nargs="+", default=["nsga2", "random", "tpe"], help="(nsga2 random tpe)")
    parser.add_argument("--seeds", type=int, default=10, help="searches of each sampler (10)")
    parser.add_argument("--limit-ms", type=float, default=10.0, help="Raspberry Pi 4 latency (10)")
    bench = Benchmark("search", parser, argv)
    options = bench.options
    trials, seeds = ((5, 10), 1) if bench.smoke else (TRIALS, options.seeds)
    table = made_up_table() if bench.smoke else read_columns(options.table or shared_folder() / FILE, COLUMNS)
    truth = truth_of(table, options.limit_ms)
    found: dict[str, list[dict[str, Any]]] = {sampler: [] for sampler in options.samplers}
    with bench.console.progress("searches") as progress:
        for seed in range(seeds):  # the samplers take turns
            for i, sampler in enumerate(options.samplers):
                found[sampler].append(one_search(table, truth, sampler, trials=trials, seed=seed))
                progress(seed * len(found) + i + 1, seeds * len(found), f"{sampler}, seed {seed}")
    figures = [
        Figure(name="networks_within_limit", value=truth["networks"]),
        Figure(name="best_accuracy_percent", value=truth["accuracy"]),
    ]
    for sampler, searches in found.items():
        figures += _figures(sampler, searches, trials)
    return bench.publish(figures, details={"truth": truth, "limit_ms": options.limit_ms, "searches": found})


def shared_folder() -> Path:
    """Where the project's shared data are, if they are there."""
    shared = os.environ.get("HWNAS_SHARED")
    return Path(shared) if shared else ROOT.parent / "shared"


def read_columns(path: Path, columns: Mapping[str, str]) -> dict[str, FloatArray]:
    """Metric -> (15625,), indexed by the encoding read as a number of base 5, its first digit lowest.

    Args:
        path: of the CSV file.
        columns: metric -> its column there; an empty cell is NaN.

    Raises:
        ConfigError: there is no such file.
    """
    import numpy as np

    if not path.is_file():
        raise ConfigError(
            f"there is no table {path}; name one with --table, or set HWNAS_SHARED to the folder of {FILE}"
        )
    table = {metric: np.full(len(OPERATORS) ** EDGES, np.nan) for metric in columns}
    with gzip.open(path, "rt", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            edges = [edge.split("~")[0] for node in row["arch_str"].split("+") for edge in node.strip("|").split("|")]
            index = sum(OPERATORS.index(name) * len(OPERATORS) ** i for i, name in enumerate(edges))
            for metric, column in columns.items():
                table[metric][index] = float(row[column] or "nan")
    return table


def made_up_table() -> dict[str, FloatArray]:
    """A table of the same shape in which more latency brings more accuracy, with noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    latency_ms = rng.uniform(1.0, 50.0, size=len(OPERATORS) ** EDGES)
    return {"accuracy": 40 + 8 * np.log(latency_ms) + rng.normal(size=len(latency_ms)), "latency_ms": latency_ms}


def truth_of(table: Mapping[str, FloatArray], limit_ms: float) -> dict[str, Any]:
    """What a search that tries all networks within the limit would find."""
    within = table["latency_ms"] <= limit_ms
    accuracy, latency_ms = table["accuracy"][within], table["latency_ms"][within]
    return {
        "networks": int(within.sum()),
        "accuracy": float(accuracy.max()),
        "hypervolume": volume(accuracy, latency_ms, limit_ms=limit_ms),
        "limit_ms": limit_ms,
    }


def volume(accuracy: FloatArray, latency_ms: FloatArray, *, limit_ms: float) -> float:
    """Hypervolume up to accuracy 0 and the limit, in percent times milliseconds."""
    import numpy as np

    from hwnas.search import hypervolume

    return hypervolume(np.stack([-accuracy, latency_ms], axis=1), reference=(0.0, limit_ms))


def one_search(
    table: Mapping[str, FloatArray], truth: Mapping[str, Any], sampler: str, *, trials: Sequence[int], seed: int
) -> dict[str, Any]:
    """One search; at each number of trials what was reached so far, relative to the truth."""
    began = time.monotonic()
    study = run_search(table, sampler, limit_ms=truth["limit_ms"], n_trials=max(trials), seed=seed)
    at = {}
    for n in trials:
        within = study.feasible[:n]
        accuracy, latency_ms = study.values["accuracy"][:n][within], study.values["latency_ms"][:n][within]
        at[str(n)] = {
            "points_below_best": truth["accuracy"] - float(accuracy.max()),
            "hypervolume_share": volume(accuracy, latency_ms, limit_ms=truth["limit_ms"]) / truth["hypervolume"],
        }
    return {"seed": seed, "at": at, "seconds": round(time.monotonic() - began, 2)}


def run_search(table: Mapping[str, FloatArray], sampler: str, *, limit_ms: float, n_trials: int, seed: int) -> Study:
    """A search of the table's networks."""
    import numpy as np

    from hwnas.search import Problem, Sampling, search
    from hwnas.spaces import CategoricalSpace

    space: CategoricalSpace = CategoricalSpace({f"edge{i}": OPERATORS for i in range(EDGES)}, name="nas-bench-201")
    weights = len(OPERATORS) ** np.arange(EDGES)

    def latency_ms(encodings: IntArray) -> FloatArray:
        found: FloatArray = table["latency_ms"][np.asarray(encodings) @ weights]
        return found

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(table["accuracy"][space.encode(architecture) @ weights])}

    problem = Problem(
        space,
        {"accuracy": "maximize", "latency_ms": "minimize"},
        n_trials=n_trials,
        limits={"latency_ms": limit_ms},
        closed_form={"latency_ms": latency_ms},
    )
    return search(problem, evaluate, sampling=Sampling(sampler=sampler, seed=seed))


def _figures(sampler: str, searches: Sequence[Mapping[str, Any]], trials: Sequence[int]) -> list[Figure]:
    """Means over the seeds."""
    figures = []
    for n in trials:
        below = statistics.fmean(s["at"][str(n)]["points_below_best"] for s in searches)
        share = statistics.fmean(s["at"][str(n)]["hypervolume_share"] for s in searches)
        figures.append(Figure(name=f"{sampler}_points_below_best_at_{n}", value=below))
        figures.append(Figure(name=f"{sampler}_hypervolume_percent_at_{n}", value=100 * share))
    figures.append(
        Figure(name=f"{sampler}_s_for_{max(trials)}", value=statistics.fmean(s["seconds"] for s in searches))
    )
    return figures


if __name__ == "__main__":
    script(main)
