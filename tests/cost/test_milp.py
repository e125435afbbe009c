import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost import _integer
from hwnas.cost.elimination import Combine, Factor
from hwnas.cost.exact import UndecidedError
from hwnas.cost.milp import Objective, best_within
from hwnas.cost.model import SlotCost
from hwnas.cost.slots import SlotBlocks, SlotTable
from hwnas.errors import InfeasibleError, UnknownNameError
from hwnas.limits import Limit, feasible
from hwnas.spaces import CategoricalSpace
from hwnas.types import BoolArray, CostModel, Estimate, FloatArray, IntArray, SearchSpace
from tests.cost.toy import ToySpace, everything

TOY = ToySpace()
BLOCKS = SlotBlocks.of(TOY)
ALL = np.unique(TOY.canonical(everything(TOY)), axis=0)


def cost_of_blocks(metric: str, rng: np.random.Generator, *, combine: Combine = "sum") -> SlotCost:
    costs = dict(zip(BLOCKS.blocks, rng.uniform(1, 9, len(BLOCKS.blocks)), strict=True))
    table = BLOCKS.table(lambda b: float(costs[b]), combine=combine, offset=float(rng.uniform(-1, 1)))
    return SlotCost(metric=metric, table=table, upper_ratio=float(rng.choice([1.0, 1.1])))


def pairwise(space: SearchSpace, rng: np.random.Generator) -> Objective:
    """A number for each option, and one for each pair of options of some pairs of choices."""
    sizes = [len(c.options) for c in space.choices]
    scopes = [(i,) for i in range(len(sizes))]
    scopes += [p for p in itertools.combinations(range(len(sizes)), 2) if rng.random() < 0.5]
    factors = tuple(Factor(scope=s, values=rng.normal(size=[sizes[i] for i in s])) for s in scopes)
    return Objective(factors=factors, constant=float(rng.normal()))


def values(objective: Objective, encodings: IntArray) -> FloatArray:
    return np.array([objective.value(e) for e in encodings])


def kept(models: dict[str, SlotCost], limits: Sequence[Limit], encodings: IntArray) -> BoolArray:
    found = {m: model.estimate(encodings) for m, model in models.items()}
    return feasible(limits, {m: e.value for m, e in found.items()}, {m: e.upper for m, e in found.items()})


@given(
    seed=st.integers(0, 10_000),
    combine=st.tuples(*[st.sampled_from(["sum", "sum", "max"])] * 3),
    floor=st.tuples(*[st.booleans()] * 3),
    share=st.tuples(*[st.floats(0.0, 1.0)] * 3),
    n=st.integers(0, 3),
)
@settings(deadline=None, max_examples=20)
def test_it_finds_what_trying_every_network_finds(
    seed: int, combine: tuple[Combine, ...], floor: tuple[bool, ...], share: tuple[float, ...], n: int
) -> None:
    rng = np.random.default_rng(seed)
    objective = pairwise(TOY, rng)
    models = {m: cost_of_blocks(m, rng, combine=combine[i]) for i, m in enumerate("abc"[:n])}
    limits = []
    for i, (m, model) in enumerate(models.items()):
        low, high = model.bounds()
        limits.append(Limit(metric=m, value=low + share[i] * (high - low), floor=floor[i]))
    allowed = ALL[kept(models, limits, ALL)] if limits else ALL
    if not len(allowed):
        with pytest.raises(InfeasibleError, match="no network of toy keeps"):
            best_within(objective, TOY, models=models, limits=limits)
        return
    found = best_within(objective, TOY, models=models, limits=limits)
    assert found.encoding.tolist() in allowed.tolist()
    assert found.value == objective.value(found.encoding)
    best = float(values(objective, allowed).max())
    assert found.value == pytest.approx(best, abs=1e-5)
    assert found.bound >= best - 1e-9
    assert found.gap < 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_that_just_one_network_keeps_is_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = cost_of_blocks("a", rng)
    limit = Limit(metric="a", value=float(model.estimate(ALL).upper.min()))
    found = best_within(pairwise(TOY, rng), TOY, models={"a": model}, limits=[limit])
    assert limit.is_kept_by(float(model.estimate(found.encoding[None]).upper[0]))
    with pytest.raises(InfeasibleError):
        best_within(
            pairwise(TOY, rng), TOY, models={"a": model}, limits=[Limit(metric="a", value=limit.value * (1 - 1e-5))]
        )


def switches(n: int) -> CategoricalSpace:
    return CategoricalSpace({f"s{i}": (0, 1) for i in range(n)}, name="switches")


def counted(space: CategoricalSpace, cost: float) -> tuple[SlotCost, Objective]:
    """A cost for each switch that is on, and an objective that wants them on, the last ones more."""
    n = len(space.choices)
    factors = tuple(Factor(scope=(i,), values=np.array([0.0, cost])) for i in range(n))
    wanted = tuple(Factor(scope=(i,), values=np.array([0.0, 1 + 0.01 * i])) for i in range(n))
    return SlotCost(metric="a", table=SlotTable(sizes=(2,) * n, factors=factors)), Objective(factors=wanted)


@pytest.mark.parametrize("n", [3, 7])  # one network beyond the limit by rounding alone; or thirty-five
def test_a_network_beyond_a_limit_by_less_than_the_solver_sees_is_never_returned(n: int) -> None:
    space = switches(n)
    model, objective = counted(space, 1 + 1e-9)  # three switches cost 3 and a little more
    found = best_within(objective, space, models={"a": model}, limits=[Limit(metric="a", value=3.0)])
    assert found.encoding.sum() == 2
    assert found.encoding[-2:].tolist() == [1, 1]
    assert found.bound >= found.value


