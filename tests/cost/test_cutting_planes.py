"""The linear program of cutting planes."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.cost._cutting_planes import next_shares


def test_weights_make_the_least_weighted_sum_as_large_as_can_be() -> None:
    shares, reach = next_shares(np.array([[2.0, 0.0], [0.0, 1.0]]))
    assert shares.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert reach == pytest.approx(2 / 3)


def test_networks_that_cost_nothing_of_what_is_limited_are_no_reason_to_fail() -> None:
    shares, reach = next_shares(np.zeros((1, 2)))
    assert shares.sum() == pytest.approx(1.0)
    assert reach == 0.0
