"""Samplers against one another and against their peers: how much of the front is found in how few evaluations.

Two problems that cost nothing to evaluate: NAS-Bench-201, whose front is known for each measured device, and the
published Once-for-All space with its accuracy predictor and a phone's latency table, whose front nobody knows. Accuracy
is evaluated and latency known in closed form, to those who can use it; a peer is given both after each evaluation.

The hypervolume's reference is the 95th percentile of latency and the 25th of accuracy, over all networks or, where
they cannot be listed, over random ones; it is divided by that of the true front, or of the best that a search found.
Peers: Optuna's own NSGA-II, TPE and GP; pymoo's NSGA-II (Blank & Deb, 2020), if it is installed; LINAS (Cummings et
al., 2022), in which an inner NSGA-II searches on a ridge predictor of the encodings and what it finds is evaluated.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script
from search import EDGES, FILE, OPERATORS, made_up_table, read_columns, shared_folder

from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from hwnas.spaces import CategoricalSpace
    from hwnas.types import FloatArray, IntArray, Option

AT = (50, 100, 150, 200, 400)
# without `gp`, which is the peer `optuna-gp` within limits
OWN = ("predictor", "nsga2", "regularised-evolution", "early-exit", "map-elites", "local-search", "tpe", "random")
PEERS = ("optuna-nsga2", "optuna-tpe", "optuna-gp", "pymoo-nsga2", "linas")
SLOW = {"optuna-gp": (100, 3)}  # sampler -> trials and seeds at most: it thinks for seconds about each proposal
SURROGATE = "benchmarks/ofa_mbv3_surrogate.npz"
_SAMPLED = 20_000  # random networks, where a space cannot be listed


@dataclass(frozen=True, kw_only=True)
class Table:
    """A problem whose every value is known, or computed at once.

    Attributes:
        name: of the problem, in figures.
        space: its networks.
        accuracy: encodings (N, D) -> (N,), larger is better.
        latency: encodings (N, D) -> (N,).
        reference: the least accuracy and the largest latency that count.
        whole: hypervolume of the true front; None: nobody knows it.
    """

    name: str
    space: CategoricalSpace
    accuracy: Callable[[IntArray], FloatArray]
    latency: Callable[[IntArray], FloatArray]
    reference: tuple[float, float]
    whole: float | None

    def volume(self, encodings: IntArray) -> float:
        """Of the front of some networks."""
        return volume(self.accuracy(encodings), self.latency(encodings), self.reference)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", default=[*OWN, *PEERS], help=f"({' '.join([*OWN, *PEERS])})")
    parser.add_argument("--seeds", type=int, default=10, help="searches of each (10)")
    parser.add_argument("--trials", type=int, default=max(AT), help=f"of each search ({max(AT)})")
    parser.add_argument("--problems", nargs="+", help="names of problems; all if left out")
    parser.add_argument(
        "--kept", type=Path, help="file of searches that were made and need not be made again; new ones are added"
    )
    bench = Benchmark("search_front", parser, argv)
    options = bench.options
    problems = [made_up_problem()] if bench.smoke else [*nas_bench_problems(), once_for_all_problem()]
    if options.problems:
        unknown = sorted(set(options.problems) - {p.name for p in problems})
        if unknown:
            raise ConfigError(f"no problem {', '.join(unknown)}; there are {', '.join(p.name for p in problems)}")
        problems = [p for p in problems if p.name in options.problems]
    if not bench.smoke and options.trials < min(AT):
        raise ConfigError(f"--trials is {options.trials}; the first look is after {min(AT)}")
    samplers = ["predictor", "random"] if bench.smoke else [s for s in options.samplers if is_installed(s)]
    if absent := [s for s in options.samplers if not is_installed(s)]:
        bench.console.warn(f"left out, since pymoo is not installed: {', '.join(absent)}")
    n, seeds = (20, 1) if bench.smoke else (options.trials, options.seeds)
    at = [k for k in ((10, 20) if bench.smoke else AT) if k <= n]
    kept = _Kept(options.kept)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {p.name: {s: [] for s in samplers} for p in problems}
    total = len(problems) * sum(min(seeds, SLOW.get(s, (n, seeds))[1]) for s in samplers)
    with bench.console.progress("searches") as progress:
        for seed in range(seeds):  # problems and samplers take turns
            for problem in problems:
                for sampler in samplers:
                    most, its_seeds = SLOW.get(sampler, (n, seeds))
                    if seed >= its_seeds:
                        continue
                    found[problem.name][sampler].append(
                        kept.search(problem, sampler, n=min(n, most), seed=seed, at=[k for k in at if k <= most])
                    )
                    done = sum(len(runs) for of in found.values() for runs in of.values())
                    progress(done, total, f"{problem.name}, {sampler}, seed {seed}")
    figures = [figure for p in problems for figure in _figures(p, found[p.name], at)]
    return bench.publish(figures, details={"searches": found, "reference": {p.name: p.reference for p in problems}})


def one_search(problem: Table, sampler: str, *, n: int, seed: int, at: Sequence[int]) -> dict[str, Any]:
    """The hypervolume after some numbers of evaluations, and how long the search took by itself."""
    began = time.monotonic()
    encodings = searched(problem, sampler, n=n, seed=seed)
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - began, 2),
        "hypervolume": {str(k): problem.volume(encodings[:k]) for k in at},
    }


def _figures(problem: Table, found: Mapping[str, Sequence[Mapping[str, Any]]], at: Sequence[int]) -> list[Figure]:
    """Medians and worst over the seeds."""
    # where nobody knows the true front, the best that was seen is 100 %
    whole = problem.whole or max(max(run["hypervolume"].values()) for runs in found.values() for run in runs)
    shares = {
        s: {k: [r["hypervolume"][str(k)] / whole for r in runs] for k in at if str(k) in runs[0]["hypervolume"]}
        for s, runs in found.items()
    }
    figures: list[Figure] = []
    for sampler, by in shares.items():
        name = f"{problem.name}_{sampler}"
        for k, values in by.items():
            figures.append(Figure(name=f"{name}_percent_at_{k}", value=100 * statistics.median(values)))
        last = max(by)
        figures.append(Figure(name=f"{name}_worst_percent_at_{last}", value=100 * min(by[last])))
        seconds = [run["seconds"] for run in found[sampler]]
        figures.append(Figure(name=f"{name}_s_for_{last}", value=statistics.median(seconds)))
    return [*figures, *_comparisons(problem, shares)]


def _comparisons(problem: Table, shares: Mapping[str, Mapping[int, Sequence[float]]]) -> list[Figure]:
    """How our default stands against the peers and what it is asked for; nothing where either is missing."""
    median = {s: {k: 100 * statistics.median(values) for k, values in by.items()} for s, by in shares.items()}
    peers = [by for s, by in median.items() if s in PEERS]
    ours = median.get("predictor", {})
    figures: list[Figure] = []
    for k in ours if peers else ():
        lead = ours[k] - max(by[k] for by in peers if k in by)
        figures.append(Figure(name=f"{problem.name}_lead_over_peers_at_{k}", value=round(lead, 2), at_least=0.0))
    if problem.whole and 150 in ours:
        figures.append(Figure(name=f"{problem.name}_predictor_at_150", value=round(ours[150], 2), at_least=97.5))
    if 100 in ours and 400 in median.get("pymoo-nsga2", {}):
        gap = ours[100] - median["pymoo-nsga2"][400]
        figures.append(Figure(name=f"{problem.name}_lead_at_100_over_pymoo_at_400", value=round(gap, 2), at_least=0.0))
    return figures


class _Kept:
    """Searches in a file, a line each, which several processes may fill."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self._found = {(d["problem"], d["sampler"], d["seed"], d["n"]): d["search"] for d in map(json.loads, lines)}

    def search(self, problem: Table, sampler: str, *, n: int, seed: int, at: Sequence[int]) -> dict[str, Any]:
        """One that was made, or a new one."""
        key = (problem.name, sampler, seed, n)
        if key not in self._found:
            self._found[key] = one_search(problem, sampler, n=n, seed=seed, at=at)
            if self._path is not None:
                named = dict(zip(("problem", "sampler", "seed", "n"), key, strict=True))
                with open(self._path, "a", encoding="utf-8") as f:
                    f.write(json.dumps({**named, "search": self._found[key]}) + "\n")
        found: dict[str, Any] = self._found[key]
        return found


