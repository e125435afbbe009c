"""What is allowed of a metric, as it is said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.allowed import Allowed, Between, limits_from_json, limits_to_json
from hwnas.errors import ConfigError

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SIDES = st.one_of(
    NUMBERS,
    st.builds(lambda v: Between(at_least=v), NUMBERS),
    st.builds(lambda v: Between(at_most=v), NUMBERS),
    st.builds(lambda a, b: Between(at_least=min(a, b), at_most=max(a, b)), NUMBERS, NUMBERS),
)


@given(st.dictionaries(st.text(), SIDES))
def test_limits_survive_the_way_to_json_and_back(limits: dict[str, Allowed]) -> None:
    assert limits_from_json(limits_to_json(limits)) == limits


def test_a_number_stays_a_number_as_in_files_from_before() -> None:
    assert limits_to_json({"latency_ms": 2}) == {"latency_ms": 2.0}
    assert limits_from_json({"latency_ms": 2}) == {"latency_ms": 2.0}


@pytest.mark.parametrize(
    "sides", [{}, {"at_least": math.nan}, {"at_most": math.inf}, {"at_least": 3.0, "at_most": 2.0}]
)
def test_what_limits_nothing_or_allows_nothing_is_refused(sides: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"limits nothing|allows nothing"):
        Between(**sides)


@pytest.mark.parametrize("value", ["2", None, True, [1.0], {"least": 1.0}, {"at_least": "1"}, {"at_most": math.nan}])
def test_what_is_no_limit_is_refused_with_the_metric(value: object) -> None:
    with pytest.raises(ConfigError, match=r"'latency_ms' is .* but should be a number"):
        limits_from_json({"latency_ms": value})
