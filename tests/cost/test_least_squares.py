"""Non-negative least squares against SciPy's, and what makes a solution the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from hwnas.cost.least_squares import non_negative_least_squares
from hwnas.types import FloatArray


def problem(seed: int, n: int, *, lean: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Random columns with a ridge, as corrections have; `lean` makes more coefficients negative without the bound."""
    random = np.random.default_rng(seed)
    a = np.vstack([random.normal(size=(2 * n, n)) + 1.0, 0.1 * np.eye(n)])
    return a, random.normal(size=3 * n) - lean


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), lean=st.sampled_from([-2.0, 0.0, 0.3, 2.0]))
def test_it_finds_what_scipy_finds(seed: int, n: int, lean: float) -> None:
    a, b = problem(seed, n, lean=lean)
    assert non_negative_least_squares(a, b) == pytest.approx(nnls(a, b)[0], rel=1e-7, abs=1e-9)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
def test_nothing_is_gained_by_moving_a_coefficient(seed: int, n: int) -> None:
    """The conditions of Karush, Kuhn and Tucker: no slope where it is positive, none downhill where it is 0."""
    a, b = problem(seed, n)
    x = non_negative_least_squares(a, b)
    slope = a.T @ (a @ x - b)
    assert x.min() >= 0
    assert np.abs(slope[x > 0]).max(initial=0.0) < 1e-8
    assert slope[x == 0].min(initial=0.0) > -1e-8


def test_coefficients_that_are_positive_anyhow_are_those_of_least_squares() -> None:
    a, _ = problem(1, 5)
    x = np.arange(1.0, 6.0)
    assert non_negative_least_squares(a, a @ x) == pytest.approx(x)


def test_what_can_only_be_met_from_below_is_0() -> None:
    assert non_negative_least_squares(np.eye(3), -np.ones(3)).tolist() == [0.0, 0.0, 0.0]
