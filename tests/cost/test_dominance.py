import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost._dominance import undominated
from hwnas.types import BoolArray, FloatArray, IntArray


def nowhere_above(state: IntArray, values: FloatArray) -> BoolArray:
    """(N, N) whether row i is in the state of row j and in no cost above it."""
    is_so: BoolArray = (state[:, None] == state[None]) & (values[:, None] <= values[None]).all(axis=2)
    return is_so


@given(
    seed=st.integers(0, 9999), n=st.integers(0, 40), costs=st.integers(0, 5), levels=st.integers(1, 8),
    states=st.integers(1, 4),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_of_every_row_one_that_is_nowhere_above_stays_and_of_those_that_stay_none_is_above_another(
    seed: int, n: int, costs: int, levels: int, states: int
) -> None:
    rng = np.random.default_rng(seed)
    state, values = rng.integers(0, states, n), rng.integers(0, levels, (n, costs)).astype(float)
    rows = undominated(state, values, states=states)
    is_below = nowhere_above(state, values)
    assert (np.diff(rows) > 0).all()
    assert is_below[rows].any(axis=0).all()
    assert is_below[np.ix_(rows, rows)].sum() == len(rows)  # each below itself alone


@pytest.mark.parametrize("costs", [1, 2, 3])
def test_of_thousands_of_rows_none_stays_that_another_one_dominates(costs: int) -> None:
    rng = np.random.default_rng(costs)
    # near a plane: most are low in one cost where they are high in another
    values = rng.normal(size=(2000, costs))
    values -= 0.9 * values.mean(axis=1, keepdims=True)
    state = rng.integers(0, 3, len(values))
    rows = undominated(state, values, states=3)
    is_below = nowhere_above(state, values)
    assert is_below[np.ix_(rows, rows)].sum() == len(rows)
    assert is_below[rows].any(axis=0).all()
