"""The networks a search begins with."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.config import Config
from hwnas.cost import feasible_encodings
from hwnas.limits import Limit, as_limits
from hwnas.pipeline.costs import Costs, load_costs
from hwnas.pipeline.seeding import seed_architectures
from hwnas.spaces import Space
from hwnas.types import IntArray
from hwnas.workspace import Workspace


@pytest.fixture
def costs(config: Config) -> Costs:
    return load_costs(Workspace(config))


@pytest.fixture
def space(config: Config) -> Space:
    return Workspace(config).space


def every(space: Space) -> IntArray:
    """Nearly all networks of the tiny space."""
    return np.unique(space.sample(100_000, np.random.default_rng(0)), axis=0)


def encoded(space: Space, costs: Costs, limits: dict[str, float], *, most: int = 12) -> IntArray:
    found = seed_architectures(space, costs.models, as_limits(limits), most=most)
    return np.stack([space.encode(a) for a in found])


def test_seeds_keep_all_limits_and_differ_the_fastest_first(space: Space, costs: Costs) -> None:
    low, high = costs.models["size_bytes"].bounds()
    limits = {"latency_ms": 0.8 * costs.models["latency_ms"].bounds()[1], "size_bytes": (low + high) / 2}
    seeds = encoded(space, costs, limits)
    assert feasible_encodings(seeds, costs.models, as_limits(limits)).all()
    assert len(np.unique(seeds, axis=0)) == len(seeds) > 2
    latencies = costs.models["latency_ms"].estimate(seeds).value
    assert (np.diff(latencies) >= 0).all()


def test_the_first_is_the_fastest_and_the_last_does_the_most_there_is_within_the_limit(
    space: Space, costs: Costs
) -> None:
    latency, macs = costs.models["latency_ms"], costs.models["macs"]
    limit = 0.7 * latency.bounds()[1] * latency.upper_ratio
    seeds = encoded(space, costs, {"latency_ms": limit})
    assert latency.estimate(seeds[:1]).value[0] == latency.bounds()[0]
    all_networks = every(space)
    within = feasible_encodings(all_networks, costs.models, [Limit(metric="latency_ms", value=limit)])
    most = macs.estimate(all_networks[within]).value.max()
    assert macs.estimate(seeds).value.max() >= 0.99 * most


def test_no_more_are_made_than_are_wanted(space: Space, costs: Costs) -> None:
    assert len(encoded(space, costs, {}, most=4)) <= 4
    assert len(encoded(space, costs, {}, most=1)) == 1


def test_where_nothing_keeps_the_limits_there_are_none(space: Space, costs: Costs) -> None:
    assert seed_architectures(space, costs.models, as_limits({"latency_ms": 1e-9})) == []
