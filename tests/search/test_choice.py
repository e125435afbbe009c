"""Which of several networks is taken."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.search.choice import cost_columns, picks
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
    order = [p.row for p in picks(gain, costs, tolerance=tolerance)]
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
    for pick in picks(gain, costs, tolerance=tolerance):
        assert gain[pick.best] == gain[left].max()
        near = np.flatnonzero(left & (gain >= gain[pick.best] - tolerance[pick.best]))
        assert pick.row in near
        assert tuple(costs[pick.row]) == min(tuple(c) for c in costs[near].tolist())
        left[pick.row] = False


def test_a_difference_of_exactly_the_tolerance_is_within_it() -> None:
    shares = np.arange(289) / 288
    for tolerance in (1 / 288, 3 / 288):
        first = next(picks(shares, shares[:, None], tolerance=np.full(289, tolerance)))
        assert first.best - first.row == round(288 * tolerance)


def test_an_unknown_cost_is_the_most_expensive() -> None:
    (first, _) = picks(np.ones(2), np.array([[np.nan], [1e9]]), tolerance=np.zeros(2))
    assert first.row == 1


def test_directions_are_paid_with_first_then_limits_then_size_then_the_rest() -> None:
    values = {m: np.array([1.0]) for m in ("accuracy", "energy_mj", "latency_ms", "macs", "recall", "size_bytes")}
    directions = dict.fromkeys(("accuracy", "recall"), Direction.MAXIMIZE) | {"latency_ms": Direction.MINIMIZE}
    names, costs = cost_columns(
        values, {"latency_ms": np.array([1.1])}, metric="accuracy", directions=directions, first=["energy_mj"]
    )
    assert names == ["recall", "latency_ms", "energy_mj", "size_bytes", "macs"]
    assert costs.tolist() == [[-1.0, pytest.approx(1.1), 1.0, 1.0, 1.0]]
