import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost import exact
from hwnas.cost.elimination import Combine
from hwnas.cost.limits import check_reachable, feasible_encodings
from hwnas.cost.model import SlotCost, closed_form_costs
from hwnas.cost.slots import SlotBlocks
from hwnas.errors import ConfigError, InfeasibleError, Relaxation, UnknownNameError
from hwnas.limits import Limit
from hwnas.spaces.presets import mobilenet_v3_large
from hwnas.types import CostModel, Estimate, IntArray
from tests.cost.toy import ToySpace, everything

TOY = ToySpace()
BLOCKS = SlotBlocks.of(TOY)
ALL = everything(TOY)


def random_cost(metric: str, seed: int, *, combine: Combine = "sum", upper_ratio: float = 1.0) -> SlotCost:
    costs = dict(zip(BLOCKS.blocks, np.random.default_rng(seed).uniform(1, 9, len(BLOCKS.blocks)), strict=True))
    offset = 0.5 if combine == "sum" else 0.0
    table = BLOCKS.table(lambda b: float(costs[b]), combine=combine, offset=offset)
    return SlotCost(metric=metric, table=table, upper_ratio=upper_ratio)


def outcome(models: Mapping[str, CostModel], limits: Sequence[Limit]) -> tuple[IntArray | None, InfeasibleError | None]:
    try:
        return check_reachable(models, limits, TOY), None
    except InfeasibleError as e:
        return None, e


MODELS: Mapping[str, SlotCost] = {
    "latency_ms": random_cost("latency_ms", 0, upper_ratio=1.1),
    "size_bytes": random_cost("size_bytes", 1),
    "peak_memory_bytes": random_cost("peak_memory_bytes", 2, combine="max"),
}


def test_an_unreachable_limit_is_refused_with_the_smallest_upper_bound_and_who_reaches_it() -> None:
    upper = MODELS["latency_ms"].estimate(ALL).upper
    limit = Limit(metric="latency_ms", value=float(upper.min()) * 0.999)
    with pytest.raises(
        InfeasibleError, match=r"no network of toy keeps latency_ms <= .* smallest reachable is"
    ) as caught:
        check_reachable(MODELS, [limit], TOY)
    error = caught.value
    assert (error.metric, error.limit) == ("latency_ms", limit.value)
    assert error.reachable == upper.min()
    best = TOY.canonical(ALL[[upper.argmin()]])[0]
    assert error.architecture is not None
    assert all(c.options[best[i]] == error.architecture[c.name] for i, c in enumerate(TOY.choices) if c.parent is None)


def test_choices_that_are_off_are_not_part_of_the_architecture() -> None:
    limit = Limit(metric="macs", value=1)
    with pytest.raises(InfeasibleError) as caught:
        check_reachable(closed_form_costs(BLOCKS), [limit], TOY)
    assert caught.value.architecture == {"resolution": 8, "depth": 1, "a.kernel_size": 3, "a.precision": "fp32"}


def test_the_printed_value_is_itself_a_limit_that_can_be_kept() -> None:
    with pytest.raises(InfeasibleError) as caught:
        check_reachable(MODELS, [Limit(metric="latency_ms", value=0.1)], TOY)
    printed = float(str(caught.value).rsplit(" ", 1)[1])
    assert check_reachable(MODELS, [Limit(metric="latency_ms", value=printed)], TOY) is not None


def test_a_limit_between_value_and_upper_bound_is_not_kept() -> None:
    value, _ = MODELS["latency_ms"].bounds()
    with pytest.raises(InfeasibleError):
        check_reachable(MODELS, [Limit(metric="latency_ms", value=1.05 * value)], TOY)


LIMITS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(0.97, 1.5)),
    min_size=2,
    max_size=5,
    unique_by=lambda limit: limit[:2],
)


def possible(models: Mapping[str, CostModel], limits: Sequence[Limit]) -> bool:
    return bool(feasible_encodings(ALL, models, limits).any())


def as_limit(relaxation: Relaxation) -> Limit:
    return Limit(metric=relaxation.metric, value=relaxation.limit, floor=relaxation.floor)


