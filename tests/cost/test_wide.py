"""Tables over choices that all depend on each other: the same answers, where dynamic programming has no room."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from hwnas.cost import SlotCost, SlotTable, check_reachable, feasible_encodings
from hwnas.cost.elimination import Combine, Factor, optimum
from hwnas.cost.exact import Cost, Exact, UndecidedError
from hwnas.cost.wide import Wide, wide_optimum
from hwnas.errors import InfeasibleError, SpaceError
from hwnas.limits import Limit
from hwnas.spaces import CategoricalSpace
from hwnas.types import FloatArray


def joined(widths: FloatArray, n: int, *, seed: int) -> tuple[Factor, ...]:
    """A slot for each two of n widths, as where each stage reads all stages before it: about their product."""
    rng = np.random.default_rng(seed)
    products = np.multiply.outer(widths, widths)
    return tuple(
        Factor(scope=pair, values=products * rng.uniform(0.5, 1.5, products.shape))
        for pair in itertools.combinations(range(n), 2)
    )


WIDTHS = np.linspace(1.0, 4.0, 9)
MANY = 9  # widths of nine options each: a table of 9^9 entries
SPACE = CategoricalSpace({f"w{i}": tuple(range(len(WIDTHS))) for i in range(MANY)}, name="dense")


def cost(factors: tuple[Factor, ...], combine: Combine = "sum") -> Cost:
    return Cost(factors=factors, combine=combine, offset=0.5, ratio=1.1)


def wide(costs: dict[str, Cost], n: int, options: int) -> Wide:
    return Wide(costs, [options] * n, until=time.monotonic() + 60)


@pytest.mark.parametrize("combine", ["sum", "max"])
@pytest.mark.parametrize("maximize", [False, True])
def test_the_optimum_is_that_of_elimination(combine: Combine, maximize: bool) -> None:
    factors = joined(WIDTHS[:4], 4, seed=0)
    found = wide_optimum(factors, [4] * 4, combine=combine, maximize=maximize)
    expected = optimum(factors, [4] * 4, combine=combine, maximize=maximize)
    assert found.value == pytest.approx(expected.value, rel=1e-6)
    assert cost(factors, combine).combined(found.assignment) == found.value


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("combine", ["sum", "max"])
def test_what_limits_allow_is_what_dropping_partial_networks_finds(seed: int, combine: Combine) -> None:
    costs = {"a": cost(joined(WIDTHS[:3], 4, seed=seed), combine), "b": cost(joined(WIDTHS[2::-1], 4, seed=seed + 10))}
    exact, other = Exact(costs, [3] * 4, until=time.monotonic() + 60), wide(costs, 4, 3)
    every = np.array(list(itertools.product(range(3), repeat=4)))
    b = np.array([costs["b"].value(e) for e in every])
    limits = {"b": float(np.quantile(b, 0.2))}
    known = max(costs["a"].value(e) for e in every)
    expected = costs["a"].value(exact.smallest("a", limits, known=known))
    found = other.smallest("a", limits, known=known)
    assert costs["a"].value(found) == pytest.approx(expected, rel=1e-6)
    assert costs["b"].value(found) <= limits["b"]
    together = {**limits, "a": expected}
    kept = other.feasible(together)
    assert kept is not None
    assert all(costs[m].value(kept) <= value for m, value in together.items())
    assert other.feasible({**limits, "a": expected * (1 - 1e-4)}) is None


def test_a_space_too_dense_for_tables_has_its_extremes_and_limits_decided() -> None:
    sizes = (len(WIDTHS),) * MANY
    factors = joined(WIDTHS, MANY, seed=1)
    with pytest.raises(SpaceError, match="table of"):
        optimum(factors, sizes)
    with pytest.raises(UndecidedError, match="depend on each other"):
        Exact({"macs": cost(factors)}, sizes, until=time.monotonic() + 60)
    macs = SlotCost(metric="macs", table=SlotTable(sizes=sizes, factors=factors))
    size = tuple(Factor(scope=(i,), values=WIDTHS[::-1] * 1.0) for i in range(MANY))
    models = {"macs": macs, "size_bytes": SlotCost(metric="size_bytes", table=SlotTable(sizes=sizes, factors=size))}
    least, _ = models["size_bytes"].bounds()
    least_macs = macs.table.minimum().value
    assert least_macs <= min(macs.estimate(SPACE.sample(2000, np.random.default_rng(0))).value)
    kept = check_reachable(models, [Limit(metric="macs", value=1.0001 * least_macs)], SPACE)
    assert kept is not None
    limits = [Limit(metric="macs", value=1.01 * least_macs), Limit(metric="size_bytes", value=1.01 * least)]
    with pytest.raises(InfeasibleError, match="together"):
        check_reachable(models, limits, SPACE)
    loose = [Limit(metric="macs", value=6 * least_macs), Limit(metric="size_bytes", value=3 * least)]
    found = check_reachable(models, loose, SPACE)
    assert found is not None
    assert feasible_encodings(found[None], models, loose).all()


def test_without_time_nothing_is_claimed() -> None:
    costs = {"a": cost(joined(WIDTHS[:3], 4, seed=0))}
    with pytest.raises(UndecidedError, match="time"):
        Wide(costs, [3] * 4, until=time.monotonic()).feasible({"a": 100.0})
