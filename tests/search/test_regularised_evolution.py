"""Who may be a parent, and which of several wins."""

from __future__ import annotations

from functools import partial

import numpy as np

from hwnas.search import Problem, Sampling, search
from hwnas.search.samplers.regularised_evolution import n_dominating, regularised_evolution
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
    asked = Problem(WIDE, {"accuracy": "maximize"}, n_trials=150, closed_form={"cost": cost})
    best = {
        name: search(asked, rising, sampling=Sampling(sampler=name)).best("accuracy").values["accuracy"]
        for name in ("regularised-evolution", "random")
    }
    assert best["regularised-evolution"] > best["random"] + 3


def test_networks_of_the_front_are_dominated_by_none_and_others_by_those_that_are_nowhere_worse() -> None:
    points = np.array([[0.0, 1.0], [0.2, 0.2], [1.0, 0.0], [0.9, 0.9], [0.2, 0.3], [0.2, 0.2]])
    assert n_dominating(points, among=points).tolist() == [0, 0, 0, 3, 2, 0]


def test_all_of_a_front_are_parents() -> None:
    """Four networks that no other beats, as a population: each has children."""
    asked = problem(WIDE, limit=None, n_trials=40)
    start = [{f"c{i}": 1 if i < n else 0 for i in range(20)} for n in (2, 6, 12, 18)]
    sampler = partial(regularised_evolution, population_size=4, tournament_size=2)

    def worse_than_all_before(architecture: dict[str, Option]) -> dict[str, float]:
        return rising(architecture) if architecture in start else {"accuracy": -1.0}

    bred = set()
    for seed in range(12):
        sampling = Sampling(sampler=sampler, seed=seed, initial=tuple(start))
        study = search(asked, worse_than_all_before, sampling=sampling)
        bred.add(int((study.encodings[:4] != study.encodings[4]).sum(axis=1).argmin()))
    assert bred == {0, 1, 2, 3}