def test_many_choices_that_depend_on_each_other_need_no_large_table() -> None:
    space = switches(12)
    rng = np.random.default_rng(0)
    pairs = itertools.combinations(range(12), 2)
    objective = Objective(factors=tuple(Factor(scope=p, values=rng.normal(size=(2, 2))) for p in pairs))
    model, _ = counted(space, 1.0)
    found = best_within(objective, space, models={"a": model}, limits=[Limit(metric="a", value=6.0)])
    every = everything(space)
    best = values(objective, every[every.sum(axis=1) <= 6]).max()
    assert found.value == pytest.approx(best)
    assert found.gap < 1e-4


def test_an_answer_within_the_gap_asked_for_is_enough() -> None:
    rng = np.random.default_rng(1)
    objective = pairwise(TOY, rng)
    model = cost_of_blocks("a", rng)
    limit = Limit(metric="a", value=sum(model.bounds()) / 2)
    best = best_within(objective, TOY, models={"a": model}, limits=[limit]).value
    near = best_within(objective, TOY, models={"a": model}, limits=[limit], gap=1.0)
    assert near.value <= best <= near.bound
    assert near.gap <= 1.0 + 1e-9


def test_without_time_nothing_is_claimed() -> None:
    model = cost_of_blocks("a", np.random.default_rng(2))
    limit = Limit(metric="a", value=model.bounds()[1])
    with pytest.raises(UndecidedError, match="time"):
        best_within(pairwise(TOY, np.random.default_rng(2)), TOY, models={"a": model}, limits=[limit], seconds=0.0)


def test_tables_over_states_count_choices_that_are_off() -> None:
    """A choice below one below another: off where either switches it off."""
    space = CategoricalSpace(
        {"a": (0, 1, 2), "b": (0, 1), "c": (0, 1), "d": (0, 1)},
        conditions={"b": ("a", (1, 2)), "c": ("b", (1,))},
    )
    rng = np.random.default_rng(0)
    tables = [((2,), rng.normal(size=3)), ((1, 3), rng.normal(size=(3, 2))), ((0,), rng.normal(size=3))]
    objective = Objective.over_states(space.choices, tables, constant=5.0)
    every = np.unique(space.canonical(everything(space)), axis=0)
    states = np.where(space.active(every), every, [3, 2, 2, 2])
    expected = 5.0 + sum(v[tuple(states[:, c] for c in scope)] for scope, v in tables)
    assert values(objective, every) == pytest.approx(expected)
    found = best_within(objective, space, models={}, limits=[])
    assert found.value == pytest.approx(expected.max())
    assert found.encoding.tolist() == every[expected.argmax()].tolist()


def test_a_model_without_slot_tables_is_asked_about_what_is_found() -> None:
    class Foreign:
        metric = "score"

        def estimate(self, encodings: IntArray) -> Estimate:
            value = encodings[:, 0].astype(float)
            return Estimate(value=value, upper=value)

        def bounds(self) -> tuple[float, float]:
            return 0.0, 1.0

        def minimizer(self) -> IntArray:
            return np.zeros(2, dtype=np.int64)

    space = switches(2)
    models: dict[str, CostModel] = {"score": Foreign()}
    _, objective = counted(space, 1.0)
    found = best_within(objective, space, models=models, limits=[Limit(metric="score", value=0.5)])
    assert found.encoding.tolist() == [0, 1]


def test_a_limit_on_an_unknown_metric_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="known: a"):
        best_within(
            Objective(factors=()),
            TOY,
            models={"a": cost_of_blocks("a", np.random.default_rng(0))},
            limits=[Limit(metric="b", value=1.0)],
        )


def test_limits_on_peaks_are_kept_from_both_sides() -> None:
    rng = np.random.default_rng(3)
    model = cost_of_blocks("peak", rng, combine="max")
    peaks = model.estimate(ALL).value
    low, high = np.quantile(peaks, [0.4, 0.6])
    limits = [Limit(metric="peak", value=float(low), floor=True), Limit(metric="peak", value=float(high) * 1.1)]
    objective = pairwise(TOY, rng)
    found = best_within(objective, TOY, models={"peak": model}, limits=limits)
    allowed = ALL[kept({"peak": model}, limits, ALL)]
    assert found.value == pytest.approx(float(values(objective, allowed).max()))


def test_a_choice_that_most_tables_ask_for_is_decided_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is the same with and without; with it there is a program for each of its options."""
    rng = np.random.default_rng(4)
    objective = pairwise(TOY, rng)
    model = cost_of_blocks("a", rng)
    limit = Limit(metric="a", value=sum(model.bounds()) / 2)
    factors = [*model.table.factors, *model.table.factors]
    assert _integer._asked_most(TOY.choices, factors) == 0
    parted = best_within(objective, TOY, models={"a": model}, limits=[limit])
    monkeypatch.setattr(_integer, "_MOST_OPTIONS", 0)
    whole = best_within(objective, TOY, models={"a": model}, limits=[limit])
    assert whole.encoding.tolist() == parted.encoding.tolist()
    assert math.isclose(whole.bound, parted.bound, abs_tol=1e-4)
