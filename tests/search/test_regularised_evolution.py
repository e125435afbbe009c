"""Who may be a parent, and which of several wins."""

from __future__ import annotations

from functools import partial

import numpy as np

from hwnas.search import Problem, Sampling, search
from hwnas.search.samplers.regularised_evolution import regularised_evolution, weighed
from hwnas.types import Option
from tests.search.problems import WIDE, cost, problem


def rising(architecture: dict[str, Option]) -> dict[str, float]:
    return {"accuracy": float(sum(float(architecture[f"c{i}"]) for i in range(20)))}


def test_every_child_is_a_mutant_of_one_of_the_networks_evaluated_last() -> None:
    sampler = partial(regularised_evolution, population_size=6)
    study = search(problem(WIDE, limit=None, n_trials=40), rising, sampling=Sampling(sampler=sampler))
    for i in range(6, 40):
        changed = (study.encodings[i - 6 : i] != study.encodings[i]).sum(axis=1)
        assert changed.min() == 1


def test_with_one_objective_it_climbs_where_chance_stays() -> None:
    asked = Problem(WIDE, {"accuracy": "maximize"}, n_trials=80, closed_form={"cost": cost})
    best = {
        name: search(asked, rising, sampling=Sampling(sampler=name)).best("accuracy").values["accuracy"]
        for name in ("regularised-evolution", "random")
    }
    assert best["regularised-evolution"] > best["random"] + 3


def test_weights_find_each_end_of_a_front_and_never_a_beaten_network() -> None:
    points = np.array([[0.0, 1.0], [0.2, 0.2], [1.0, 0.0], [0.9, 0.9]])
    rng = np.random.default_rng(0)
    won = [int(np.argmin(weighed(points, among=points, rng=rng))) for _ in range(200)]
    assert set(won) == {0, 1, 2}


def test_an_objective_that_is_the_same_for_all_counts_nothing() -> None:
    points = np.array([[2.0, 5.0], [1.0, 5.0]])
    assert np.argmin(weighed(points, among=points, rng=np.random.default_rng(0))) == 1
