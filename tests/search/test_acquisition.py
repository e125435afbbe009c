"""What a network promises, in closed form, against many draws of what it may turn out to be."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.search import hypervolume
from hwnas.search.acquisition import expected_hypervolume_improvement, expected_improvement

DRAWS = np.random.default_rng(0).normal(size=20_000)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.3), (1.4, 0.3), (0.9, 1e-3), (-2.0, 0.5)])
def test_expected_improvement_is_what_draws_improve_on_average(mean: float, std: float) -> None:
    drawn = np.maximum(mean + std * DRAWS - 1.0, 0).mean()
    assert expected_improvement(np.array([mean]), np.array([std]), 1.0)[0] == pytest.approx(drawn, abs=5e-3)


@pytest.mark.parametrize("cost", [0.5, 1.0, 2.5, 3.5, 5.0])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_expected_growth_of_the_front_is_what_draws_add_on_average(cost: float, n: int) -> None:
    front_value, front_cost = np.array([0.2, 0.6, 0.9])[:n], np.array([1.0, 2.0, 3.0])[:n]
    reference = (0.1, 4.0)
    mean, std = np.array([0.7]), np.array([0.2])
    found = expected_hypervolume_improvement(
        mean, std, np.array([cost]), front_value=front_value, front_cost=front_cost, reference=reference
    )[0]
    points = np.stack([-front_value, front_cost], axis=1)
    before = hypervolume(points, reference=(-reference[0], reference[1]))
    grown = [
        hypervolume(np.concatenate([points, [[-value, cost]]]), reference=(-reference[0], reference[1])) - before
        for value in (0.7 + 0.2 * DRAWS[:4000])
    ]
    assert found == pytest.approx(np.mean(grown), rel=0.02, abs=0.01)


def test_a_network_beyond_the_reference_adds_nothing() -> None:
    found = expected_hypervolume_improvement(
        np.array([5.0]), np.array([0.1]), np.array([4.0]),
        front_value=np.zeros(0), front_cost=np.zeros(0), reference=(0.0, 4.0),
    )  # fmt: skip
    assert found.tolist() == [0.0]
