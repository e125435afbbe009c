"""Limits: kept exactly, by whoever asks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.allowed import Between
from hwnas.errors import ConfigError
from hwnas.limits import Limit, as_limits, as_mapping, ceiling, conflicting, excess, feasible, listed, round_up
from hwnas.quantities import NBSP, limit_text
from hwnas.types import Direction

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=1e-12, max_value=1e15)


@given(value=NUMBERS, floor=st.booleans())
def test_the_limit_itself_keeps_it_and_the_next_number_beyond_does_not(value: float, floor: bool) -> None:
    limit = Limit(metric="m", value=value, floor=floor)
    assert limit.is_kept_by(value)
    assert not limit.is_kept_by(math.nextafter(value, -math.inf if floor else math.inf))


@given(limit=st.floats(-1e200, 1e200), values=st.lists(st.floats(-1e200, 1e200), max_size=5), floor=st.booleans())
def test_one_value_and_columns_of_values_are_judged_alike(limit: float, values: list[float], floor: bool) -> None:
    asked = Limit(metric="m", value=limit, floor=floor)
    near = [limit, math.nextafter(limit, math.inf), math.nextafter(limit, -math.inf), *values]
    assert feasible([asked], {"m": np.array(near)}).tolist() == [asked.is_kept_by(v) for v in near]


def test_a_value_that_is_not_known_keeps_no_limit() -> None:
    limit = Limit(metric="m", value=1.0)
    assert not limit.is_kept_by(math.nan)
    assert excess([limit], {"m": np.array([np.nan, 0.5])})[:, 0].tolist() == [math.inf, 0.0]


def test_what_is_beyond_is_told_as_a_share_of_the_limit() -> None:
    limits = as_limits({"latency_ms": 2.0, "accuracy": 0.8}, {"accuracy": Direction.MAXIMIZE})
    found = excess(limits, {"latency_ms": np.array([1.0, 3.0]), "accuracy": np.array([0.9, 0.6])})
    np.testing.assert_allclose(found, [[0, 0], [0.5, 0.25]])


def test_a_limit_is_kept_by_the_upper_bound_and_a_floor_by_the_value() -> None:
    values, upper = {"m": np.array([1.0, 1.0])}, {"m": np.array([1.5, np.nan])}
    assert feasible([Limit(metric="m", value=1.2)], values, upper).tolist() == [False, False]
    assert feasible([Limit(metric="m", value=0.9, floor=True)], values, upper).all()


def test_without_limits_all_are_kept() -> None:
    assert feasible([], {"m": np.array([1.0, np.nan])}).tolist() == [True, True]


@given(value=POSITIVE, floor=st.booleans())
def test_a_value_keeps_the_limit_it_is_told_as(value: float, floor: bool) -> None:
    told = float(Limit(metric="m", value=1.0, floor=floor).met_at(value))
    assert Limit(metric="m", value=told, floor=floor).is_kept_by(value)
    assert told == pytest.approx(value, rel=1.001e-3)


@pytest.mark.parametrize(("value", "text"), [(0.12341, "0.1235"), (300_000.0, "300000"), (123_412.0, "123500")])
def test_a_number_rounded_up_is_written_without_an_exponent(value: float, text: str) -> None:
    assert round_up(value) == text


DIRECTIONS = {"accuracy": Direction.MAXIMIZE}


def test_both_sides_are_two_limits_and_a_number_is_the_usual_one() -> None:
    found = as_limits({"latency_ms": Between(at_least=1.0, at_most=2.0), "accuracy": 0.9, "macs": 5.0}, DIRECTIONS)
    assert listed(found) == "latency_ms >= 1 and latency_ms <= 2 and accuracy >= 0.9 and macs <= 5"


@given(st.lists(st.builds(Limit, metric=st.sampled_from(["accuracy", "m"]), value=POSITIVE, floor=st.booleans())))
def test_a_mapping_keeps_what_all_its_limits_keep(limits: list[Limit]) -> None:
    try:
        tightest = as_limits(as_mapping(limits, DIRECTIONS), DIRECTIONS)
    except ConfigError:
        least = {x.metric: max(y.value for y in limits if y.floor and y.metric == x.metric) for x in limits if x.floor}
        assert any(not x.floor and x.value < least.get(x.metric, 0.0) for x in limits)
        return
    for metric in ("accuracy", "m"):
        for value in [x.value for x in limits]:
            asked, kept = [x for x in limits if x.metric == metric], [x for x in tightest if x.metric == metric]
            assert all(x.is_kept_by(value) for x in asked) == all(x.is_kept_by(value) for x in kept)


def test_one_usual_side_is_a_number_again() -> None:
    limits = {"accuracy": Between(at_least=0.9), "latency_ms": Between(at_most=2.0), "macs": Between(at_least=1.0)}
    assert as_mapping(as_limits(limits), DIRECTIONS) == {
        "accuracy": 0.9,
        "latency_ms": 2.0,
        "macs": Between(at_least=1.0),
    }


def test_the_ceiling_is_the_side_from_above() -> None:
    limits = {"a": 2.0, "b": Between(at_least=1.0), "c": Between(at_least=1.0, at_most=3.0)}
    assert [ceiling(limits, m) for m in "abcd"] == [2.0, None, 3.0, None]


@given(st.lists(st.sets(st.integers(0, 4)), max_size=8))
def test_of_limits_that_conflict_none_can_be_spared(kept_by: list[set[int]]) -> None:
    limits = [Limit(metric=str(i), value=1.0) for i in range(5)]

    def possible(some: Sequence[Limit]) -> bool:
        return any({int(x.metric) for x in some} <= kept for kept in kept_by)

    if possible(limits):
        return
    found = conflicting(limits, possible)
    if any(not possible([x]) for x in limits):
        assert found == [x for x in limits if not possible([x])]
        return
    assert not possible(found)
    assert all(possible([x for x in found if x is not spared]) for spared in found)


def test_limits_are_written_as_conditions_and_said_in_words() -> None:
    limits = as_limits({"latency_ms": 2, "accuracy": 0.9}, {"accuracy": Direction.MAXIMIZE})
    assert listed(limits) == "latency_ms <= 2 and accuracy >= 0.9"
    assert [limit_text(x) for x in limits] == [f"at most 2{NBSP}ms", f"at least 90.0{NBSP}%"]