# ---------------------------------------------------------------- problems


def nas_bench_problems() -> list[Table]:
    """NAS-Bench-201 on each device it was measured on.

    Raises:
        ConfigError: the table is not there.
    """
    import numpy as np

    file = shared_folder() / FILE
    devices = {"raspi4": "raspi4_latency_ms", "edgetpu": "edgetpu_latency_ms", "fpga": "fpga_latency_ms"}
    columns = read_columns(file, {"accuracy": "test_accuracy_cifar100", **devices})
    # a cell that a device's compiler refuses is no network of that device
    return [_listed(f"nb201_{d}", columns["accuracy"], np.asarray(columns[d])) for d in devices]


def made_up_problem() -> Table:
    """As many networks with values that are made up, for what needs no real ones."""
    columns = made_up_table()
    return _listed("made_up", columns["accuracy"], columns["latency_ms"])


def _listed(name: str, accuracy: FloatArray, latency: FloatArray) -> Table:
    """A problem of all cells, by tables indexed as `search.read_columns` says."""
    import numpy as np

    from hwnas.spaces import CategoricalSpace

    weights = len(OPERATORS) ** np.arange(EDGES)
    runs = ~np.isnan(latency)
    reference = (float(np.percentile(accuracy[runs], 25)), float(np.percentile(latency[runs], 95)))

    def look(table: FloatArray) -> Callable[[IntArray], FloatArray]:
        return lambda encodings: table[np.asarray(encodings) @ weights]

    return Table(
        name=name,
        space=CategoricalSpace({f"edge{i}": OPERATORS for i in range(EDGES)}, name="nas-bench-201"),
        accuracy=look(accuracy),
        latency=look(latency),
        reference=reference,
        whole=volume(accuracy[runs], latency[runs], reference),
    )


