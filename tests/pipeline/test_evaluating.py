"""Accuracies that travel from one device's space to another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hwnas.appending import append_sealed, read_sealed
from hwnas.config import Config
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.evaluating import Evaluations, NamedBlocks, Reusing
from hwnas.pipeline.workers import STANDARD_ERROR
from hwnas.search import InProcess
from hwnas.types import IntArray, Option
from hwnas.workspace import Workspace

NO_LIMITS: dict[str, float] = {}


def refused(blocks: NamedBlocks) -> float:
    raise AssertionError("nothing should be measured")


class Asked:
    """Evaluations of a run whose networks are measured by a function of their blocks."""

    def __init__(self, work: Workspace, measure: Callable[[NamedBlocks], float] = refused) -> None:
        self.known = Evaluations.of(work)

        def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
            accuracy = measure(work.space.named_blocks(work.space.encode(architecture)))
            return {"accuracy": accuracy, STANDARD_ERROR: 0.01}

        self._executor = Reusing(self.known, InProcess(evaluate))

    def accuracy(self, architecture: dict[str, Option]) -> float:
        self._executor.submit(0, architecture)
        (outcome,) = self._executor.collect()
        return outcome.values["accuracy"]


@pytest.fixture
def fresh(config: Config) -> Config:
    """The configuration of a run that knows no accuracy yet."""
    for path in (Path(config.output.folder) / "search").iterdir():
        path.unlink()
    return config


@pytest.fixture
def int8(fresh: Config) -> Config:
    """The same run on a device that leaves no choice of the precision."""
    return fresh.replaced({"space.precisions": ["int8"]})


def sampled(work: Workspace, n: int, seed: int = 0) -> IntArray:
    return np.unique(work.space.sample(n, np.random.default_rng(seed)), axis=0)


def test_a_network_is_measured_once(fresh: Config) -> None:
    work = Workspace(fresh)
    measured: list[NamedBlocks] = []

    def measure(blocks: NamedBlocks) -> float:
        measured.append(blocks)
        return 0.5

    architecture = work.space.decode(work.space.largest())
    evaluations = Asked(work, measure)
    assert [evaluations.accuracy(architecture) for _ in range(2)] == [0.5, 0.5]
    assert measured == [work.space.named_blocks(work.space.largest())]
    assert (evaluations.known.measured, evaluations.known.reused) == (1, 1)
    assert Asked(work).accuracy(architecture) == 0.5
    assert evaluations.known.standard_error(architecture, 0.5) == 0.01


@pytest.mark.parametrize("restriction", [{}, {"space.precisions": ["int8"]}, {"space.kernel_sizes": [3]}])
def test_accuracies_under_keys_of_an_earlier_version_are_found(
    fresh: Config, restriction: dict[str, list[str]]
) -> None:
    work = Workspace(fresh.replaced(restriction))
    evaluations = Asked(work, lambda blocks: len(blocks) / 100)
    architectures = [work.space.decode(e) for e in sampled(work, 5)]
    accuracies = [evaluations.accuracy(a) for a in architectures]
    path = evaluations.known.known.path
    head, *rest = read_sealed(path)
    path.unlink()
    append_sealed(path, [{**v, "key": f"old {i}"} for i, v in enumerate(rest)], first={**head, "schema": 2})
    assert [Asked(work).accuracy(a) for a in architectures] == accuracies
    assert read_sealed(path) == [head, *rest]


def test_accuracies_of_an_earlier_version_are_found_by_another_device(int8: Config, fresh: Config) -> None:
    narrow, wide = Workspace(int8), Workspace(fresh)
    evaluations = Asked(narrow, lambda blocks: len(blocks) / 100)
    for encoding in sampled(narrow, 3):
        evaluations.accuracy(narrow.space.decode(encoding))
    path = evaluations.known.known.path
    head, *rest = read_sealed(path)
    path.unlink()
    append_sealed(path, [{**v, "key": f"old {i}"} for i, v in enumerate(rest)], first={**head, "schema": 2})
    assert Asked(wide).known.front(load_costs(wide), NO_LIMITS, most=10)
    assert read_sealed(path) == [head, *rest]


def test_networks_of_a_device_with_one_precision_are_known_where_there_are_two(int8: Config, fresh: Config) -> None:
    narrow, wide = Workspace(int8), Workspace(fresh)
    evaluations = Asked(narrow, lambda blocks: len(blocks) / 100)
    for encoding in sampled(narrow, 5):
        evaluations.accuracy(narrow.space.decode(encoding))
    known = Asked(wide)
    front = known.known.front(load_costs(wide), NO_LIMITS, most=10)
    assert front
    for architecture in front:
        assert {v for name, v in architecture.items() if name.endswith("precision")} == {"int8"}
        known.accuracy(architecture)
    assert known.known.reused == len(front)


def test_of_a_device_with_two_precisions_those_that_fit_are_known_where_there_is_one(
    int8: Config, fresh: Config
) -> None:
    narrow, wide = Workspace(int8), Workspace(fresh)
    evaluations = Asked(wide, lambda blocks: 0.5)
    for encoding in sampled(wide, 8):  # of mixed precisions, most likely
        evaluations.accuracy(wide.space.decode(encoding))
    all_int8 = {c.name: "int8" for c in wide.space.choices if c.name.endswith("precision")}
    fitting = {**narrow.space.decode(narrow.space.smallest()), **all_int8}
    evaluations.accuracy(fitting)
    known = Asked(narrow)
    assert known.known.front(load_costs(narrow), NO_LIMITS, most=10) == [narrow.space.decode(narrow.space.smallest())]


def test_the_front_holds_networks_that_no_other_beats_on_this_device(fresh: Config) -> None:
    work = Workspace(fresh)
    costs = load_costs(work)
    encodings = sampled(work, 40)
    rng = np.random.default_rng(1)
    accuracies = {work.space.named_blocks(e): float(a) for e, a in zip(encodings, rng.random(40), strict=False)}
    evaluations = Asked(work, accuracies.__getitem__)
    for encoding in encodings:
        evaluations.accuracy(work.space.decode(encoding))
    front = [work.space.encode(a) for a in evaluations.known.front(costs, NO_LIMITS, most=40)]
    latency = costs.models["latency_ms"].estimate(np.stack(front)).value
    accuracy = np.array([accuracies[work.space.named_blocks(e)] for e in front])
    assert (np.diff(latency) > 0).all()
    assert (np.diff(accuracy) > 0).all()
    assert accuracy[-1] == max(accuracies.values())


def test_the_front_keeps_the_limits_and_is_no_longer_than_asked(fresh: Config) -> None:
    work = Workspace(fresh)
    costs = load_costs(work)
    encodings = sampled(work, 40)
    latency = costs.models["latency_ms"].estimate(encodings).value
    by_blocks = {
        work.space.named_blocks(e): float(ms / latency.max()) for e, ms in zip(encodings, latency, strict=True)
    }
    evaluations = Asked(work, by_blocks.__getitem__)  # the slower the better: all are in the front
    for encoding in encodings:
        evaluations.accuracy(work.space.decode(encoding))
    limit = float(np.median(costs.models["latency_ms"].estimate(encodings).upper))
    front = evaluations.known.front(costs, {"latency_ms": limit}, most=5)
    assert len(front) == 5
    upper = costs.models["latency_ms"].estimate(np.stack([work.space.encode(a) for a in front])).upper
    assert (upper <= limit).all()
    assert evaluations.known.front(costs, {"latency_ms": 1e-9}, most=5) == []
    assert evaluations.known.front(costs, NO_LIMITS, most=0) == []
