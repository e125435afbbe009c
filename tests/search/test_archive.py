import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwnas.search.archive import hypervolume, non_dominated, oriented
from hwnas.types import Direction

# few distinct numbers: ties and duplicates are what goes wrong
GRID = st.integers(0, 4).map(float)
POINTS = st.integers(1, 4).flatmap(
    lambda m: hnp.arrays(np.float64, st.tuples(st.integers(1, 24), st.just(m)), elements=GRID)
)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@settings(deadline=None)
@given(POINTS)
def test_front_is_exactly_the_points_that_no_point_dominates(points: np.ndarray) -> None:
    expected = [not any(dominates(q, p) for q in points) for p in points]
    assert non_dominated(points).tolist() == expected


def test_equal_points_are_all_in_the_front() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist() == [True, True, False]


def test_a_point_with_nan_is_never_in_the_front() -> None:
    points = np.array([[np.nan, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert non_dominated(points).tolist() == [False, True, False]


def test_no_points_have_no_front_and_no_volume() -> None:
    assert non_dominated(np.zeros((0, 2))).tolist() == []
    assert hypervolume(np.zeros((0, 2)), reference=(1.0, 1.0)) == 0.0


@settings(deadline=None)
@given(POINTS)
def test_hypervolume_counts_the_dominated_cells_of_the_grid(points: np.ndarray) -> None:
    m = points.shape[1]
    cells = np.array(list(itertools.product(range(4), repeat=m)), dtype=float)  # unit cells up to the corner (4, ...)
    dominated = sum(any((p <= c).all() for p in points) for c in cells)
    assert hypervolume(points, reference=[4.0] * m) == pytest.approx(dominated)


@settings(deadline=None)
@given(POINTS, st.data())
def test_hypervolume_never_falls_when_a_point_is_added(points: np.ndarray, data: st.DataObject) -> None:
    m = points.shape[1]
    new = data.draw(hnp.arrays(np.float64, (1, m), elements=GRID))
    before, after = (hypervolume(p, reference=[5.0] * m) for p in (points, np.concatenate([points, new])))
    assert after >= before - 1e-9


def test_hypervolume_in_three_dimensions_by_hand() -> None:
    # two boxes of 1x2x2 and 2x1x1 up to (3, 3, 3): 4 + 2 minus their overlap 1x1x1
    points = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 2.0]])
    assert hypervolume(points, reference=(3.0, 3.0, 3.0)) == pytest.approx(4 + 2 - 1)


def test_hypervolume_refuses_a_reference_of_other_size() -> None:
    with pytest.raises(ValueError, match=r"\(N, M\) and \(M,\)"):
        hypervolume(np.zeros((3, 2)), reference=(1.0, 1.0, 1.0))


def test_oriented_turns_what_is_maximised_around() -> None:
    values = {"accuracy": np.array([0.9]), "latency_ms": np.array([2.0])}
    directions = {"accuracy": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE}
    assert oriented(values, directions).tolist() == [[-0.9, 2.0]]
