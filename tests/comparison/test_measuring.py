"""How good each search is, held against numbers worked out another way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwnas.allowed import Between
from hwnas.comparison.measuring import grouped, measured
from hwnas.errors import StudyError
from hwnas.search import Study, hypervolume
from tests.comparison.studies import study

WHOLE = study("local-search", n=52)  # every network of the space
PART = study("random", n=20)


def points(of: Study) -> np.ndarray:  # type: ignore[type-arg]
    return np.stack([-of.values["accuracy"], of.values["cost"]], axis=1)


def test_shares_are_of_the_hypervolume_of_all_networks_together() -> None:
    inputs = measured({"whole": WHOLE, "part": PART}, reference={"accuracy": 0.1, "cost": 8.0})
    by_name = {g.name: g for g in inputs.groups}
    total = hypervolume(points(WHOLE), reference=(-0.1, 8.0))
    assert by_name["local-search"].share.median[-1] == pytest.approx(1.0)
    for k in (1, 7, 20):
        share = hypervolume(points(PART)[:k], reference=(-0.1, 8.0)) / total
        assert by_name["random"].share.median[k - 1] == pytest.approx(share)


def test_all_are_compared_after_as_many_evaluations_as_the_shortest_has() -> None:
    inputs = measured({"whole": WHOLE, "part": PART}, reference={"accuracy": 0.1, "cost": 8.0})
    assert inputs.n_common == 20
    whole = next(g for g in inputs.groups if g.name == "local-search")
    assert whole.share_at.median == whole.share.median[19] <= 1.0
    assert whole.evaluations_to[0.99] == np.argmax(whole.share.median >= 0.99) + 1


def test_without_a_reference_a_tenth_of_the_networks_is_worse_in_each_metric() -> None:
    inputs = measured({"whole": WHOLE, "part": PART}, reference={})
    accuracy = np.concatenate([WHOLE.values["accuracy"], PART.values["accuracy"]])
    assert (accuracy < inputs.reference["accuracy"]).mean() <= 0.1 < (accuracy <= inputs.reference["accuracy"]).mean()


def test_a_search_that_found_the_best_front_is_no_distance_from_it() -> None:
    inputs = measured({"whole": WHOLE, "copy": study("nsga2", n=52)}, reference={})
    for group in inputs.groups:
        assert group.distance is not None
        assert group.epsilon is not None
        assert (group.distance.median, group.epsilon.median) == (0.0, 0.0)


def test_networks_count_that_keep_the_limits_of_all() -> None:
    limited = study("nsga2", within={"cost": Between(at_least=2.0, at_most=4.0)})
    inputs = measured({"whole": WHOLE, "limited": limited}, reference={"accuracy": 0.1, "cost": 9.0})
    whole = next(g for g in inputs.groups if g.name == "local-search")
    assert 2.0 <= whole.front[0].min() <= whole.front[0].max() <= 4.0


def test_the_improvement_is_over_the_mean_of_the_networks_drawn_at_random() -> None:
    inputs = measured({"whole": WHOLE, "part": PART}, reference={})
    whole = next(g for g in inputs.groups if g.name == "local-search")
    average = PART.values["accuracy"].mean()
    assert whole.improvement is not None
    assert whole.improvement.median == pytest.approx(WHOLE.values["accuracy"][:20].max() / average - 1)
    alone = measured({"a": WHOLE, "b": study("nsga2", n=30)}, reference={})
    assert [g.improvement for g in alone.groups] == [None, None]


def test_one_metric_alone_has_no_front() -> None:
    one = {"directions": {"accuracy": WHOLE.directions["accuracy"]}}
    studies = {"a": dataclasses.replace(WHOLE, **one), "b": dataclasses.replace(PART, **one)}
    inputs = measured(studies, reference={})
    assert inputs.cost == ""
    assert [g.distance for g in inputs.groups] == [None, None]
    assert inputs.groups[0].share.median[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("reference", "said"),
    [({"accuracy": 0.999}, "no network that keeps all limits is better than the reference"), ({"heat": 1.0}, "heat")],
)
def test_a_reference_that_tells_nothing_is_refused(reference: dict[str, float], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        measured({"whole": WHOLE, "part": PART}, reference=reference)


def test_limits_that_no_network_keeps_together_are_refused() -> None:
    none = dataclasses.replace(PART, limits={"cost": -1.0})
    with pytest.raises(StudyError, match="no network of these searches keeps the limits of all"):
        measured({"whole": WHOLE, "none": none}, reference={})


def test_searches_of_one_sampler_that_differ_in_their_seed_are_one_group() -> None:
    studies = {
        "a": study("random", 0),
        "b": study("nsga2", 0),
        "c": study("random", 1),
        "d": study("random", 1),  # the same seed again
        "e": study("random", 2, within={"cost": 5.0}),
        "f": study("random", 3, provenance={}),
    }
    assert grouped(studies) == {
        "random (a)": ("a", "c"),
        "nsga2": ("b",),
        "d": ("d",),
        "random (e)": ("e",),
        "f": ("f",),
    }


def test_a_group_tells_median_and_quartiles_of_its_searches() -> None:
    studies = {f"s{seed}": study("random", seed) for seed in range(3)}
    inputs = measured(studies, reference={"accuracy": 0.1, "cost": 8.0})
    (group,) = inputs.groups
    total = hypervolume(np.concatenate([points(s) for s in studies.values()]), reference=(-0.1, 8.0))
    ends = [hypervolume(points(s), reference=(-0.1, 8.0)) / total for s in studies.values()]
    assert group.share.n_searches == 3
    assert group.share_at.median == pytest.approx(np.median(ends))
    assert group.share_at.lower == pytest.approx(np.quantile(ends, 0.25))


def test_distances_after_each_evaluation_are_those_of_the_front_that_there_was() -> None:
    inputs = measured({"whole": WHOLE, "part": PART}, reference={})
    for group in inputs.groups:
        assert group.distances is not None
        assert group.distance is not None
        assert group.distances.median[inputs.n_common - 1] == pytest.approx(group.distance.median)
        found = group.distances.median[np.isfinite(group.distances.median)]
        assert (np.diff(found) <= 0).all()
        assert found[0] > found[-1]
    whole = next(g for g in inputs.groups if g.name == "local-search")
    assert whole.distances is not None
    assert whole.distances.median[-1] == 0.0  # it has every network


def test_improvements_after_each_evaluation_are_of_the_best_so_far() -> None:
    inputs = measured({"whole": WHOLE, "part": PART}, reference={})
    average = PART.values["accuracy"].mean()
    whole = next(g for g in inputs.groups if g.name == "local-search")
    assert whole.improvements is not None
    best = np.maximum.accumulate(WHOLE.values["accuracy"])
    assert whole.improvements.median == pytest.approx((best - average) / average)


def test_before_the_first_network_within_the_limits_no_distance_is_known() -> None:
    limited = study("nsga2", within={"cost": Between(at_least=2.0, at_most=4.0)})
    inputs = measured({"whole": WHOLE, "limited": limited}, reference={"accuracy": 0.1, "cost": 9.0})
    whole = next(g for g in inputs.groups if g.name == "local-search")
    assert whole.distances is not None
    within = (WHOLE.values["cost"] >= 2.0) & (WHOLE.values["cost"] <= 4.0)
    assert np.isnan(whole.distances.median).sum() == np.argmax(within)
    assert whole.improvements is None  # nobody searched at random
