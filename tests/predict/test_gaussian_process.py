"""Gaussian processes over architectures: the algebra against plain forms of it, and what they learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from hwnas.predict import (
    ChoiceDistances,
    GaussianProcess,
    Hyperparameters,
    Inputs,
    OptionCounts,
    Representation,
    compressed,
    least_that_counts,
)
from hwnas.types import Choice, FloatArray, IntArray

CHOICES = (
    Choice(name="depth", options=(2, 3, 4, 5, 6)),
    Choice(name="kind", options=("a", "b", "c", "d")),
    Choice(name="only", options=(1,)),
    Choice(name="width", options=(8, 16, 24), parent=0, active_when=frozenset({1, 2, 3, 4})),
)


def some(n: int, *, seed: int = 0) -> IntArray:
    """(n, 4) different canonical encodings."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers([5, 4, 1, 3], size=(20 * n, 4))
    drawn[drawn[:, 0] == 0, 3] = 0
    return rng.permutation(np.unique(drawn, axis=0))[:n]


def additive(encodings: IntArray) -> FloatArray:
    """A value that each choice adds to."""
    return encodings[:, 0] + np.array([0.0, 1.0, -1.0, 0.5])[encodings[:, 1]] + 0.7 * encodings[:, 3]


def inputs(encodings: IntArray, features: FloatArray | None = None, counts: FloatArray | None = None) -> Inputs:
    nothing = np.zeros((len(encodings), 0))
    return Inputs(
        hot=ChoiceDistances(CHOICES).one_hot(encodings),
        features=nothing if features is None else features,
        counts=nothing if counts is None else counts,
    )


def process_of(encodings: IntArray, targets: FloatArray, *, features: FloatArray | None = None) -> GaussianProcess:
    return GaussianProcess(ChoiceDistances(CHOICES), inputs(encodings, features), targets)


# ---------------------------------------------------------------- distances


def test_ordered_options_are_as_far_apart_as_their_places() -> None:
    depth, kind, width = ChoiceDistances(CHOICES).tables
    assert depth[0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert kind[0].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    # a choice that is switched off is as far from all its options
    assert width[3].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_distances_add_up_over_choices() -> None:
    distances = ChoiceDistances(CHOICES)
    hot = distances.one_hot(np.array([[0, 0, 0, 0], [2, 0, 0, 2], [4, 3, 0, 1]]))
    apart = hot @ distances.matrix(np.array([1.0, 10.0, 100.0])) @ hot.T
    # `width` is off in the first
    assert apart.tolist() == [[0.0, 100.5, 111.0], [100.5, 0.0, 60.5], [111.0, 60.5, 0.0]]


@pytest.mark.parametrize("seed", range(5))
def test_covariances_are_positive_definite(seed: int) -> None:
    weights = np.random.default_rng(seed).exponential(size=3)
    distances = ChoiceDistances(CHOICES)
    hot = distances.one_hot(some(24, seed=seed)).astype(float)
    assert np.linalg.eigvalsh(np.exp(-hot @ distances.matrix(weights) @ hot.T)).min() > -1e-10


# ---------------------------------------------------------------- processes


def test_a_process_predicts_networks_it_has_not_seen() -> None:
    seen, unseen = np.split(some(30), [18])
    process = process_of(seen, additive(seen))
    mean, std = process.predict(inputs(unseen))
    assert np.abs(mean - additive(unseen)).max() < 0.3 * additive(unseen).std()
    # and knows how well
    assert (np.abs(mean - additive(unseen)) < 3 * std).all()


def test_what_is_unlike_everything_seen_is_less_sure() -> None:
    seen = some(30)
    seen = seen[seen[:, 1] != 3]
    process = process_of(seen, additive(seen))
    near, far = np.array([seen[0]]), np.array([[*seen[0][:1], 3, *seen[0][2:]]])
    assert process.predict(inputs(far))[1][0] > 2 * process.predict(inputs(near))[1][0]


def test_features_that_cost_nothing_are_learned_from() -> None:
    encodings, rng = some(30), np.random.default_rng(0)
    features = rng.normal(size=(30, 2))
    targets = np.sin(features[:, 0])
    process = process_of(encodings[:20], targets[:20], features=features[:20])
    mean, _ = process.predict(inputs(encodings[20:], features[20:]))
    assert np.corrcoef(mean, targets[20:])[0, 1] > 0.95
    # the second says nothing, so its length is long
    lengths = process.hyperparameters.lengths
    assert lengths[1] > lengths[0]


def test_leaving_out_in_closed_form_is_leaving_out() -> None:
    encodings = some(12)
    targets = additive(encodings) + 0.1 * np.random.default_rng(0).normal(size=12)
    distances = ChoiceDistances(CHOICES)
    process = GaussianProcess(distances, inputs(encodings), targets)
    mean, std = process.left_out()
    center, scale = targets.mean(), targets.std()
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        # standardised as all were: else each fit would have units of its own
        fixed = (targets[rest] - center) / scale
        alone = _plain(distances, process.hyperparameters, encodings[rest], fixed, encodings[i])
        assert mean[i] == pytest.approx(center + scale * alone[0])
        assert std[i] == pytest.approx(scale * alone[1])


def _plain(
    distances: ChoiceDistances, h: Hyperparameters, seen: IntArray, targets: FloatArray, one: IntArray
) -> tuple[float, float]:
    """Mean and standard deviation of one measurement (Rasmussen & Williams, equations 2.25 and 2.26)."""

    def covariance(a: IntArray, b: IntArray) -> FloatArray:
        weights = distances.matrix(np.exp(h.weights))
        return np.exp(h.choices - distances.one_hot(a) @ weights @ distances.one_hot(b).T)

    noise = np.exp(h.noise) + 1e-8
    inverse = np.linalg.inv(covariance(seen, seen) + noise * np.eye(len(seen)))
    across = covariance(one[None], seen)[0]
    variance = float(np.exp(h.choices)) + noise - across @ inverse @ across
    return float(across @ inverse @ targets), float(np.sqrt(variance))


def test_the_gradient_of_the_fit_is_that_of_its_loss() -> None:
    encodings = some(15)
    drawn = np.random.default_rng(1).normal(size=(15, 5))
    taken = inputs(encodings, drawn[:, :2], drawn[:, 2:])
    process = GaussianProcess(ChoiceDistances(CHOICES), taken, additive(encodings), fit=False)
    loss = process.loss(np.arange(15))
    for seed in range(3):
        at = process.hyperparameters.vector() + 0.5 * np.random.default_rng(seed).normal(size=10)
        assert check_grad(lambda v: loss(v)[0], lambda v: loss(v)[1], at) < 1e-4


def test_the_same_networks_give_the_same_process() -> None:
    encodings = some(20)
    first, second = (process_of(encodings, additive(encodings)) for _ in "ab")
    assert first.hyperparameters.vector().tolist() == second.hyperparameters.vector().tolist()


def test_equal_values_are_no_fault() -> None:
    process = process_of(some(5), np.full(5, 0.3))
    mean, std = process.predict(inputs(some(9)))
    assert mean == pytest.approx(np.full(9, 0.3))
    assert np.isfinite(std).all()


def test_a_trend_goes_on_beyond_what_was_seen() -> None:
    encodings, features = some(30), np.linspace(-1.5, 1.5, 30)[:, None]
    process = process_of(encodings[:20], 3 * features[:20, 0], features=features[:20])
    mean, _ = process.predict(inputs(encodings[20:], features[20:]))
    assert mean == pytest.approx(3 * features[20:, 0], abs=0.5)


# ---------------------------------------------------------------- inputs

BLOCKS = (
    Choice(name="depth", options=(1, 2)),
    Choice(name="kernel1", options=(3, 5, 7)),
    Choice(name="kernel2", options=(3, 5, 7), parent=0, active_when=frozenset({1})),
    Choice(name="width", options=(8, 16)),
)


def test_options_are_counted_over_choices_that_have_the_same_and_are_on() -> None:
    distances = ChoiceDistances(BLOCKS)
    rows = distances.one_hot(np.array([[0, 2, 0, 1], [1, 2, 0, 0], [1, 2, 2, 0]]))
    found = OptionCounts(BLOCKS, distances)(rows)
    assert found.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 2.0]]


