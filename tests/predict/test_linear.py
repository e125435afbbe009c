"""Ridge regression on options and pairs: the algebra against plain forms of it, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.predict import CrossValidation, LinearModel, fit_linear
from hwnas.predict.linear import LEAST, _Fit
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import Choice, FloatArray, IntArray

CHOICES = (
    Choice(name="depth", options=(2, 3, 4)),
    Choice(name="kind", options=("a", "b", "c", "d")),
    Choice(name="only", options=(1,)),
    Choice(name="width0", options=(8, 16, 24)),
    Choice(name="width1", options=(8, 16, 24), parent=0, active_when=frozenset({1, 2})),
    Choice(name="width2", options=(8, 16, 24), parent=0, active_when=frozenset({2})),
)
TREE = ChoiceTree(CHOICES)


def networks(n: int, *, seed: int = 0) -> IntArray:
    """(n, 6) different canonical encodings, in random order."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.unique(TREE.sample_networks(30 * n, rng), axis=0))[:n]


def additive(encodings: IntArray) -> FloatArray:
    """A value that each choice adds to, one that is switched off too."""
    on = TREE.active(encodings)
    width1 = np.where(on[:, 4], 0.3 * encodings[:, 4], -0.5)
    kind = np.array([0.0, 1.0, -1.0, 0.5])[encodings[:, 1]]
    return np.asarray(70 + kind + 0.2 * encodings[:, 0] + 0.4 * encodings[:, 3] + width1)


def joint(encodings: IntArray) -> FloatArray:
    """A value that two choices decide together."""
    return np.asarray(additive(encodings) + 3.0 * (encodings[:, 1] == 2) * (encodings[:, 3] == 1))


def test_what_adds_up_is_learned_from_few_networks() -> None:
    model = LinearModel(CHOICES, networks(30), additive(networks(30)))
    others = networks(120, seed=1)
    mean, std = model.predict(others)
    assert np.abs(mean - additive(others)).max() < 0.05
    assert std.max() < 0.1


def test_its_terms_and_constant_are_what_it_predicts() -> None:
    """So a solver that maximises the terms maximises the prediction."""
    known = networks(60)
    model = LinearModel(CHOICES, known, joint(known), pairs=[(1, 3), (0, 4)])
    others = networks(50, seed=1)
    on = TREE.active(others)
    states = np.where(on, others, TREE.sizes)
    total = np.full(50, model.constant)
    for term in model.terms:
        assert term.values.shape == tuple(len(CHOICES[c].options) + (CHOICES[c].parent is not None) for c in term.scope)
        total += term.values[tuple(states[:, c] for c in term.scope)]
    assert total == pytest.approx(model.predict(others)[0])
    # and of the networks it was fitted to, the mean is as far off as ridge leaves it: not at all the constant
    assert np.corrcoef(model.predict(known)[0], joint(known))[0, 1] > 0.95


def test_pairs_that_count_are_found_and_used() -> None:
    known = networks(80)
    model, quality = fit_linear(CHOICES, known, joint(known), numbers_of_pairs=(0, 1))
    assert model.pairs == ((1, 3),)
    alone, worse = fit_linear(CHOICES, known, joint(known), numbers_of_pairs=(0,))
    assert alone.pairs == ()
    assert quality.rmse < 0.5 * worse.rmse
    assert quality.rank_correlation > worse.rank_correlation


def test_pairs_are_not_used_where_nothing_is_decided_together() -> None:
    known = networks(60)
    noise = np.random.default_rng(0).normal(0, 0.3, 60)
    model, _ = fit_linear(CHOICES, known, additive(known) + noise, numbers_of_pairs=(0, 4))
    assert model.pairs == ()


def test_what_is_told_of_networks_left_out_is_what_leaving_each_out_tells() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3))
    x -= x.mean(axis=0)
    y = x @ np.array([1.0, -2.0, 0.5]) + rng.normal(0, 0.3, 12)
    y -= y.mean()
    fit = _Fit.of(x @ x.T, y)
    for i in range(12):
        rest = np.arange(12) != i
        # ridge with a free constant, which is what centering the others amounts to
        center, level = x[rest].mean(axis=0), y[rest].mean()
        z = x[rest] - center
        w = np.linalg.solve(z.T @ z + fit.penalty * np.eye(3), z.T @ (y[rest] - level))
        assert y[i] - level - (x[i] - center) @ w == pytest.approx(fit.residuals[i])


def test_its_deviations_are_as_large_as_its_errors() -> None:
    rng = np.random.default_rng(0)
    known, others = networks(80), networks(150, seed=1)
    model = LinearModel(CHOICES, known, additive(known) + rng.normal(0, 0.5, 80))
    mean, std = model.predict(others)
    off = (additive(others) + rng.normal(0, 0.5, 150) - mean) / std
    assert 0.8 < off.std() < 1.2


def test_what_choices_share_is_known_from_networks_that_have_little_of_each() -> None:
    """Twelve switches that all add the same: sixteen networks tell that more of them are better."""
    choices = tuple(Choice(name=f"s{i}", options=(0, 1)) for i in range(12))
    rng = np.random.default_rng(0)
    known, others = rng.integers(0, 2, (16, 12)), rng.integers(0, 2, (100, 12))
    model = LinearModel(choices, known, known.sum(axis=1).astype(float))
    mean, _ = model.predict(others)
    assert np.corrcoef(mean, others.sum(axis=1))[0, 1] > 0.9
    alone, _ = LinearModel(choices, known, known.sum(axis=1).astype(float), shared=0.0).predict(others)
    assert np.abs(mean - others.sum(axis=1)).mean() < np.abs(alone - others.sum(axis=1)).mean()


def test_a_metric_that_is_the_same_everywhere_is_predicted_so() -> None:
    model, quality = fit_linear(CHOICES, networks(20), np.full(20, 0.9))
    mean, std = model.predict(networks(20, seed=1))
    assert mean == pytest.approx(np.full(20, 0.9))
    assert std == pytest.approx(np.zeros(20))
    assert (quality.rank_correlation, quality.rmse, quality.rmse_error) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("n", [LEAST, LEAST + 1, 11])
def test_the_fewest_networks_give_a_model_and_its_quality(n: int) -> None:
    model, quality = fit_linear(CHOICES, networks(n), additive(networks(n)))
    assert quality.n == n
    assert np.isfinite(model.predict(networks(20, seed=1))[0]).all()
    assert quality.rank_correlation_error > 0


def test_fewer_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"needs {LEAST} evaluated networks, and 7 are known"):
        fit_linear(CHOICES, networks(7), additive(networks(7)))


def test_quality_is_told_with_standard_errors() -> None:
    known = np.arange(100.0)
    predicted = known + np.where(np.arange(100) % 2, 2.0, -2.0)
    quality = CrossValidation.of(predicted, known)
    assert quality.rmse == 2.0
    assert quality.rmse_error == 0.0  # all squared errors are the same
    assert 0.99 < quality.rank_correlation < 1.0
    assert quality.rank_correlation_error < 0.01
    assert CrossValidation.of(-known, known).rank_correlation == pytest.approx(-1.0)
