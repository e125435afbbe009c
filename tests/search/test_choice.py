"""Which of several networks is taken."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from hwnas.search.choice import by_price, cost_names, paid, picks
from hwnas.types import Direction

Rows = npt.NDArray[np.float64]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Rows, Rows, Rows]:
    """Gains, costs and tolerances of a few networks, from few values, so that many are equal."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(0, 3))
    few = st.integers(0, 4)
    gain = np.array(draw(st.lists(few, min_size=n, max_size=n)), dtype=float) / 4
    costs = np.array(draw(st.lists(st.lists(few, min_size=k, max_size=k), min_size=n, max_size=n)), dtype=float)
    return gain, costs.reshape(n, k), np.full(n, draw(st.sampled_from([0.0, 0.25, 0.5])))


@given(networks())
def test_no_network_is_dominated_by_one_that_comes_after_it(given: tuple[Rows, Rows, Rows]) -> None:
    gain, costs, tolerance = given
    points = np.column_stack([-gain, costs])
    order = [p.row for p in picks(gain, list(costs.T), tolerance=tolerance)]
    assert sorted(order) == list(range(len(gain)))
    for i, row in enumerate(order):
        later = points[order[i + 1 :]]
        assert not ((later <= points[row]).all(axis=1) & (later < points[row]).any(axis=1)).any()


@given(networks())
def test_each_is_the_cheapest_of_those_within_the_tolerance_of_the_best_that_is_left(
    given: tuple[Rows, Rows, Rows],
) -> None:
    gain, costs, tolerance = given
    left = np.ones(len(gain), dtype=bool)
    for pick in picks(gain, list(costs.T), tolerance=tolerance):
        assert gain[pick.best] == gain[left].max()
        near = np.flatnonzero(left & (gain >= gain[pick.best] - tolerance[pick.best]))
        assert pick.row in near
        assert tuple(costs[pick.row]) == min(tuple(c) for c in costs[near].tolist())
        left[pick.row] = False


def test_a_difference_of_exactly_the_tolerance_is_within_it() -> None:
    shares = np.arange(289) / 288
    for tolerance in (1 / 288, 3 / 288):
        first = next(picks(shares, [shares], tolerance=np.full(289, tolerance)))
        assert first.best - first.row == round(288 * tolerance)


def test_an_unknown_cost_is_the_most_expensive() -> None:
    (first, _) = picks(np.ones(2), [np.array([np.nan, 1e9])], tolerance=np.zeros(2))
    assert first.row == 1


def test_directions_are_paid_with_first_then_limits_then_size_then_the_rest() -> None:
    known = ("accuracy", "energy_mj", "latency_ms", "macs", "recall", "size_bytes")
    directions = dict.fromkeys(("accuracy", "recall"), Direction.MAXIMIZE) | {"latency_ms": Direction.MINIMIZE}
    names = cost_names(known, metric="accuracy", directions=directions, first=["energy_mj"])
    assert names == ["recall", "latency_ms", "energy_mj", "size_bytes", "macs"]


def test_what_is_paid_is_the_upper_bound_where_it_is_known_and_less_of_what_is_maximised() -> None:
    value, upper = np.array([1.0, 2.0, np.nan]), np.array([1.1, np.nan, 3.0])
    assert paid(value, upper, direction=Direction.MINIMIZE).tolist() == [1.1, 2.0, 3.0]
    assert paid(value[:2], None, direction=None).tolist() == [1.0, 2.0]
    assert paid(value[:2], upper[:2], direction=Direction.MAXIMIZE).tolist() == [-1.0, -2.0]


@given(networks())
def test_of_some_rows_the_order_is_that_of_a_table_of_them_alone(given: tuple[Rows, Rows, Rows]) -> None:
    gain, costs, tolerance = given
    rows = np.arange(0, len(gain), 2)
    among = [p.row for p in picks(gain, list(costs.T), tolerance=tolerance, rows=rows)]
    alone = [p.row for p in picks(gain[rows], list(costs[rows].T), tolerance=tolerance[rows])]
    assert among == rows[alone].tolist()


@given(networks())
def test_equal_networks_are_taken_in_their_order_and_the_better_of_those_that_cost_the_same(
    given: tuple[Rows, Rows, Rows],
) -> None:
    gain, costs, tolerance = given
    first = next(picks(gain, list(costs.T), tolerance=tolerance))
    same = np.flatnonzero((costs == costs[first.row]).all(axis=1))
    assert first.row == same[gain[same].argmax()]


def test_the_cheapest_come_first_and_what_is_not_known_last() -> None:
    costs = [np.array([1.0, np.nan, 1.0, 0.5]), np.array([2.0, 0.0, 1.0, 9.0])]
    assert by_price(costs, np.arange(4)).tolist() == [3, 2, 0, 1]
    assert by_price(costs, np.array([0, 2])).tolist() == [2, 0]
