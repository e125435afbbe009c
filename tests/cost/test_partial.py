import math

import numpy as np
import pytest

from hwnas.cost._cutting_planes import most, weighted_sums
from hwnas.cost._layers import Layers
from hwnas.cost._partial import Found, _Growth, within
from hwnas.types import FloatArray
from tests.cost.chains import ALL, SIZES, random_costs

COSTS = random_costs(["sum", "sum", "max"], seed=3)
LAYERS = Layers.of(COSTS, SIZES)
VALUES: FloatArray = np.array([[c.combined(x) for c in COSTS] for x in ALL])


def found_within(caps: FloatArray, *, objective: int | None, widest: int) -> Found:
    bounds, _ = weighted_sums(LAYERS, caps, largest=VALUES.max(axis=0), until=math.inf, objective=0, is_proof=False)
    return within(LAYERS, caps, bounds, objective=objective, widest=widest, until=math.inf)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("objective", [0, 1, 2])
def test_of_all_within_limits_the_least_is_found(share: float, objective: int) -> None:
    caps = np.quantile(VALUES, share**0.5, axis=0)
    kept = np.all(caps >= VALUES, axis=1)
    found = found_within(caps, objective=objective, widest=10_000)
    assert found.is_all
    assert (found.network is None) == (not kept.any())
    if found.network is not None:
        assert (LAYERS.values(found.network) <= caps).all()
        assert LAYERS.values(found.network)[objective] == VALUES[kept, objective].min()


def test_where_too_many_are_left_what_is_found_keeps_the_limits_and_is_not_said_to_be_all() -> None:
    caps = np.quantile(VALUES, 0.6, axis=0)
    found = found_within(caps, objective=None, widest=1)
    assert not found.is_all
    assert found.most == 1
    assert found.network is not None
    assert (LAYERS.values(found.network) <= caps).all()


def test_those_followed_first_have_most_room_left_by_the_bound_that_leaves_least() -> None:
    caps = np.quantile(VALUES, 0.6, axis=0)
    bounds, _ = weighted_sums(LAYERS, caps, largest=VALUES.max(axis=0), until=math.inf, objective=0, is_proof=False)
    growth = _Growth(LAYERS, caps, bounds, objective=None)
    start = LAYERS.start[None, growth.tracked]
    _, option, _, _, excess = growth.step(0, np.zeros(1, dtype=np.int64), start, slice(0, 1))
    # the first layer is the first variable alone, of which nothing is paid
    room = [min(most(bound, caps) - bound.by_first[o] for bound in bounds) for o in option]
    assert (-excess).tolist() == pytest.approx(room)
    assert min(room) > 0


def test_limits_on_single_entries_alone_are_kept_too() -> None:
    caps = np.array([np.inf, np.inf, VALUES[:, 2].min()])
    found = within(LAYERS, caps, [], objective=None, widest=10, until=math.inf)
    assert found.network is not None
    assert LAYERS.values(found.network)[2] == caps[2]
