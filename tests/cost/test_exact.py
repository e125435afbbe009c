import math

import numpy as np
import pytest

from hwnas.cost import exact
from hwnas.cost.elimination import Combine
from hwnas.cost.exact import Exact
from hwnas.types import FloatArray
from tests.cost.chains import ALL, SIZES, random_costs

KINDS: list[list[Combine]] = [["sum", "sum", "max"], ["max", "sum", "sum"], ["sum", "max", "max"]]


def case(combine: list[Combine], *, seed: int, neighbours: int) -> tuple[Exact, FloatArray]:
    """The costs of a chain to be asked, and (N, 3) what all assignments cost."""
    costs = random_costs(combine, seed=seed, neighbours=neighbours)
    values = np.array([[c.combined(x) for c in costs] for x in ALL])
    return Exact(dict(zip("abc", costs, strict=True)), SIZES, until=math.inf), values


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("combine", KINDS)
@pytest.mark.parametrize("neighbours", [5, 1])  # parted by the first variable or not
@pytest.mark.parametrize("few", [False, True])
def test_the_least_within_limits_is_that_of_trying_all_however_few_are_followed_at_once(
    monkeypatch: pytest.MonkeyPatch, combine: list[Combine], seed: int, neighbours: int, few: bool
) -> None:
    if few:
        monkeypatch.setattr(exact, "_FIRST_PARTIAL", 1)
        monkeypatch.setattr(exact, "_WIDER", 2)
    asked, values = case(combine, seed=seed, neighbours=neighbours)
    limits = np.quantile(values[:, 1:], (0.15, 0.5), axis=0)[seed % 2]
    kept = (values[:, 1:] <= limits).all(axis=1)
    if not kept.any():
        assert asked.feasible({"b": limits[0], "c": limits[1]}) is None
        return
    known = float(values[kept, 0].max())
    found = asked.smallest("a", {"b": limits[0], "c": limits[1]}, known=known)
    mine = values[(found == ALL).all(axis=1)][0]
    assert (mine[1:] <= limits).all()
    assert mine[0] == values[kept, 0].min()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("neighbours", [5, 1])
def test_limits_are_possible_where_one_of_all_keeps_them(
    monkeypatch: pytest.MonkeyPatch, seed: int, few: bool, neighbours: int
) -> None:
    if few:
        monkeypatch.setattr(exact, "_NARROW", 1)
        monkeypatch.setattr(exact, "_FIRST_PARTIAL", 1)
        monkeypatch.setattr(exact, "_WIDER", 2)
    asked, values = case(["sum", "sum", "max"], seed=seed, neighbours=neighbours)
    near = values[np.argsort(values.sum(axis=1))[seed]]  # near the edge of what is possible
    for limits in (near, near - [1.0, 2.0, 0.0], near - [3.0, 0.0, 0.0]):
        found = asked.feasible(dict(zip("abc", limits.tolist(), strict=True)))
        assert (found is None) == (not (values <= limits).all(axis=1).any())
        assert found is None or (values[(found == ALL).all(axis=1)] <= limits).all()
