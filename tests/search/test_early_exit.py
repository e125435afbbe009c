"""Which networks the early-exit population begins with."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from hwnas.search import Problem, Sampling, search
from hwnas.search.samplers.early_exit import early_exit
from hwnas.types import FloatArray, IntArray, Option
from tests.search.problems import WIDE, cost


def rising(architecture: dict[str, Option]) -> dict[str, float]:
    return {"accuracy": float(sum(float(architecture[f"c{i}"]) for i in range(20)))}


def asked(n_trials: int = 50, **closed_form: object) -> Problem:
    return Problem(
        WIDE,
        {"accuracy": "maximize"},
        n_trials=n_trials,
        closed_form=closed_form or {"cost": cost},  # type: ignore[arg-type]
    )


def share_cheaper(costs: FloatArray) -> FloatArray:
    """Of random networks of WIDE."""
    random = np.sort(cost(np.random.default_rng(3).integers(4, size=(4000, 20))))
    return np.searchsorted(random, costs) / len(random)


def test_the_first_networks_pass_thresholds_that_rise() -> None:
    sampler = partial(early_exit, population_size=50, n_thresholds=5, largest_share=0.5)
    study = search(asked(), rising, sampling=Sampling(sampler=sampler))
    cheaper = share_cheaper(study.values["cost"])
    for degree in range(5):
        # a few percent: what is cheap is told by a sample
        assert cheaper[10 * degree : 10 * degree + 10].max() <= 0.1 * (degree + 1) + 0.05
    assert cheaper[40:].max() > 0.25


def test_later_generations_are_free() -> None:
    sampler = partial(early_exit, population_size=10, largest_share=0.1)
    study = search(asked(150), rising, sampling=Sampling(sampler=sampler))
    cheaper = share_cheaper(study.values["cost"])
    assert cheaper[:10].max() < 0.15
    assert cheaper[100:].min() > 0.15


def test_every_known_cost_counts() -> None:
    def other(encodings: IntArray) -> FloatArray:
        return np.asarray(encodings, dtype=float)[:, 0]

    sampler = partial(early_exit, population_size=20, n_thresholds=1)
    study = search(asked(20, cost=cost, other=other), rising, sampling=Sampling(sampler=sampler))
    assert study.values["other"].mean() < 1.0  # 1.5 by chance
    assert share_cheaper(study.values["cost"]).mean() < 0.4


@pytest.mark.parametrize("seed", range(2))
def test_without_known_costs_it_is_nsga2(seed: int) -> None:
    problem = Problem(WIDE, {"accuracy": "maximize"}, n_trials=30)
    found = [search(problem, rising, sampling=Sampling(sampler=s, seed=seed)) for s in ("early-exit", "nsga2")]
    assert (found[0].encodings == found[1].encodings).all()
