"""The sampler that predicts: what it finds in few trials, and what it does beside the simple case."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.predict import ChoiceDistances, GaussianProcess, Inputs
from hwnas.search import Problem, Sampling, Study, hypervolume, search
from hwnas.search.archive import oriented
from hwnas.search.promise import Promise
from hwnas.search.samplers.predictor import predictor
from hwnas.spaces import CategoricalSpace
from hwnas.types import FloatArray, IntArray, Option
from tests.search.problems import SPACE, WIDE, Bounded, cost, problem, quality

GAINS = np.random.default_rng(5).uniform(0.2, 1.0, size=20)


def worth(architecture: Mapping[str, Option]) -> dict[str, float]:
    """Of WIDE: each choice adds, with less and less to gain, and neighbours help each other."""
    x = np.array([float(architecture[f"c{i}"]) for i in range(20)])
    return {"accuracy": float((GAINS * np.sqrt(x)).sum() + 0.2 * (x[1:] * x[:-1] > 3).sum())}


def volume(study: Study) -> float:
    points = oriented({m: study.values[m] for m in study.directions}, study.directions)
    return hypervolume(points, reference=(0.0, 60.0))


@pytest.mark.parametrize("seed", range(2))
def test_few_trials_find_more_than_chance_and_evolution_in_a_space_too_large_to_list(seed: int) -> None:
    asked = problem(WIDE, limit=None, n_trials=40)
    found = {
        name: volume(search(asked, worth, sampling=Sampling(sampler=name, seed=seed)))
        for name in ("predictor", "random", "nsga2")
    }
    assert found["predictor"] > 1.1 * max(found["random"], found["nsga2"])


def test_half_of_a_small_space_is_enough_for_nearly_all_of_its_front() -> None:
    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(np.sqrt(quality(architecture)["accuracy"])) - (architecture["x"] == "b")}

    whole = search(problem(limit=None, n_trials=52), evaluate, sampling=Sampling(sampler="random"))
    half = search(problem(limit=None, n_trials=26), evaluate, sampling=Sampling(sampler="predictor"))
    assert volume(half) > 0.98 * volume(whole)


def test_limits_that_few_networks_keep_are_kept_from_the_first_trial_on() -> None:
    asked = problem(WIDE, limit=9.0, closed_form=Bounded(WIDE), n_trials=25)
    study = search(asked, worth, sampling=Sampling(sampler="predictor"))
    assert len(study) == 25
    assert (study.upper["cost"] <= 9.0).all()


def test_a_limit_on_what_is_evaluated_is_learned() -> None:
    """Half of the space breaks it; of the last trials few do."""
    asked = Problem(
        WIDE,
        {"accuracy": "maximize", "heat": "minimize"},
        n_trials=60,
        limits={"heat": 8.0},
        closed_form={"cost": cost},
    )

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        return {**worth(architecture), "heat": float(sum(float(architecture[f"c{i}"]) for i in range(10)))}

    study = search(asked, evaluate, sampling=Sampling(sampler="predictor"))
    assert study.feasible[20:].mean() > 0.7


def test_one_objective_and_no_costs() -> None:
    asked = Problem(SPACE, {"accuracy": "maximize"}, n_trials=25)
    study = search(asked, quality, sampling=Sampling(sampler="predictor"))
    assert study.best("accuracy").values["accuracy"] == 11.0


def test_three_objectives_two_of_them_known() -> None:
    def other(encodings: IntArray) -> FloatArray:
        return 3.0 - np.asarray(encodings, dtype=float)[:, 1]

    directions = {"accuracy": "maximize", "cost": "minimize", "other": "minimize"}
    asked = Problem(SPACE, directions, n_trials=30, closed_form={"cost": cost, "other": other})
    study = search(asked, quality, sampling=Sampling(sampler="predictor"))
    assert len(study) == 30
    assert study.best("accuracy").values["accuracy"] == 11.0


def test_a_metric_that_is_minimised_is_predicted_as_well() -> None:
    asked = Problem(WIDE, {"loss": "minimize"}, n_trials=30)
    study = search(asked, lambda a: {"loss": -worth(a)["accuracy"]}, sampling=Sampling(sampler="predictor"))
    at_random = search(asked, lambda a: {"loss": -worth(a)["accuracy"]}, sampling=Sampling(sampler="random"))
    assert study.values["loss"].min() < at_random.values["loss"].min()


def test_two_searches_of_one_study_ask_for_different_networks(tmp_path: Path) -> None:
    """The second begins while the first evaluates: what is in flight counts as if it were as predicted."""
    asked = problem(limit=None, n_trials=20)
    seen: list[str] = []
    asking = threading.Event()

    def note(architecture: dict[str, Option]) -> dict[str, float]:
        seen.append(str(sorted(architecture.items())))
        return quality(architecture)

    def second(architecture: dict[str, Option]) -> dict[str, float]:
        asking.set()
        return note(architecture)

    with ThreadPoolExecutor(1) as pool:
        others: list[Future[Study]] = []

        def first(architecture: dict[str, Option]) -> dict[str, float]:
            found = note(architecture)
            if len(seen) == 15:  # in the middle of an evaluation
                sampling = Sampling(sampler="predictor", seed=1)
                others.append(pool.submit(search, asked, second, sampling=sampling, storage=tmp_path / "journal"))
                assert asking.wait(60)
            return found

        study = search(asked, first, sampling=Sampling(sampler="predictor"), storage=tmp_path / "journal")
        assert len(others[0].result(60)) == 20
    assert len(study) == 20
    assert len(set(seen)) == len(seen) == 20


SMALL = CategoricalSpace({f"c{i}": (0, 1, 2, 3) for i in range(5)}, name="small")


def alone(architecture: Mapping[str, Option]) -> dict[str, float]:
    """Of SMALL: each choice adds."""
    return {"accuracy": sum(GAINS[i] * float(architecture[f"c{i}"]) for i in range(5))}


def test_a_search_ends_when_its_front_has_stopped_to_grow_and_says_so() -> None:
    study = search(
        Problem(SMALL, {"accuracy": "maximize"}, n_trials=150), alone, sampling=Sampling(sampler="predictor")
    )
    assert len(study) < 130
    assert study.values["accuracy"].max() == pytest.approx(3 * GAINS[:5].sum())
    assert f"ended after {len(study)} of 150 trials: in the last 60 evaluations the front grew by 0.00%" in study.note


def test_a_search_that_shall_not_end_by_itself_does_not() -> None:
    sampler = functools.partial(predictor, stop_early=False)
    asked = Problem(SMALL, {"accuracy": "maximize"}, n_trials=140)
    study = search(asked, alone, sampling=Sampling(sampler=sampler))
    assert len(study) == 140
    assert not study.note


def test_of_many_networks_the_best_and_some_others_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.search.samplers.predictor._LEARNED", 20)
    learned: list[int] = []
    make = GaussianProcess.__init__

    def counting(self: GaussianProcess, distances: ChoiceDistances, inputs: Inputs, *rest: Any, **named: Any) -> None:
        learned.append(len(inputs))
        make(self, distances, inputs, *rest, **named)

    monkeypatch.setattr(GaussianProcess, "__init__", counting)
    asked = Problem(SMALL, {"accuracy": "maximize", "cost": "minimize"}, n_trials=40, closed_form={"cost": cost})
    study = search(asked, alone, sampling=Sampling(sampler="predictor"))
    assert max(learned) == 20
    assert study.values["accuracy"].max() > 0.9 * 3 * GAINS[:5].sum()


def test_who_limits_the_cost_gets_the_best_network_within_the_limit_beside_the_front() -> None:
    best, front = (
        search(
            Problem(WIDE, directions, n_trials=45, closed_form={"cost": cost}, limits={"cost": 25.0}),
            worth,
            sampling=Sampling(sampler="predictor"),
        )
        for directions in ({"accuracy": "maximize"}, {"accuracy": "maximize", "cost": "minimize"})
    )
    assert front.values["accuracy"].max() > 0.97 * best.values["accuracy"].max()


def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every promise that is made from now on is told, beside problem, knowledge and processes."""
    found: list[dict[str, Any]] = []
    make = Promise.__init__

    def noting(self: Promise, *given: Any, **named: Any) -> None:
        found.append(named)
        make(self, *given, **named)

    monkeypatch.setattr(Promise, "__init__", noting)
    return found


def test_cheap_networks_that_were_given_count_however_bad_the_others_make_them_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = told(monkeypatch)
    given = tuple({f"c{i}": option for i in range(5)} for option in (0, 1, 2, 3))
    asked = Problem(SMALL, {"accuracy": "maximize", "cost": "minimize"}, n_trials=14, closed_form={"cost": cost})
    search(asked, alone, sampling=Sampling(sampler="predictor", initial=given))
    assert {of["least"]["accuracy"] for of in made} == {0.0}


def test_now_and_then_a_late_proposal_doubts_what_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.search.samplers.predictor._DOUBT_FROM", 15)
    made = told(monkeypatch)
    asked = Problem(SMALL, {"accuracy": "maximize", "cost": "minimize"}, n_trials=26, closed_form={"cost": cost})
    search(asked, alone, sampling=Sampling(sampler=functools.partial(predictor, stop_early=False)))
    assert [12 + i for i, of in enumerate(made) if of["curiosity"] > 1] == [15, 20, 25]
