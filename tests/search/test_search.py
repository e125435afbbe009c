from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.allowed import Between
from hwnas.errors import ConfigError, InfeasibleError, MeasurementError, SpaceError, StudyError, UnknownNameError
from hwnas.search import Problem, Sampling, Study, read_study, search
from hwnas.search.run import MAX_FAILURES
from hwnas.spaces import CategoricalSpace
from hwnas.types import FloatArray, IntArray, Option

from .problems import SPACE, Bounded, cost, quality

DIRECTIONS = {"accuracy": "maximize", "cost": "minimize"}


def find(storage: Path | str | None = None, *, n_trials: int = 12, limit: float = 5.0) -> Study:
    return search(
        Problem(SPACE, DIRECTIONS, n_trials=n_trials, limits={"cost": limit}, closed_form={"cost": cost}),
        quality,
        storage=storage,
    )


# ---------------------------------------------------------------- limits from both sides


def test_a_search_keeps_both_sides_of_a_limit_it_knows_in_closed_form() -> None:
    study = search(
        Problem(
            SPACE,
            DIRECTIONS,
            n_trials=50,
            limits={"cost": Between(at_least=3.0, at_most=5.0)},
            closed_form={"cost": Bounded(SPACE)},
        ),
        quality,
        sampling=Sampling(sampler="random"),
    )
    # by the upper bound, which is 1 more, from above; by the value from below
    assert {t.values["cost"] for t in study.trials} == {3.0, 4.0}
    assert study.feasible.all()
    assert "all" in study.note


def test_a_trial_beyond_either_side_of_an_evaluated_limit_is_infeasible(tmp_path: Path) -> None:
    limits = {"accuracy": Between(at_least=3.0, at_most=5.0)}
    asked = Problem(SPACE, DIRECTIONS, n_trials=20, limits=limits, closed_form={"cost": cost})
    study = search(asked, quality, storage=tmp_path / "journal.log")
    assert [t.feasible for t in study.trials] == [3 <= t.values["accuracy"] <= 5 for t in study.trials]
    assert 0 < study.feasible.sum() < 20
    # resumed, and read without the problem
    assert len(search(asked, quality, storage=tmp_path / "journal.log")) == 20
    assert read_study(tmp_path / "journal.log", study_name="search").limits == limits
    other = Problem(SPACE, DIRECTIONS, n_trials=20, limits={"accuracy": 3.0}, closed_form={"cost": cost})
    with pytest.raises(StudyError, match=r"limits was .*at_most.* and is now"):
        search(other, quality, storage=tmp_path / "journal.log")


def test_the_same_limit_in_other_words_is_the_same_search(tmp_path: Path) -> None:
    find(tmp_path / "journal.log", limit=5.0)
    same = Problem(SPACE, DIRECTIONS, n_trials=12, limits={"cost": Between(at_most=5.0)}, closed_form={"cost": cost})
    assert same.limits == {"cost": 5.0}
    assert len(search(same, quality, storage=tmp_path / "journal.log")) == 12


# ---------------------------------------------------------------- what a study has


def test_tight_limits_with_a_known_network_are_not_called_infeasible() -> None:
    """One network in 10^24 keeps them: chance does not find it, but it is given."""
    space = CategoricalSpace({f"c{i}": tuple(range(4)) for i in range(40)}, name="haystack")
    wanted = {f"c{i}": i % 4 for i in range(40)}
    needle = space.encode(wanted)

    def missed(encodings: IntArray) -> FloatArray:
        return np.asarray(1.0 + (encodings != needle).sum(axis=1))

    found = search(
        Problem(space, {"accuracy": "maximize"}, n_trials=3, limits={"cost": 1.0}, closed_form={"cost": missed}),
        lambda _: {"accuracy": 0.5},
        sampling=Sampling(initial=(wanted,)),
    )
    assert [t.architecture for t in found.trials] == [wanted]
    assert found.note


def test_trials_are_in_order_with_architecture_and_all_values() -> None:
    study = find()
    assert [t.number for t in study.trials] == list(range(12))
    for t in study.trials:
        assert t.values == {**quality(t.architecture), "cost": float(t.encoding.sum())}
        assert (SPACE.encode(t.architecture) == t.encoding).all()


def test_an_architecture_has_no_choices_that_are_switched_off() -> None:
    asked: list[dict[str, Option]] = []
    study = search(
        Problem(SPACE, {"accuracy": "maximize"}, n_trials=52),
        lambda a: asked.append(a) or quality(a),
        sampling=Sampling(sampler="random"),
    )
    assert len(study) == 52
    assert all(("z" in a) == (a["x"] != "a") for a in asked)


