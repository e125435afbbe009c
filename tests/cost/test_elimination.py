import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost.elimination import Combine, Factor, optimum
from hwnas.errors import SpaceError


@st.composite
def factor_graphs(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Factor]]:
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scopes = st.lists(st.integers(0, len(sizes) - 1), unique=True, max_size=3)
    factors = []
    for scope in draw(st.lists(scopes, max_size=7)):
        # few distinct values: ties and axes without effect occur
        values = rng.integers(0, 5, size=[sizes[v] for v in scope]).astype(float)
        factors.append(Factor.over(scope, values))
    return sizes, factors


def value_of(factors: list[Factor], assignment: tuple[int, ...], combine: Combine) -> float:
    values = [float(f.values[tuple(assignment[v] for v in f.scope)]) for f in factors]
    return (sum(values) if combine == "sum" else max(values)) if values else 0.0


@pytest.mark.parametrize("combine", ["sum", "max"])
@pytest.mark.parametrize("maximize", [False, True])
@given(graph=factor_graphs())
@settings(deadline=None, max_examples=60)
def test_the_optimum_is_that_of_brute_force(
    graph: tuple[tuple[int, ...], list[Factor]], combine: Combine, maximize: bool
) -> None:
    sizes, factors = graph
    found = optimum(factors, sizes, combine=combine, maximize=maximize)
    values = [value_of(factors, a, combine) for a in itertools.product(*map(range, sizes))]
    assert found.value == (max if maximize else min)(values)
    assert value_of(factors, tuple(found.assignment), combine) == found.value


@given(graph=factor_graphs())
@settings(deadline=None)
def test_variables_in_no_factor_are_zero(graph: tuple[tuple[int, ...], list[Factor]]) -> None:
    sizes, factors = graph
    used = {v for f in factors for v in f.scope}
    assert all(x == 0 for v, x in enumerate(optimum(factors, sizes).assignment) if v not in used)


def test_infinite_entries_are_forbidden() -> None:
    factors = [
        Factor(scope=(0,), values=np.array([1.0, 2.0])),
        Factor(scope=(0, 1), values=np.array([[np.inf, np.inf], [np.inf, 0.0]])),
    ]
    found = optimum(factors, (2, 2))
    assert found.value == 2.0
    assert found.assignment.tolist() == [1, 1]


def test_an_optimum_without_any_allowed_assignment_is_infinite() -> None:
    assert math.isinf(optimum([Factor(scope=(0,), values=np.full(2, np.inf))], (2,)).value)


def test_a_long_chain_needs_only_small_tables() -> None:
    n = 200
    factors = [Factor(scope=(i, i + 1), values=np.eye(3)) for i in range(n - 1)]
    found = optimum(factors, (3,) * n, max_entries=27)
    assert found.value == 0
    assert (np.diff(found.assignment) != 0).all()


def test_a_graph_that_is_too_wide_is_refused_with_the_size() -> None:
    factors = [Factor(scope=pair, values=np.eye(4)) for pair in itertools.combinations(range(6), 2)]
    with pytest.raises(SpaceError, match=r"4,096 entries over 6 choices.* at most 1,000"):
        optimum(factors, (4,) * 6, max_entries=1000)


def test_factors_over_any_order_of_axes_are_sorted() -> None:
    values = np.arange(6.0).reshape(2, 3)
    factor = Factor.over((4, 1), values)
    assert factor.scope == (1, 4)
    assert (factor.values == values.T).all()


def test_variables_without_effect_are_dropped() -> None:
    factor = Factor.over((0, 1), np.array([[1.0, 2.0], [1.0, 2.0]]))
    assert factor.scope == (1,)
    assert factor.values.tolist() == [1.0, 2.0]
