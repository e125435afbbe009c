"""Several models as one: which are kept, how they are weighted, and whether intervals hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.predict import Ensemble
from hwnas.predict.ensemble import SHARES, rank_correlation
from hwnas.types import Choice, FloatArray, IntArray

CHOICES = (
    Choice(name="depth", options=(1, 2)),
    Choice(name="kernel1", options=(3, 5, 7)),
    Choice(name="kernel2", options=(3, 5, 7), parent=0, active_when=frozenset({1})),
    Choice(name="width1", options=(8, 16, 24, 32)),
    Choice(name="width2", options=(8, 16, 24, 32)),
)


def networks(n: int) -> IntArray:
    rng = np.random.default_rng(3)
    drawn = rng.integers([2, 3, 3, 4, 4], size=(20 * n, 5))
    drawn[drawn[:, 0] == 0, 2] = 0
    return rng.permutation(np.unique(drawn, axis=0))[:n]


def accuracy(encodings: IntArray) -> FloatArray:
    """Widths help each other; a second block helps."""
    wide = np.sqrt(1 + encodings[:, 3]) + np.sqrt(1 + encodings[:, 4])
    return 80 + 3 * wide + encodings[:, 0] * (1 + encodings[:, 2]) + 0.5 * encodings[:, 1]


def noisy(encodings: IntArray, *, by: float = 0.3) -> FloatArray:
    return accuracy(encodings) + by * np.random.default_rng(0).normal(size=len(encodings))


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    seen = networks(160)[:80]
    return Ensemble(CHOICES, seen, noisy(seen))


def test_it_predicts_networks_it_has_not_seen(ensemble: Ensemble) -> None:
    unseen = networks(160)[80:]
    mean, std = ensemble.predict(unseen)
    assert rank_correlation(mean, accuracy(unseen)) > 0.95
    assert (np.abs(mean - accuracy(unseen)) < 4 * std).all()


def test_intervals_of_networks_that_were_not_seen_hold_as_many_as_they_should(ensemble: Ensemble) -> None:
    unseen = networks(160)[80:]
    mean, std = ensemble.predict(unseen)
    off = np.abs(noisy(unseen) - mean) / std
    assert (off < 1.96).mean() > 0.85
    assert (off < 0.674).mean() == pytest.approx(0.5, abs=0.2)


def test_each_model_is_told_with_its_weight(ensemble: Ensemble) -> None:
    told = ensemble.calibrations
    assert set(told) == {"gaussian process", "linear", "boosted trees", "ensemble"}
    assert sum(c.weight for name, c in told.items() if name != "ensemble") == pytest.approx(1.0)
    # no model alone is likelier than what they are together
    assert told["ensemble"].log_likelihood >= max(c.log_likelihood for c in told.values()) - 0.02
    assert len(told["ensemble"].within) == len(SHARES)


def test_a_model_that_ranks_much_worse_has_no_part() -> None:
    """Choices that only count together, a different pair for each: nothing that adds up can rank them."""
    seen = networks(160)
    parity = (seen.sum(axis=1) % 2).astype(float)
    found = Ensemble(CHOICES, seen, parity + 0.01 * np.random.default_rng(0).normal(size=len(seen)))
    told = {name: c for name, c in found.calibrations.items() if name != "ensemble"}
    best = max(c.rank_correlation for c in told.values())
    for calibration in told.values():
        assert calibration.weight == 0 or calibration.rank_correlation > best - 0.15


def test_the_same_networks_and_seed_give_the_same_predictions() -> None:
    seen = networks(30)
    first, second = (Ensemble(CHOICES, seen, noisy(seen), seed=1) for _ in "ab")
    assert first.predict(networks(160))[0].tolist() == second.predict(networks(160))[0].tolist()
    again = Ensemble(CHOICES, seen, noisy(seen), seed=1, start=first.hyperparameters)
    assert again.predict(networks(160))[0].tolist() == first.predict(networks(160))[0].tolist()


def test_features_reach_the_models() -> None:
    seen = networks(160)
    hidden = np.random.default_rng(1).normal(size=160)
    by = {row.tobytes(): value for row, value in zip(seen, hidden, strict=True)}

    def features(encodings: IntArray) -> FloatArray:
        return np.array([[by[row.tobytes()]] for row in encodings])

    found = Ensemble(CHOICES, seen[:100], hidden[:100], features=features)
    assert rank_correlation(found.predict(seen[100:])[0], hidden[100:]) > 0.95
    assert found.calibrations["linear"].weight == 0


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs 4 evaluated networks, and 3 are known"):
        Ensemble(CHOICES, networks(3), accuracy(networks(3)))


def test_of_few_networks_no_linear_model_is_made() -> None:
    assert set(Ensemble(CHOICES, networks(5), accuracy(networks(5))).calibrations) == {
        "gaussian process",
        "boosted trees",
        "ensemble",
    }


def test_equal_values_are_no_fault() -> None:
    found = Ensemble(CHOICES, networks(12), np.full(12, 0.5))
    assert found.predict(networks(20))[0] == pytest.approx(np.full(20, 0.5), abs=1e-3)


def test_nothing_is_predicted_of_nothing(ensemble: Ensemble) -> None:
    mean, std = ensemble.predict(np.zeros((0, 5), dtype=np.int64))
    assert mean.shape == std.shape == (0,)
