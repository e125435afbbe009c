"""Which networks are worth offering, and how accurate they are expected to be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwnas.catalogue import pool as pools
from hwnas.catalogue.pool import promising
from hwnas.catalogue.predicting import AccuracyPredictor
from hwnas.cost import SlotBlocks, SlotCost, closed_form_costs
from hwnas.search import Study
from hwnas.spaces import MobileNetSpace
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.testing.spaces import tiny_space
from hwnas.types import Direction, FloatArray, IntArray


class MoreIsBetter:
    """Networks of larger options are more accurate, a little."""

    def predict(self, encodings: IntArray) -> tuple[FloatArray, FloatArray]:
        return 0.5 + 0.001 * encodings.sum(axis=1), np.full(len(encodings), 0.01)


def costs_of(space: MobileNetSpace) -> dict[str, SlotCost]:
    return closed_form_costs(SlotBlocks.of(space))


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_ROUNDS", 10)
    monkeypatch.setattr(pools, "_PARENTS", 64)


def test_a_large_space_gives_distinct_canonical_networks_none_of_which_is_known(small_rounds: None) -> None:
    space = mobilenet_tiny()
    known = np.unique(space.sample(50, np.random.default_rng(0)), axis=0)
    costs = costs_of(space)
    found, mean, std = promising(space, MoreIsBetter(), [costs["macs"]], start=known, most=300, seed=0)
    assert found.shape == (300, known.shape[1])
    assert mean.shape == std.shape == (300,)
    np.testing.assert_array_equal(space.canonical(found), found)
    assert len(np.unique(np.concatenate([known, found]), axis=0)) == len(known) + 300


def test_the_pool_is_better_than_chance_at_every_price(small_rounds: None) -> None:
    space, predictor = mobilenet_tiny(), MoreIsBetter()
    macs = costs_of(space)["macs"]
    start = space.sample(4, np.random.default_rng(0))
    found, mean, _ = promising(space, predictor, [macs], start=start, most=1000, seed=0)
    chance = space.sample(5000, np.random.default_rng(1))
    price, chance_price = macs.estimate(found).value, macs.estimate(chance).value
    for limit in np.quantile(chance_price, [0.2, 0.5, 0.8]):
        best_of_chance = predictor.predict(chance[chance_price <= limit])[0].max()
        assert mean[price <= limit].max() >= best_of_chance


def test_the_same_seed_gives_the_same_networks(small_rounds: None) -> None:
    space = mobilenet_tiny()
    macs = costs_of(space)["macs"]
    start = space.sample(4, np.random.default_rng(0))
    first, second = (promising(space, MoreIsBetter(), [macs], start=start, most=100, seed=3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- predictions


def study_of(space: MobileNetSpace, encodings: IntArray, accuracy: FloatArray) -> Study:
    n = len(encodings)
    return Study(
        name="made-up",
        space_name=space.name,
        choices=tuple(space.choices),
        directions={"accuracy": Direction.MAXIMIZE},
        limits={},
        numbers=np.arange(n),
        encodings=encodings,
        values={"accuracy": accuracy},
        feasible=np.ones(n, dtype=bool),
    )


def accuracy_of(space: MobileNetSpace, encodings: IntArray, rng: np.random.Generator) -> FloatArray:
    """What grows with the arithmetic, with noise."""
    macs = costs_of(space)["macs"].estimate(encodings).value
    return 0.6 + 0.1 * np.log(macs / macs.max()) + rng.normal(0, 0.002, len(encodings))


def test_predictions_follow_what_was_evaluated_and_know_how_sure_they_are() -> None:
    space, rng = tiny_space(), np.random.default_rng(0)
    encodings = np.unique(space.sample(120, rng), axis=0)
    accuracy = accuracy_of(space, encodings, rng)
    study = study_of(space, encodings[:80], accuracy[:80])
    predictor = AccuracyPredictor(study, costs_of(space), seed=0)
    mean, std = predictor.predict(encodings[80:])
    assert np.corrcoef(mean, accuracy[80:])[0, 1] > 0.9
    assert (np.abs(mean - accuracy[80:]) < 4 * np.hypot(std, 0.002)).all()
    assert predictor.n_networks == 80


def test_of_many_networks_some_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.catalogue.predicting._MOST", 30)
    space, rng = tiny_space(), np.random.default_rng(0)
    encodings = np.unique(space.sample(80, rng), axis=0)
    study = study_of(space, encodings, accuracy_of(space, encodings, rng))
    assert AccuracyPredictor(study, costs_of(space), seed=0).n_networks == 30


def test_a_value_that_is_not_known_teaches_nothing() -> None:
    space, rng = tiny_space(), np.random.default_rng(0)
    encodings = np.unique(space.sample(40, rng), axis=0)
    accuracy = accuracy_of(space, encodings, rng)
    study = study_of(space, encodings, np.where(np.arange(len(encodings)) == 3, np.nan, accuracy))
    predictor = AccuracyPredictor(dataclasses.replace(study), costs_of(space), seed=0)
    assert predictor.n_networks == len(encodings) - 1
    assert np.isfinite(predictor.predict(encodings)[0]).all()