def test_best_of_an_exhausted_space_is_its_best_within_the_limit() -> None:
    study = find(n_trials=60)
    rows = all_networks()
    within = rows[cost(rows) <= 5]
    assert len(study) == len(within)
    assert study.best("accuracy").values["accuracy"] == max(quality(SPACE.decode(e))["accuracy"] for e in within)


def all_networks() -> np.ndarray:
    return np.unique(SPACE.canonical(np.indices((4, 4, 4)).reshape(3, -1).T), axis=0)


def test_front_holds_the_trials_that_none_dominates() -> None:
    study = find(n_trials=60)
    front = {t.number for t in study.front()}
    for t in study.trials:
        beaten = any(
            o.values["accuracy"] >= t.values["accuracy"]
            and o.values["cost"] <= t.values["cost"]
            and (o.values != t.values)
            for o in study.trials
        )
        assert (t.number in front) != beaten


def test_metrics_that_are_no_direction_are_kept_as_extra_values() -> None:
    study = search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=3), lambda a: {**quality(a), "loss": 0.5})
    assert (study.values["loss"] == 0.5).all()


def test_upper_bounds_are_kept_beside_values() -> None:
    study = search(
        Problem(SPACE, DIRECTIONS, n_trials=10, limits={"cost": 4.0}, closed_form={"cost": Bounded(SPACE)}), quality
    )
    assert (study.upper["cost"] == study.values["cost"] + 1).all()
    assert (study.upper["cost"] <= 4).all()
    assert study.sources == {"accuracy": "measured", "cost": "estimated"}


def test_a_limit_on_a_maximised_metric_is_a_floor() -> None:
    study = search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=30, limits={"accuracy": 6.0}), quality)
    assert (study.feasible == (study.values["accuracy"] >= 6)).all()


def test_best_names_the_binding_limit_and_the_smallest_seen_value() -> None:
    study = search(
        Problem(SPACE, {"accuracy": "maximize"}, n_trials=52, limits={"heat": 5.0}),
        lambda a: {**quality(a), "heat": 10.0 + int(a["y"])},
    )
    with pytest.raises(InfeasibleError, match="heat <= 5") as e:
        study.best("accuracy")
    assert (e.value.metric, e.value.reachable) == ("heat", 11.0)
    assert e.value.architecture is not None
    assert e.value.architecture["y"] == 1


def test_best_in_an_unknown_metric_lists_the_known() -> None:
    with pytest.raises(StudyError, match="accuracy, cost"):
        find(n_trials=2).best("top5")


# ---------------------------------------------------------------- wrong input


def test_an_unreachable_limit_is_refused_before_any_evaluation() -> None:
    def never(architecture: dict[str, Option]) -> dict[str, float]:
        raise AssertionError("nothing should be evaluated")

    with pytest.raises(InfeasibleError, match="smallest reachable is 0"):
        search(Problem(SPACE, DIRECTIONS, n_trials=5, limits={"cost": -1.0}, closed_form={"cost": cost}), never)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"directions": {}}, ConfigError, "at least one direction"),
        ({"directions": {"accuracy": "up"}}, ConfigError, "'maximize' or 'minimize'"),
        ({"n_trials": 0}, ConfigError, "at least 1"),
        ({"limits": {"accuracy": float("nan")}}, ConfigError, "finite"),
        ({"sampler": "nsga4"}, UnknownNameError, "nsga2, nsga3"),
        ({"seed": -1}, ConfigError, "it must be 0 to"),
        ({"initial": [{"x": "e", "y": 1}]}, SpaceError, "'e' is no option of choice 'x'"),
        ({"initial": [{"x": "b", "y": 1}]}, SpaceError, "'z'"),
        ({"directions": {"top1": "maximize"}}, StudyError, "top1"),
        ({"limits": {"energy_mj": 3.0}}, StudyError, "energy_mj"),
        ({"closed_form": {"cost": lambda e: 1.0}}, StudyError, "one number each"),
    ],
)
def test_wrong_input_says_what_is_allowed(change: dict[str, object], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"directions": {"accuracy": "maximize"}, "n_trials": 3, **change}
    sampling = {name: given.pop(name) for name in ("sampler", "seed", "initial") if name in given}
    with pytest.raises(error, match=message):
        search(Problem(SPACE, **given), quality, sampling=Sampling(**sampling))


# ---------------------------------------------------------------- evaluations that fail


def test_an_error_of_ours_fails_the_trial_and_the_search_goes_on() -> None:
    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        if architecture["x"] == "b":
            raise MeasurementError("the runtime refused it")
        return quality(architecture)

    study = search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=30), evaluate, sampling=Sampling(sampler="random"))
    assert len(study) == 30
    assert study.failed
    assert all(f.architecture["x"] == "b" and "the runtime refused it" in f.reason for f in study.failed)
    assert len({str(f.architecture) for f in study.failed}) == len(study.failed)  # not tried again


