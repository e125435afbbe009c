"""Cells of what networks cost, and the best network of each."""

from __future__ import annotations

from functools import partial

import numpy as np

from hwnas.search import Problem, Sampling, search
from hwnas.search.samplers.map_elites import _MapElites, map_elites
from hwnas.types import FloatArray, IntArray, Option
from tests.search.problems import WIDE, cost


def weight(encodings: IntArray) -> FloatArray:
    """Of the first half of the choices."""
    return np.asarray(encodings, dtype=float)[:, :10].sum(axis=1) + 1.0


def asked(n_trials: int = 80) -> Problem:
    directions = {"accuracy": "maximize", "cost": "minimize"}
    return Problem(WIDE, directions, n_trials=n_trials, closed_form={"weight": weight, "cost": cost})


def worth(architecture: dict[str, Option]) -> dict[str, float]:
    return {"accuracy": float(sum(float(architecture[f"c{i}"]) for i in range(0, 20, 3)))}


def archive(problem: Problem) -> _MapElites:
    return _MapElites(problem, seed=0, n_cells=16, n_startup_trials=8)


def test_each_row_of_cells_holds_about_as_many_networks_of_the_space_along_each_cost() -> None:
    cells = archive(asked()).cells(np.random.default_rng(1).integers(4, size=(4000, 20)))
    # the cost comes first: it is an objective
    for of in (cells // 4, cells % 4):
        shares = np.bincount(of, minlength=4) / 4000
        assert shares.min() > 0.15
        assert shares.max() < 0.35


def test_more_cells_are_filled_than_chance_fills() -> None:
    sampler = partial(map_elites, n_cells=64)
    filled = {}
    for name, chosen in (("map-elites", sampler), ("random", "random")):
        study = search(asked(150), worth, sampling=Sampling(sampler=chosen))
        cells = _MapElites(asked(), seed=0, n_cells=64, n_startup_trials=8).cells(study.encodings.astype(np.int64))
        filled[name] = len(np.unique(cells))
    assert filled["map-elites"] > filled["random"] + 4


def test_the_best_of_cells_gets_better_than_by_chance() -> None:
    best = {}
    for name, chosen in (("map-elites", partial(map_elites, n_cells=4)), ("random", "random")):
        study = search(asked(120), worth, sampling=Sampling(sampler=chosen))
        cells = _MapElites(asked(), seed=0, n_cells=4, n_startup_trials=8).cells(study.encodings.astype(np.int64))
        best[name] = {c: study.values["accuracy"][cells == c].max() for c in np.unique(cells)}
    common = set(best["random"]) & set(best["map-elites"])
    assert np.mean([best["map-elites"][c] - best["random"][c] for c in common]) > 1.0


def test_without_known_costs_there_is_one_cell() -> None:
    problem = Problem(WIDE, {"accuracy": "maximize"}, n_trials=30)
    study = search(problem, worth, sampling=Sampling(sampler="map-elites"))
    assert len(study) == 30
    assert archive(problem).cells(study.encodings.astype(np.int64)).tolist() == [0] * 30