def volume(accuracy: FloatArray, latency: FloatArray, reference: tuple[float, float]) -> float:
    """Hypervolume of networks above the reference's accuracy and below its latency."""
    import numpy as np

    from hwnas.search import hypervolume

    runs = ~np.isnan(latency)
    return hypervolume(np.stack([-accuracy[runs], latency[runs]], axis=1), reference=(-reference[0], reference[1]))


def once_for_all_problem() -> Table:
    """The published Once-for-All MobileNetV3 space (Cai et al., 2020) with its predictor and a phone's latency table.

    Raises:
        ConfigError: the file is not there.
    """
    import numpy as np

    from hwnas.spaces import CategoricalSpace

    path = shared_folder() / SURROGATE
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; set HWNAS_SHARED to the folder of {SURROGATE}")
    with np.load(path) as file:  # a file that is open reads an array anew whenever it is asked for
        data = dict(file)
    base_ms, block_ms = data["base_ms"].astype(float), data["block_ms"].astype(float)
    choices: dict[str, tuple[Option, ...]] = {"resolution": (160, 176, 192, 208, 224)}
    conditions = {}
    for stage in range(5):
        choices[f"depth{stage}"] = (2, 3, 4)
        for block in range(4):
            for what, options in (("kernel", (3, 5, 7)), ("expand", (3, 4, 6))):
                choices[f"{what}{stage}{block}"] = options
                if block >= 2:
                    conditions[f"{what}{stage}{block}"] = (f"depth{stage}", tuple(d for d in (2, 3, 4) if d > block))
    space = CategoricalSpace(choices, name="once-for-all-mobilenet-v3", conditions=conditions)
    names = [c.name for c in space.choices]
    layers = [(data[f"w{i}"].astype(np.float32), data[f"b{i}"].astype(np.float32)) for i in range(4)]

    def blocks(encodings: IntArray) -> list[tuple[int, int, IntArray, IntArray, FloatArray]]:
        """Stage, block, kernel and expand indices (N,), and whether it is there (N,), of all twenty."""
        column = {name: np.asarray(encodings)[:, i] for i, name in enumerate(names)}
        return [
            (s, b, column[f"kernel{s}{b}"], column[f"expand{s}{b}"], (b < column[f"depth{s}"] + 2).astype(np.float32))
            for s in range(5)
            for b in range(4)
        ]

    def accuracy(encodings: IntArray) -> FloatArray:
        rows = np.arange(len(encodings))
        x = np.zeros((len(encodings), 128), dtype=np.float32)
        for s, b, kernel, expand, there in blocks(encodings):
            i = 4 * s + b
            x[rows, 3 * i + kernel] = there
            x[rows, 60 + 3 * i + expand] = there
        x[rows, 120 + (160 + 16 * np.asarray(encodings)[:, 0] - 112) // 16] = 1
        for n, (w, bias) in enumerate(layers):
            x = x @ w.T + bias
            x = np.maximum(x, 0) if n < len(layers) - 1 else x
        return 100 * x[:, 0].astype(float)

    def latency(encodings: IntArray) -> FloatArray:
        r = np.asarray(encodings)[:, 0]
        total: FloatArray = base_ms[r]
        for s, b, kernel, expand, there in blocks(encodings):
            total = total + there * block_ms[r, s, int(b > 0), kernel, expand]
        return total

    sampled = space.sample(_SAMPLED, np.random.default_rng(0), over="encodings")
    reference = (float(np.percentile(accuracy(sampled), 25)), float(np.percentile(latency(sampled), 95)))
    return Table(name="once_for_all", space=space, accuracy=accuracy, latency=latency, reference=reference, whole=None)


# ---------------------------------------------------------------- samplers


def is_installed(sampler: str) -> bool:
    """Whether a peer's package is there: pymoo, in which LINAS searches too, may not be."""
    return sampler not in ("pymoo-nsga2", "linas") or importlib.util.find_spec("pymoo") is not None


def searched(problem: Table, sampler: str, *, n: int, seed: int) -> IntArray:
    """(n, D) what a sampler asks for, in this order."""
    if sampler == "pymoo-nsga2":
        return _pymoo(problem, n=n, seed=seed)
    if sampler == "linas":
        return _linas(problem, n=n, seed=seed)
    if sampler.startswith("optuna-"):
        return _optuna(problem, sampler.removeprefix("optuna-"), n=n, seed=seed)
    from hwnas.search import Problem, Sampling, search

    asked = Problem(
        problem.space,
        {"accuracy": "maximize", "latency_ms": "minimize"},
        n_trials=n,
        closed_form={"latency_ms": problem.latency},
    )

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(problem.accuracy(problem.space.encode(architecture)[None])[0])}

    return search(asked, evaluate, sampling=Sampling(sampler=sampler, seed=seed)).encodings.astype(int)