def nearest_to(models: Mapping[str, CostModel], limit: Limit, others: Sequence[Limit]) -> float | None:
    """By trying all networks."""
    estimate = models[limit.metric].estimate(ALL[feasible_encodings(ALL, models, others)])
    values = estimate.value if limit.floor else estimate.upper
    return None if not len(values) else float(values.max() if limit.floor else values.min())


@given(
    seeds=st.tuples(*[st.integers(0, 999)] * 4),
    combine=st.tuples(*[st.sampled_from(["sum", "sum", "max"])] * 4),
    asked=LIMITS,
)
@settings(deadline=None, max_examples=60)
def test_limits_together_are_decided_as_trying_every_network_decides_them(
    seeds: tuple[int, ...], combine: tuple[Combine, ...], asked: list[tuple[str, bool, float]]
) -> None:
    models = {
        m: random_cost(m, seeds[i], upper_ratio=1.1 - 0.1 * (i % 2), combine=combine[i]) for i, m in enumerate("abcd")
    }
    # near the extremes of each, where sets are as often impossible as not
    limits = [
        Limit(metric=m, value=models[m].bounds()[1] / slack, floor=True)
        if floor
        else Limit(metric=m, value=models[m].bounds()[0] * models[m].upper_ratio * slack)
        for m, floor, slack in asked
    ]
    witness, error = outcome(models, limits)
    if error is None:
        assert witness is not None
        assert feasible_encodings(witness[None], models, limits).all()
        return
    assert not possible(models, limits)
    conflict = [as_limit(each) for each in error.conflict]
    assert set(conflict) <= set(limits)
    assert not possible(models, conflict)
    alone = [x for x in limits if not possible(models, [x])]
    if alone:
        assert set(conflict) == set(alone)
    else:
        assert all(possible(models, [x for x in conflict if x is not spared]) for spared in conflict)
    for each in error.conflict:
        others = [x for x in limits if x != as_limit(each)]
        assert each.reachable == nearest_to(models, as_limit(each), others)
    if any(each.reachable is not None for each in error.conflict):
        binding = min(error.conflict, key=lambda each: each.share)
        assert (error.metric, error.reachable) == (binding.metric, binding.reachable)
        assert error.together == ()
    else:
        loosened = {(x.metric, x.floor): x.reachable for x in error.together}
        now = [
            Limit(metric=x.metric, value=loosened.get((x.metric, x.floor), x.value) or 0.0, floor=x.floor)
            for x in limits
        ]
        assert possible(models, now)
        # as little as those that were loosened before it allow
        for i, x in enumerate(error.together):
            still = {(y.metric, y.floor) for y in error.together[i:]}
            before = [limit for limit in now if (limit.metric, limit.floor) not in still]
            assert x.reachable == nearest_to(models, as_limit(x), before)


@pytest.mark.parametrize("floor", [False, True])
def test_the_values_told_for_limits_that_conflict_can_be_typed_as_they_are_told(floor: bool) -> None:
    models = {m: MODELS[m] for m in ("latency_ms", "size_bytes")}
    slow = Limit(metric="latency_ms", value=models["latency_ms"].bounds()[1] * 0.999, floor=True)
    small = Limit(metric="size_bytes", value=models["size_bytes"].bounds()[0] * 1.001)
    with pytest.raises(
        InfeasibleError, match=r"; or with latency_ms >= .* kept, the smallest|; or with size"
    ) as caught:
        check_reachable(models, [slow, small], TOY)
    told = {m: float(v) for m, v in re.findall(r"reachable (\w+) is ([0-9.]+)", str(caught.value))}
    loosened = [
        Limit(metric="latency_ms", value=told["latency_ms"] if floor else slow.value, floor=True),
        Limit(metric="size_bytes", value=small.value if floor else told["size_bytes"]),
    ]
    assert check_reachable(models, loosened, TOY) is not None


def test_limits_that_have_no_part_in_the_conflict_are_not_blamed() -> None:
    models = MODELS
    limits = [
        Limit(metric="latency_ms", value=models["latency_ms"].bounds()[1] * 0.999, floor=True),
        Limit(metric="size_bytes", value=models["size_bytes"].bounds()[0] * 1.001),
        Limit(metric="peak_memory_bytes", value=models["peak_memory_bytes"].bounds()[1]),
    ]
    with pytest.raises(InfeasibleError, match=r"together: latency_ms >= \S+ and size_bytes <= \S+ conflict; with") as e:
        check_reachable(models, limits, TOY)
    assert {each.metric for each in e.value.conflict} == {"latency_ms", "size_bytes"}