def test_a_choice_alone_is_not_counted() -> None:
    distances = ChoiceDistances(CHOICES)
    assert OptionCounts(CHOICES, distances)(distances.one_hot(some(5))).shape == (5, 0)


def test_positive_features_count_by_their_logarithms() -> None:
    sample = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [1, 2, 1, 1]])
    found = Representation(BLOCKS, sample, features=lambda e: 10.0 ** e[:, 1:2])(sample).features
    assert found[:, 0] == pytest.approx(np.array([-1.0, 0.0, 1.0]) * np.sqrt(1.5))


@pytest.mark.parametrize("useless", [np.nan, np.inf, 4.0])
def test_features_that_are_not_known_or_the_same_everywhere_are_left_out(useless: float) -> None:
    sample = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [1, 2, 1, 1]])
    both = Representation(
        BLOCKS, sample, features=lambda e: np.stack([e[:, 1] - 1.0, np.full(len(e), useless)], axis=1)
    )
    assert both(sample).features.shape == (3, 1)


def test_inputs_are_taken_and_joined_by_row() -> None:
    whole = inputs(some(6), np.arange(6.0)[:, None])
    again = whole[np.array([0, 1])].joined(whole[2:])
    assert len(again) == 6
    assert again.features.tolist() == whole.features.tolist()
    assert again.hot.tolist() == whole.hot.tolist()


# ---------------------------------------------------------------- targets


def test_only_the_bad_are_drawn_together() -> None:
    values = np.array([1.0, 10.0, 68.0, 70.0, 71.0, 72.0, 73.0])
    found = compressed(values, below=70.0)
    assert found[3:].tolist() == values[3:].tolist()
    assert (np.diff(found) > 0).all()
    assert found[0] > 60


def test_values_that_are_all_alike_stay() -> None:
    assert compressed(np.array([2.0, 2.0, 1.0]), below=2.0).tolist() == [2.0, 2.0, 1.0]


def test_of_networks_that_are_spread_nearly_a_third_do_not_count() -> None:
    spread = np.arange(11.0)
    assert least_that_counts(spread, spread[:0]) == 3.0


def test_of_networks_that_were_given_all_count_but_those_far_below_the_others() -> None:
    given = np.array([10.0, 85.0, 88.0, 90.0, 91.0, 92.0])
    assert least_that_counts(given[:0], given) == 85.0


def test_of_both_the_lower_value_counts() -> None:
    assert least_that_counts(np.arange(11.0), np.array([1.0, 2.0])) == 1.0
    assert least_that_counts(np.arange(11.0), np.array([7.0, 8.0])) == 3.0
