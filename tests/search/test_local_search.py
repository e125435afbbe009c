"""Where local search looks next, and where it begins again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import optuna

from hwnas.search import Problem, Sampling, Study, search
from hwnas.search.samplers.local_search import _RUN, local_search
from hwnas.search.storage import open_storage
from hwnas.types import Option
from tests.search.problems import SPACE, WIDE, problem, quality


def rising(architecture: dict[str, Option]) -> dict[str, float]:
    return {"accuracy": float(sum(float(architecture[f"c{i}"]) for i in range(20)))}


def changed(study: Study, row: int, rows: list[int]) -> int:
    """In how many choices a network differs from the nearest of others."""
    return int((study.encodings[rows] != study.encodings[row]).sum(axis=1).min())


def test_every_network_is_a_neighbour_of_the_best_before_it() -> None:
    asked = Problem(WIDE, {"accuracy": "maximize"}, n_trials=60)
    sampler = partial(local_search, n_startup_trials=5)
    study = search(asked, rising, sampling=Sampling(sampler=sampler))
    accuracy = study.values["accuracy"]
    for row in range(5, 60):
        best = np.flatnonzero(accuracy[:row] == accuracy[:row].max()).tolist()
        assert changed(study, row, best) == 1
    assert accuracy[-1] > accuracy[:5].max() + 5


def test_with_two_objectives_every_network_is_a_neighbour_of_the_front_before_it() -> None:
    study = search(problem(WIDE, limit=None, n_trials=50), rising, sampling=Sampling(sampler="local-search"))
    points = np.stack([-study.values["accuracy"], study.values["cost"]], axis=1)
    for row in range(10, 50):
        before = points[:row]
        beaten = [bool(((before <= p).all(axis=1) & (before < p).any(axis=1)).any()) for p in before]
        assert changed(study, row, np.flatnonzero(~np.array(beaten)).tolist()) == 1


def test_when_no_neighbour_is_left_another_run_begins(tmp_path: Path) -> None:
    """Accuracy says nothing in all but one network, so that the first runs end at once or where they began."""
    storage = tmp_path / "journal"
    asked = Problem(SPACE, {"accuracy": "maximize"}, n_trials=52)
    sampling = Sampling(sampler=partial(local_search, n_startup_trials=1))

    def peaks(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(architecture["x"] == "a") * quality(architecture)["accuracy"]}

    study = search(asked, peaks, sampling=sampling, storage=storage)
    trials = optuna.load_study(study_name="search", storage=open_storage(storage)).trials
    runs = [t.system_attrs[_RUN] for t in trials]
    assert len(study) == 52
    assert runs == sorted(runs)
    assert runs[-1] > 0


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """The process that resumes takes the neighbours of the best network that the first one found."""
    sampling, storage = Sampling(sampler=partial(local_search, n_startup_trials=5)), tmp_path / "journal"
    for n in (20, 40):
        asked = Problem(WIDE, {"accuracy": "maximize"}, n_trials=n)
        study = search(asked, rising, sampling=sampling, storage=storage)
    accuracy = study.values["accuracy"]
    for row in range(20, 40):
        best = np.flatnonzero(accuracy[:row] == accuracy[:row].max()).tolist()
        assert changed(study, row, best) == 1
