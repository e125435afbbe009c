"""Measures of fronts: values worked out by hand, and what must hold for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.search import hypervolume
from hwnas.search.measures import (
    additive_epsilon,
    after_each,
    best_so_far,
    common_front,
    evaluations_to,
    hypervolumes,
    inverted_generational_distance,
    inverted_generational_distance_plus,
    median_evaluations_to,
    quartiles,
    relative_improvement,
    scaled,
)
from hwnas.types import FloatArray

FRONT = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
SETS = st.lists(st.tuples(*[st.integers(0, 6)] * 2), min_size=1, max_size=8).map(lambda p: np.array(p, dtype=float))
DISTANCES = (inverted_generational_distance, inverted_generational_distance_plus, additive_epsilon)


@pytest.mark.parametrize("measure", DISTANCES)
def test_a_front_is_no_distance_from_itself(measure: object) -> None:
    assert measure(FRONT, front=FRONT) == 0.0  # type: ignore[operator]


def test_distances_of_one_point_are_those_worked_out_by_hand() -> None:
    point = np.array([[1.0, 2.0]])
    assert inverted_generational_distance(point, front=FRONT) == pytest.approx((1 + 1 + np.sqrt(5)) / 3)
    # 1 worse in the first, 1 worse in the second, and from (2, 0) better in the first and 2 worse in the second
    assert inverted_generational_distance_plus(point, front=FRONT) == pytest.approx((1 + 1 + 2) / 3)
    assert additive_epsilon(point, front=FRONT) == 2.0


def test_a_front_better_than_the_known_one_has_no_distance_in_igd_plus_and_a_negative_epsilon() -> None:
    better = FRONT - 0.5
    assert inverted_generational_distance(better, front=FRONT) > 0
    assert inverted_generational_distance_plus(better, front=FRONT) == 0.0
    assert additive_epsilon(better, front=FRONT) == -0.5


@settings(deadline=None)
@given(SETS, SETS, SETS)
def test_what_another_front_dominates_is_never_nearer(
    points: FloatArray, worse_by: FloatArray, front: FloatArray
) -> None:
    worse = points + np.resize(worse_by, points.shape)
    for measure in (inverted_generational_distance_plus, additive_epsilon):
        assert measure(worse, front=front) >= measure(points, front=front) - 1e-12


def test_scaled_by_a_front_its_ends_are_0_and_1() -> None:
    front = np.array([[-0.9, 10.0], [-0.5, 2.0]])
    assert scaled(front, front=front).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert scaled(np.array([[-0.1, 18.0]]), front=front)[0] == pytest.approx([2.0, 2.0])


def test_an_objective_in_which_all_of_the_front_is_the_same_keeps_its_unit() -> None:
    assert scaled(np.array([[3.0, 7.0]]), front=np.array([[1.0, 4.0]])).tolist() == [[2.0, 3.0]]


@settings(deadline=None)
@given(SETS)
def test_the_hypervolume_after_each_is_that_of_all_networks_so_far(points: FloatArray) -> None:
    curve = hypervolumes(points, reference=(6.5, 6.5))
    assert curve.tolist() == pytest.approx(
        [hypervolume(points[: k + 1], reference=(6.5, 6.5)) for k in range(len(points))]
    )


@settings(deadline=None)
@given(SETS, SETS)
def test_igd_plus_after_each_is_that_of_all_networks_so_far(points: FloatArray, front: FloatArray) -> None:
    curve = after_each(points, lambda p: inverted_generational_distance_plus(p, front=front))
    assert curve.tolist() == pytest.approx(
        [inverted_generational_distance_plus(points[: k + 1], front=front) for k in range(len(points))]
    )


def test_networks_beyond_a_limit_or_without_a_value_add_nothing() -> None:
    points = np.array([[0.0, 0.0], [1.0, np.nan], [1.0, 1.0], [0.0, 1.0]])
    kept = np.array([False, True, True, True])
    assert hypervolumes(points, reference=(2.0, 2.0), kept=kept).tolist() == [0.0, 0.0, 1.0, 2.0]
    curve = after_each(points, lambda front: float(len(front)), kept=kept)
    assert np.isnan(curve[:2]).all()
    assert curve[2:].tolist() == [1.0, 1.0]


def test_the_best_so_far_waits_for_the_first_that_counts() -> None:
    best = best_so_far(np.array([9.0, 1.0, np.nan, 3.0, 2.0]), kept=np.array([False, True, True, True, True]))
    assert np.isnan(best[0])
    assert best[1:].tolist() == [1.0, 1.0, 3.0, 3.0]


def test_a_target_is_reached_by_the_first_evaluation_that_is_as_good() -> None:
    curve = np.array([0.1, 0.5, 0.5, 0.9])
    assert [evaluations_to(curve, t) for t in (0.0, 0.5, 0.9, 0.91)] == [1, 2, 4, None]


def test_the_median_is_known_while_more_than_half_reached_the_target() -> None:
    curves = [np.array([0.0, 1.0]), np.array([0.0, 0.0]), np.array([1.0, 1.0])]
    assert median_evaluations_to(curves, 1.0) == 2
    assert median_evaluations_to(curves[:2], 1.0) is None
    assert median_evaluations_to([curves[0], curves[2]], 1.0) == 1.5
    assert median_evaluations_to([curves[1], curves[1], curves[0]], 1.0) is None


def test_quartiles_go_as_far_as_the_shortest_search() -> None:
    found = quartiles([np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0]), np.array([2.0, 9.0])])
    assert found.n_searches == 3
    assert found.median.tolist() == [1.0, 2.0]
    assert found.lower.tolist() == [0.5, 1.5]
    assert found.upper.tolist() == [1.5, 5.5]


def test_relative_improvement_is_a_share_of_the_average_random_architecture() -> None:
    assert relative_improvement(np.array([0.9, 0.95]), average=0.9).tolist() == pytest.approx([0.0, 1 / 18])
    with pytest.raises(ValueError, match="must be positive"):
        relative_improvement(np.array([0.9]), average=0.0)


def test_the_common_front_is_that_of_all_sets_together() -> None:
    found = common_front([FRONT, np.array([[0.5, 0.5], [2.0, 0.0]])])
    assert found.tolist() == [[0.0, 2.0], [0.5, 0.5], [2.0, 0.0]]
