import json
from dataclasses import asdict

import numpy as np
import pytest

from hwnas.cost.quality import PredictionQuality


def test_errors_are_relative_to_the_measurement() -> None:
    quality = PredictionQuality.of([104.0, 92.0, 130.0, 100.0], [100.0, 100.0, 100.0, 100.0])
    assert quality.n == 4
    assert quality.mean_abs_error_percent == pytest.approx((4 + 8 + 30 + 0) / 4)
    assert quality.max_abs_error_percent == pytest.approx(30)
    assert quality.bias_percent == pytest.approx((4 - 8 + 30 + 0) / 4)
    assert quality.within_5 == 0.5
    assert quality.within_10 == 0.75


def test_an_error_of_exactly_the_threshold_is_within() -> None:
    assert PredictionQuality.of([1.10 - 1e-12], [1.0]).within_10 == 1


@pytest.mark.parametrize(("predicted", "tau"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], -1.0), ([1, 2, 4, 3], 2 / 3)])
def test_kendall_tau_compares_the_order(predicted: list[float], tau: float) -> None:
    assert PredictionQuality.of(predicted, [10.0, 20.0, 30.0, 40.0]).kendall_tau == pytest.approx(tau)


def test_equal_values_are_neither_in_order_nor_out_of_it() -> None:
    """Of six pairs, each side ties one: three are in the same order, one is in another."""
    quality = PredictionQuality.of([1.0, 2.0, 2.0, 3.0], [1.0, 3.0, 2.0, 2.0])
    assert quality.kendall_tau == pytest.approx((3 - 1) / 5)  # as scipy.stats.kendalltau has it


@pytest.mark.parametrize(("predicted", "measured"), [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_ranks_that_mean_nothing_are_none(predicted: list[float], measured: list[float]) -> None:
    assert PredictionQuality.of(predicted, measured).kendall_tau is None


def test_it_is_json_as_it_stands() -> None:
    quality = PredictionQuality.of(np.array([1.0, 2.0]), np.array([1.0, 2.1]))
    assert PredictionQuality(**json.loads(json.dumps(asdict(quality), allow_nan=False))) == quality


@pytest.mark.parametrize(
    ("predicted", "measured"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([float("nan")], [1.0]), ([1.0], [float("inf")])],
)
def test_what_cannot_be_compared_is_refused(predicted: list[float], measured: list[float]) -> None:
    with pytest.raises(ValueError, match=r"predictions"):
        PredictionQuality.of(predicted, measured)


def test_its_text_names_the_sample_size() -> None:
    assert str(PredictionQuality.of([1.0, 2.2], [1.0, 2.0])) == (
        "mean error 5.0 %, 50 % within 5 %, 50 % within 10 %, rank correlation 1.000 (n = 2)"
    )