def test_a_value_that_is_not_a_number_fails_the_trial() -> None:
    study = search(
        Problem(SPACE, {"accuracy": "maximize"}, n_trials=20),
        lambda a: {"accuracy": float("nan") if a["y"] == 1 else 1.0},
        sampling=Sampling(sampler="random"),
    )
    assert all(t.architecture["y"] != 1 for t in study.trials)
    assert all("accuracy is not a number" in f.reason for f in study.failed)


def test_failures_in_a_row_end_the_search_with_the_last_reason() -> None:
    asked = []

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        asked.append(architecture)
        raise MeasurementError("no device")

    with pytest.raises(StudyError, match=f"{MAX_FAILURES} evaluations in a row failed.*no device"):
        search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=40), evaluate)
    assert len(asked) == MAX_FAILURES


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    storage, asked = tmp_path / "study.journal", []

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        asked.append(architecture)
        if len(asked) == 6:
            raise error
        return quality(architecture)

    with pytest.raises(error):
        search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=20), evaluate, storage=storage)
    assert len(read_study(storage)) == 5
    study = search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=20), evaluate, storage=storage)
    assert len(study) == 20
    assert len(asked) == 21


# ---------------------------------------------------------------- progress, first networks, storages


def test_progress_reports_every_trial() -> None:
    steps: list[tuple[int, int]] = []
    search(
        Problem(SPACE, {"accuracy": "maximize"}, n_trials=5),
        quality,
        progress=lambda done, total, note: steps.append((done, total)),
    )
    assert steps == [(i, 5) for i in range(1, 6)]


def test_initial_architectures_come_first_and_once() -> None:
    first: list[dict[str, Option]] = [{"x": "d", "y": 4, "z": 4}, {"x": "a", "y": 2}]
    study = search(
        Problem(SPACE, {"accuracy": "maximize"}, n_trials=5),
        quality,
        sampling=Sampling(initial=(*first, first[0])),
    )
    assert [t.architecture for t in study.trials[:2]] == first
    assert len(np.unique(study.encodings, axis=0)) == 5


def test_an_initial_architecture_beyond_a_limit_is_moved_within_it() -> None:
    study = search(
        Problem(SPACE, DIRECTIONS, n_trials=1, limits={"cost": 6.0}, closed_form={"cost": cost}),
        quality,
        sampling=Sampling(initial=({"x": "d", "y": 4, "z": 4},)),
    )
    assert study.values["cost"][0] <= 6
    assert (study.encodings[0] != [3, 3, 3]).sum() == 1


def test_a_choice_with_one_option_is_part_of_every_architecture() -> None:
    space = CategoricalSpace({"x": (1, 2, 3), "fixed": ("only",)})
    study = search(Problem(space, {"q": "maximize"}, n_trials=3), lambda a: {"q": int(a["x"])})
    assert all(t.architecture["fixed"] == "only" for t in study.trials)


@pytest.mark.parametrize("storage", ["study.journal", "sqlite:///{}/study.db"])
def test_a_finished_study_is_not_evaluated_again(tmp_path: Path, storage: str) -> None:
    where = storage.format(tmp_path) if "://" in storage else tmp_path / storage
    first, again = find(where, n_trials=4), find(where, n_trials=4)
    assert (first.encodings == again.encodings).all()
    assert read_study(where).values["accuracy"].tolist() == first.values["accuracy"].tolist()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"limits": {"cost": 4.0}}, "limits was"),
        ({"directions": {"accuracy": "minimize", "cost": "minimize"}}, "directions was"),
        ({"directions": {"accuracy": "maximize"}}, "cannot be continued|directions was"),
        ({"space": CategoricalSpace({"x": ("a", "b"), "y": (1, 2)}, name="xyz")}, "choice 'z' is gone"),
        ({"closed_form": {"cost": lambda e: 1.01 * cost(e)}}, "what computes it has changed"),
    ],
)
def test_another_search_under_the_same_name_is_refused_with_the_difference(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    storage = tmp_path / "study.journal"
    find(storage)
    given: dict[str, Any] = {
        "space": SPACE,
        "directions": DIRECTIONS,
        "n_trials": 20,
        "limits": {"cost": 5.0},
        "closed_form": {"cost": cost},
        **change,
    }
    with pytest.raises(StudyError, match=named):
        search(Problem(**given), quality, storage=storage)


def test_reading_a_study_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    find(tmp_path / "study.journal")
    with pytest.raises(StudyError, match="it has: search"):
        read_study(tmp_path / "study.journal", study_name="other")
    with pytest.raises(StudyError, match="no study storage"):
        read_study(tmp_path / "nothing.journal")