def _optuna(problem: Table, name: str, *, n: int, seed: int) -> IntArray:
    """Optuna as its documentation shows it: every choice suggested, both values told."""
    import warnings

    import numpy as np
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = problem.space
    asked: list[IntArray] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        given = {c.name: trial.suggest_categorical(c.name, c.options) for c in space.choices}
        encoding = space.encode(given)
        asked.append(encoding)
        latency = float(problem.latency(encoding[None])[0])
        if np.isnan(latency):
            raise optuna.TrialPruned
        return float(problem.accuracy(encoding[None])[0]), latency

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samplers = {
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        }
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=samplers[name]())
        study.optimize(objective, n_trials=n)
    return np.stack(asked)


def _pymoo(problem: Table, *, n: int, seed: int) -> IntArray:
    """NSGA-II of pymoo on integers, as its documentation sets it up; 50 networks a generation."""
    return _nsga2(problem.space, lambda e: _both(problem, e), n=n, seed=seed)[:n]


def _both(problem: Table, encodings: IntArray) -> FloatArray:
    """(N, 2) to minimise; a network that cannot run is worse than all."""
    import numpy as np

    latency = problem.latency(encodings)
    points = np.stack([-problem.accuracy(encodings), latency], axis=1)
    points[np.isnan(latency)] = (0.0, 1e9)
    return points


