"""What samplers of our own know of a study."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from hwnas.search import Problem
from hwnas.search.candidates import key_of
from hwnas.search.encoding_sampler import EncodingSampler, History, first_new, unbeaten
from hwnas.search.ledger import CLAIM
from hwnas.types import IntArray
from tests.search.problems import SPACE, problem


def ask(study: optuna.Study, encoding: list[int]) -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr(CLAIM, encoding)
    return trial


@pytest.fixture
def study() -> optuna.Study:
    # accuracy, cost
    return optuna.create_study(directions=["maximize", "minimize"])


def test_trials_that_finish_out_of_order_stand_in_the_order_of_their_numbers(study: optuna.Study) -> None:
    history = History(problem())
    trials = [ask(study, [i, 0, 0]) for i in range(3)]
    for i in (2, 0, 1):
        study.tell(trials[i], [float(i), 2.0])
        history.read(study)
    assert history.numbers.tolist() == [0, 1, 2]
    assert history.encodings[:, 0].tolist() == [0, 1, 2]
    assert history.points.tolist() == [[0.0, 2.0], [-1.0, 2.0], [-2.0, 2.0]]  # accuracy turned round


def test_what_is_being_evaluated_is_taken_and_is_no_column(study: optuna.Study) -> None:
    history = History(problem())
    ask(study, [1, 1, 1])
    assert history.read(study) == {key_of(np.array([1, 1, 1]))}
    assert len(history) == 0


def test_excess_adds_up_what_is_beyond_limits_alone(study: optuna.Study) -> None:
    history = History(problem())
    trial = ask(study, [0, 0, 0])
    for name, beyond in (("heat", 1.5), ("noise", -4.0), ("weight", 0.5)):
        trial.set_constraint(name, beyond)
    study.tell(trial, [1.0, 1.0])
    history.read(study)
    assert history.excess.tolist() == [2.0]


def test_notes_of_a_sampler_stay_with_their_trials(study: optuna.Study) -> None:
    history = History(problem(), note="mine")
    first, second = ask(study, [0, 0, 0]), ask(study, [1, 0, 0])
    study._storage.set_trial_system_attr(first._trial_id, "mine", 7)
    for trial in (second, first):
        study.tell(trial, [1.0, 1.0])
        history.read(study)
    assert history.notes == [7, None]


def test_a_network_beyond_a_limit_is_beaten_by_every_one_that_keeps_it() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.5]])
    assert unbeaten(points, np.array([0.1, 0.0, 0.0])).tolist() == [False, True, True]
    assert unbeaten(points, np.array([0.3, 0.1, 0.2])).tolist() == [False, True, False]


def test_the_first_network_that_nobody_has_is_new() -> None:
    rows = np.array([[0, 1], [1, 0], [1, 1]])
    found = first_new(rows, {key_of(rows[0])})
    assert found is not None
    assert found.tolist() == [1, 0]
    assert first_new(rows[:1], {key_of(rows[0])}) is None


def test_a_trial_draws_from_its_own_number(study: optuna.Study) -> None:
    class Chance(EncodingSampler):
        def propose(self, study: optuna.Study, trial: optuna.trial.FrozenTrial, rng: np.random.Generator) -> IntArray:
            return rng.integers(self.problem.sizes)

    asked = Problem(SPACE, {"accuracy": "maximize"}, n_trials=9)
    frozen = [study.ask()._cached_frozen_trial for _ in range(4)]
    drawn = [Chance(asked, seed=1).sample_relative(study, t, {}) for t in frozen]
    # one sampler that goes on draws what four new ones draw
    one = Chance(asked, seed=1)
    assert drawn == [one.sample_relative(study, t, {}) for t in frozen]
    assert drawn[0] != drawn[1]