@pytest.mark.parametrize("metric", ["latency_ms", "peak_memory_bytes"])
def test_a_limit_from_below_that_nothing_reaches_is_refused_with_the_largest_value(metric: str) -> None:
    _, largest = MODELS[metric].bounds()
    with pytest.raises(InfeasibleError, match="the largest reachable is") as caught:
        check_reachable(MODELS, [Limit(metric=metric, value=1.001 * largest, floor=True)], TOY)
    assert caught.value.reachable == largest
    assert check_reachable(MODELS, [Limit(metric=metric, value=largest, floor=True)], TOY) is not None


@pytest.mark.parametrize("metric", ["latency_ms", "size_bytes", "peak_memory_bytes"])
def test_both_sides_of_one_metric_leave_the_networks_between_them(metric: str) -> None:
    model = MODELS[metric]
    estimate = model.estimate(ALL)
    values = np.unique(estimate.value)
    # just one value, and then the gap beside it
    there, after = values[len(values) // 2], values[len(values) // 2 + 1]
    exactly = [
        Limit(metric=metric, value=float(there), floor=True),
        Limit(metric=metric, value=float(there * model.upper_ratio)),
    ]
    witness = check_reachable(MODELS, exactly, TOY)
    assert witness is not None
    assert model.estimate(witness[None]).value[0] == there
    between = [
        Limit(metric=metric, value=math.nextafter(there, math.inf), floor=True),
        Limit(metric=metric, value=math.nextafter(after * model.upper_ratio, 0)),
    ]
    with pytest.raises(InfeasibleError) as caught:
        check_reachable(MODELS, between, TOY)
    assert {(x.floor, x.reachable) for x in caught.value.conflict} == {
        (True, there),
        (False, after * model.upper_ratio),
    }


def test_a_limit_just_below_what_can_be_reached_is_refused_and_just_at_it_kept() -> None:
    models = {m: MODELS[m] for m in ("latency_ms", "size_bytes")}
    upper = {m: models[m].estimate(ALL).upper for m in models}
    size = Limit(metric="size_bytes", value=float(np.quantile(upper["size_bytes"], 0.01)))
    least = float(upper["latency_ms"][upper["size_bytes"] <= size.value].min())
    assert least > upper["latency_ms"].min()
    assert check_reachable(models, [size, Limit(metric="latency_ms", value=least)], TOY) is not None
    with pytest.raises(InfeasibleError) as caught:
        check_reachable(models, [size, Limit(metric="latency_ms", value=math.nextafter(least, 0))], TOY)
    assert caught.value.reachable == least


@pytest.mark.parametrize("seed", range(20))
def test_limits_that_are_just_what_a_network_costs_are_kept(seed: int) -> None:
    models = {m: random_cost(m, 10 * seed + i, upper_ratio=1 + 0.07 * i) for i, m in enumerate("abc")}
    network = ALL[[np.random.default_rng(seed).integers(len(ALL))]]
    limits = [Limit(metric=m, value=float(model.estimate(network).upper[0])) for m, model in models.items()]
    witness = check_reachable(models, limits, TOY)
    assert witness is not None
    assert feasible_encodings(witness[None], models, limits).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_search_that_puts_partial_networks_aside_ends_with_the_same_answer(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "_FIRST_PARTIAL", 1)
    monkeypatch.setattr(exact, "_WIDER", 2)
    models = {m: random_cost(m, 10 * seed + i) for i, m in enumerate("abc")}
    upper = {m: model.estimate(ALL).upper for m, model in models.items()}
    limits = [Limit(metric=m, value=float(np.quantile(u, 0.02))) for m, u in upper.items()]
    witness, error = outcome(models, limits)
    assert (witness is not None) == bool(feasible_encodings(ALL, models, limits).any())
    if error is not None and error.reachable is not None:
        others = [limit for limit in limits if limit.metric != error.metric]
        assert error.reachable == upper[error.metric][feasible_encodings(ALL, models, others)].min()


def test_without_time_nothing_is_claimed() -> None:
    a, b = random_cost("a", 3), random_cost("b", 103)
    upper = a.estimate(ALL).upper, b.estimate(ALL).upper
    limits = [Limit(metric=m, value=float(np.quantile(u, 0.002))) for m, u in zip("ab", upper, strict=True)]
    witness, error = outcome({"a": a, "b": b}, limits)
    assert witness is None
    assert error is not None
    with pytest.raises(InfeasibleError, match="by how much to loosen them was not found") as caught:  # proven already
        check_reachable({"a": a, "b": b}, limits, TOY, seconds=0.0)
    assert caught.value.reachable is None


def test_a_limit_on_a_sum_beside_one_on_a_peak_is_decided_exactly() -> None:
    models = {m: MODELS[m] for m in ("latency_ms", "peak_memory_bytes")}
    peak = Limit(metric="peak_memory_bytes", value=models["peak_memory_bytes"].bounds()[0])
    least = models["latency_ms"].estimate(ALL).upper[feasible_encodings(ALL, models, [peak])].min()
    assert check_reachable(models, [peak, Limit(metric="latency_ms", value=least * 1.0001)], TOY) is not None
    with pytest.raises(InfeasibleError, match=r"together: with peak_memory_bytes <= .* kept") as caught:
        check_reachable(models, [peak, Limit(metric="latency_ms", value=least * 0.9999)], TOY)
    assert caught.value.reachable == least


def test_limits_on_a_large_space_are_decided_together() -> None:
    space = mobilenet_v3_large()
    models = closed_form_costs(SlotBlocks.of(space))
    smallest = {m: models[m].bounds()[0] for m in models}
    loose = [Limit(metric=m, value=2 * v) for m, v in smallest.items()]
    witness = check_reachable(models, loose, space)
    assert witness is not None
    assert feasible_encodings(witness[None], models, loose).all()


def test_without_limits_any_network_is_a_witness() -> None:
    assert check_reachable(MODELS, [], TOY) is not None


def test_two_limits_on_one_metric_are_one() -> None:
    low, _ = MODELS["size_bytes"].bounds()
    limits = [Limit(metric="size_bytes", value=v) for v in (2 * low, low)]
    witness = check_reachable(MODELS, limits, TOY)
    assert witness is not None
    assert feasible_encodings(witness[None], MODELS, limits).all()


def test_a_model_without_slot_tables_still_has_its_own_limit_checked() -> None:
    class Foreign:
        metric = "score"

        def estimate(self, encodings: IntArray) -> Estimate:
            value = encodings.sum(axis=1).astype(float) + 1
            return Estimate(value=value, upper=value)

        def bounds(self) -> tuple[float, float]:
            return 1.0, 10.0

        def minimizer(self) -> IntArray:
            return np.zeros(6, dtype=np.int64)

    models = {**MODELS, "score": Foreign()}
    with pytest.raises(InfeasibleError, match=r"smallest reachable is 1"):
        check_reachable(models, [Limit(metric="score", value=0.5)], TOY)
    limits = [Limit(metric="score", value=1.5), Limit(metric="size_bytes", value=1000.0)]
    witness = check_reachable(models, limits, TOY)
    assert witness is None or feasible_encodings(witness[None], models, limits).all()


def test_a_limit_is_kept_by_the_upper_bound() -> None:
    upper = MODELS["latency_ms"].estimate(ALL).upper
    limit = Limit(metric="latency_ms", value=float(np.median(upper)))
    assert (feasible_encodings(ALL, MODELS, [limit]) == (upper <= limit.value)).all()


def test_without_limits_every_network_is_kept() -> None:
    assert feasible_encodings(ALL, MODELS, []).all()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="must be a positive number"):
        check_reachable(MODELS, [Limit(metric="size_bytes", value=value)], TOY)


def test_a_limit_on_an_unknown_metric_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'energy_mj'; known: latency_ms, peak_memory_bytes, size_bytes"):
        feasible_encodings(ALL, MODELS, [Limit(metric="energy_mj", value=1.0)])