def _nsga2(
    space: CategoricalSpace,
    values: Callable[[IntArray], FloatArray],
    *,
    n: int,
    seed: int,
    start: IntArray | None = None,
) -> IntArray:
    """All that pymoo's NSGA-II evaluated, in its order, canonical."""
    import numpy as np
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    asked: list[IntArray] = []
    sizes = np.array([len(c.options) for c in space.choices])

    class Networks(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(sizes), n_obj=2, xl=0, xu=sizes - 1, vtype=int)

        def _evaluate(self, x: Any, out: dict[str, Any], *args: object, **kwargs: object) -> None:
            encodings = space.canonical(np.asarray(x, dtype=np.int64))
            asked.append(encodings)
            out["F"] = values(encodings)

    algorithm = NSGA2(
        pop_size=50,
        sampling=IntegerRandomSampling() if start is None else start,
        crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Networks(), algorithm, ("n_eval", n), seed=seed + 1, verbose=False)
    return np.concatenate(asked)


def _linas(problem: Table, *, n: int, seed: int, population: int = 50, inner: int = 5000) -> IntArray:
    """LINAS (Cummings et al., 2022, section 3): predictors of both values guide an inner NSGA-II."""
    import numpy as np
    from sklearn.linear_model import Ridge

    space, rng = problem.space, np.random.default_rng(seed)
    sizes = [len(c.options) for c in space.choices]
    asked = space.sample(population, rng, over="encodings")

    def hot(encodings: IntArray) -> FloatArray:
        return np.concatenate([np.eye(s)[encodings[:, i]] for i, s in enumerate(sizes)], axis=1)

    while len(asked) < n:
        values = _both(problem, asked)
        models = [Ridge(alpha=1.0).fit(hot(asked), values[:, j]) for j in range(2)]

        def predicted(encodings: IntArray, models: list[Any] = models) -> FloatArray:
            return np.stack([m.predict(hot(encodings)) for m in models], axis=1)

        seen = {e.tobytes() for e in asked}
        found = np.unique(_nsga2(space, predicted, n=inner, seed=seed + len(asked)), axis=0)
        found = found[[e.tobytes() not in seen for e in found]]
        points = predicted(found)
        asked = np.concatenate([asked, found[_spread(points, population)]])
    return asked[:n]


def _spread(points: FloatArray, n: int) -> IntArray:
    """(at most n,) rows that are best for one of n weightings of two values, each by its own range, both minimised."""
    import numpy as np

    scaled = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-12)
    chosen: list[int] = []
    left = np.ones(len(points), dtype=bool)
    for weight in np.linspace(0.02, 0.98, min(n, len(points))):
        worst = np.maximum(weight * scaled[:, 0], (1 - weight) * scaled[:, 1]) + 0.01 * scaled.sum(axis=1)
        row = int(np.argmin(np.where(left, worst, np.inf)))
        chosen.append(row)
        left[row] = False
    return np.array(chosen)


if __name__ == "__main__":
    script(main)
