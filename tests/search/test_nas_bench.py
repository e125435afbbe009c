"""Searches on real results: NAS-Bench-201 on CIFAR-100, with latency measured on a Raspberry Pi 4."""

import csv
import gzip
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from hwnas.search import Problem, Sampling, Study, hypervolume, search
from hwnas.spaces import CategoricalSpace
from hwnas.types import FloatArray, IntArray, Option

_FILE = "benchmarks/nb201_cifar100_devices.csv.gz"
_OPERATORS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_WEIGHTS = 5 ** np.arange(6)
_LIMIT_MS = 10.0
SPACE = CategoricalSpace({f"edge{i}": _OPERATORS for i in range(6)}, name="nas-bench-201")


def _path() -> Path:
    shared = os.environ.get("HWNAS_SHARED")
    return (Path(shared) if shared else Path(__file__).parents[3] / "shared") / _FILE


@pytest.fixture(scope="module")
def table() -> dict[str, FloatArray]:
    """Metric -> (15625,), indexed by the encoding read as a number of base 5."""
    if not _path().is_file():
        pytest.skip(f"{_path()} is not there; set HWNAS_SHARED to the folder that holds {_FILE}")
    columns = {m: np.full(5**6, np.nan) for m in ("test_accuracy_cifar100", "raspi4_latency_ms")}
    with gzip.open(_path(), "rt") as f:
        for row in csv.DictReader(f):
            edges = [e.split("~")[0] for node in row["arch_str"].split("+") for e in node.strip("|").split("|")]
            index = sum(_OPERATORS.index(o) * int(w) for o, w in zip(edges, _WEIGHTS, strict=True))
            for metric, column in columns.items():
                column[index] = float(row[metric])
    return columns


def find(table: dict[str, FloatArray], sampler: str, seed: int) -> Study:
    def latency_ms(encodings: IntArray) -> FloatArray:
        return table["raspi4_latency_ms"][np.asarray(encodings) @ _WEIGHTS]

    def accuracy(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(table["test_accuracy_cifar100"][SPACE.encode(architecture) @ _WEIGHTS])}

    return search(
        Problem(
            SPACE,
            {"accuracy": "maximize", "latency_ms": "minimize"},
            n_trials=300,
            limits={"latency_ms": _LIMIT_MS},
            closed_form={"latency_ms": latency_ms},
        ),
        accuracy,
        sampling=Sampling(sampler=sampler, seed=seed),
    )


def test_nsga2_comes_near_the_best_network_and_beats_random(table: dict[str, FloatArray]) -> None:
    within = table["raspi4_latency_ms"] <= _LIMIT_MS
    best = table["test_accuracy_cifar100"][within].max()
    lost: dict[str, list[float]] = {"nsga2": [], "random": []}
    volume: dict[str, list[float]] = {"nsga2": [], "random": []}
    for sampler, seed in itertools.product(lost, range(3)):
        study = find(table, sampler, seed)
        lost[sampler].append(best - study.best("accuracy").values["accuracy"])
        points = np.stack([-study.values["accuracy"], study.values["latency_ms"]], axis=1)
        volume[sampler].append(hypervolume(points, reference=(0.0, _LIMIT_MS)))
    assert max(lost["nsga2"]) <= 1.0  # points of accuracy, of 4,000 networks within the limit
    assert np.mean(lost["nsga2"]) < np.mean(lost["random"])
    assert np.mean(volume["nsga2"]) > np.mean(volume["random"])
