"""Whether a runtime computes what torch does, judged by logits and by the number of images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hwnas.pipeline.parity import STEPS, WRONG_SHARE, compare, most_wrong, output_step
from hwnas.types import Array, TensorSpec


def logits(n: int, *, seed: int = 0) -> Array:
    """(n, 10) float32 on 256 levels, each image's best ahead by 20 of them."""
    levels = np.random.default_rng(seed).integers(0, 200, (n, 10))
    levels[np.arange(n), np.arange(n) % 10] = 220
    levels[0, :2] = (220, 0)
    levels[0, 5] = 255
    return (levels * 0.05).astype(np.float32)


def with_ties(expected: Array, n: int, *, steps: int) -> tuple[Array, Array]:
    """torch's and a runtime's logits of which the first n images' best two change places, each by so many steps."""
    expected, step = expected.copy(), 0.05
    rows, best = np.arange(n) + 1, expected[1 : n + 1].argmax(1)
    second = (best + 1) % 10
    expected[rows, second] = expected[rows, best] - (2 * steps - 1) * step
    found = expected.copy()
    found[rows, best] -= steps * step
    found[rows, second] += steps * step
    return found, expected


def test_logits_are_compared_by_value_and_by_prediction() -> None:
    expected = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    found = expected.copy()
    found[1] = [2.0, 2.5]
    compared = compare(found, expected)
    assert (compared.difference, compared.agreement, compared.scale) == (2.5, 0.75, 3.0)
    assert (compared.disagreements, compared.near_ties) == (1, 0)


@pytest.mark.parametrize(
    ("off", "scale", "wrong"),
    [(0.9e-4, 0.1, False), (1.1e-4, 0.1, True), (9e-4, 10.0, False), (float("nan"), 1.0, True)],
)
def test_exact_outputs_differ_by_little_of_the_largest_logit(off: float, scale: float, wrong: bool) -> None:
    expected = np.array([[scale, 0.0], [0.0, scale]])
    assert bool(compare(expected + np.array([off, 0.0]), expected).problems(exact=True)) is wrong


@pytest.mark.parametrize("n", [16, 30, 100, 199, 1000])
def test_near_ties_are_no_fault_whatever_the_number_of_images(n: int) -> None:
    compared = compare(*with_ties(logits(n), 5, steps=STEPS), step=0.05)
    assert (compared.disagreements, compared.near_ties) == (5, 5)
    assert compared.problems(exact=False) == []


def test_predictions_that_change_by_more_than_a_step_or_two_are_wrong() -> None:
    compared = compare(*with_ties(logits(100), 5, steps=STEPS + 1), step=0.05)
    assert (compared.disagreements, compared.near_ties) == (5, 0)
    assert compared.problems(exact=False) == [
        "5 of 100 predictions are others than torch's, and no near-ties; at this number at most 3 may be"
    ]


@pytest.mark.parametrize("n", [1, 2, 16, 30, 60, 100, 199, 200, 359, 1000, 10_000, 100_000])
def test_as_many_may_be_wrong_as_the_binomial_test_allows(n: int) -> None:
    most = most_wrong(n)
    assert stats.binom.sf(most, n, WRONG_SHARE) < 0.01
    assert most == 0 or stats.binom.sf(most - 1, n, WRONG_SHARE) >= 0.01
    assert most / n > WRONG_SHARE or most == 0


def test_one_of_few_images_shows_nothing_and_many_of_many_do() -> None:
    assert most_wrong(30) >= 1
    assert most_wrong(10_000) < 80


def test_a_runtime_that_computes_something_else_is_noticed_on_few_images() -> None:
    expected = logits(16)
    assert compare(-expected, expected, step=0.05).problems(exact=False)
    assert compare(np.roll(expected, 1, axis=1), expected, step=0.05).problems(exact=False)


def test_outputs_that_are_no_numbers_are_wrong() -> None:
    expected = logits(8)
    found = expected.copy()
    found[3, 3] = np.nan
    assert compare(found, expected).problems(exact=False)


def test_a_step_is_the_artefacts_own_or_a_level_of_the_range() -> None:
    expected = np.array([[0.0, 25.5]], np.float32)
    assert output_step(expected) == pytest.approx(0.1)
    assert output_step(expected, TensorSpec(dtype="int8", scale=0.2)) == 0.2
    assert output_step(expected, TensorSpec(dtype="float32", scale=0.2)) == pytest.approx(0.1)


def _rounded(floats: Array, *, seed: int, error: float = 0.4) -> Array:
    """Logits as far from the floats as integers are after many layers."""
    return (floats + np.random.default_rng(seed).normal(0, error, floats.shape)).astype(np.float32)


def test_another_rounding_of_the_same_network_is_as_good() -> None:
    floats = np.random.default_rng(0).normal(0, 1, (400, 10)).astype(np.float32)
    labels = floats.argmax(1)
    found, expected = _rounded(floats, seed=1), _rounded(floats, seed=2)
    assert compare(found, expected).problems(exact=False), "nobody knows what the two round"
    compared = compare(found, expected, floats=floats, right=labels)
    assert compared.error_ratio == pytest.approx(1, abs=0.05)
    assert compared.lost > 20
    assert compared.gained > 20
    assert compared.problems(exact=False) == []
    assert compared.problems(exact=True), "floats are not rounded"


def test_a_runtime_that_is_further_from_the_floats_is_wrong() -> None:
    floats = np.random.default_rng(0).normal(0, 1, (400, 10)).astype(np.float32)
    found, expected = _rounded(floats, seed=1, error=0.55), _rounded(floats, seed=2)
    (told,) = compare(found, expected, floats=floats, right=floats.argmax(1)).problems(exact=False)
    assert "1.3" in told
    assert "allowed: 1.25" in told


def test_a_runtime_that_is_as_near_but_less_often_right_is_wrong() -> None:
    rng = np.random.default_rng(0)
    floats = rng.normal(0, 0.2, (400, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 400)
    expected, found = floats.copy(), floats.copy()
    expected[np.arange(400), labels] += 1.0  # both off by as much
    found[np.arange(400), (labels + 1) % 10] += 1.0
    compared = compare(found, expected, floats=floats, right=labels)
    assert compared.error_ratio == pytest.approx(1)
    (told,) = compared.problems(exact=False)
    assert f"it loses {compared.lost}" in told


def test_more_may_be_others_where_more_were_when_it_was_made() -> None:
    found, expected = with_ties(logits(100), 12, steps=STEPS + 1)
    compared = compare(found, expected, step=0.05)
    assert compared.problems(exact=False)
    assert compared.problems(exact=False, share=0.1) == []
    assert most_wrong(16, share=1.0) == 16
