"""Robust statistics and the drift correction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwnas.measure.statistics import robust_cv, running_median, summarize

positive = st.floats(1e-3, 1e3)
rounds = hnp.arrays(np.float64, st.integers(1, 40), elements=positive)


def test_without_an_anchor_nothing_is_corrected() -> None:
    s = summarize(np.array([1.0, 2.0, 3.0]))
    assert (s.median, s.n, s.drift) == (2.0, 3, 1.0)
    assert s.p90 == pytest.approx(2.8)


def test_drift_is_removed_round_by_round() -> None:
    drift = np.linspace(1.0, 2.0, 11)  # the machine becomes twice as slow while we look
    s = summarize(0.25 * drift, 1.5 * drift, anchor_ms=1.5)
    assert s.median == pytest.approx(0.25)
    assert s.cv == pytest.approx(0.0, abs=1e-12)
    assert s.drift == pytest.approx(1.5)


def test_a_machine_that_is_slower_than_the_tables_is_corrected_to_the_table() -> None:
    s = summarize(np.full(5, 3.0), np.full(5, 2.0), anchor_ms=1.0)
    assert (s.median, s.p90, s.drift) == (1.5, 1.5, 2.0)


def test_fewer_than_half_disturbed_rounds_do_not_move_the_median() -> None:
    samples = np.full(9, 1.0)
    samples[:4] = 50.0
    s = summarize(samples)
    assert s.median == 1.0
    assert s.cv == 0.0


@settings(deadline=None)
@given(samples=rounds, scale=positive)
def test_statistics_scale_with_their_samples(samples: np.ndarray, scale: float) -> None:
    a, b = summarize(samples), summarize(samples * scale)
    assert b.median == pytest.approx(a.median * scale)
    assert b.p90 == pytest.approx(a.p90 * scale)
    assert b.cv == pytest.approx(a.cv, abs=1e-9)


@settings(deadline=None)
@given(samples=rounds, data=st.data())
def test_a_common_factor_of_each_round_cancels(samples: np.ndarray, data: st.DataObject) -> None:
    factors = data.draw(hnp.arrays(np.float64, len(samples), elements=st.floats(0.1, 10)))
    anchor = np.full(len(samples), 2.0)
    minima, around = np.full(len(samples), 1e-9), np.full((len(samples), 2), 2.0)  # far below every sample
    still = summarize(samples, anchor, anchor_ms=2.0, minima_ms=minima, around_ms=around)
    moving = summarize(samples * factors, anchor * factors, anchor_ms=2.0, minima_ms=minima, around_ms=around)
    assert moving.median == pytest.approx(still.median)
    assert moving.p90 == pytest.approx(still.p90)


def test_the_robust_cv_agrees_with_the_ordinary_one_on_normal_samples() -> None:
    samples = np.random.default_rng(0).normal(10, 0.5, size=20_000)
    assert robust_cv(samples) == pytest.approx(0.05, rel=0.03)


def test_a_running_median_drops_outliers_and_keeps_a_steady_drift() -> None:
    steady = np.linspace(1.0, 2.0, 21)
    np.testing.assert_allclose(running_median(steady, half_width=5), steady)
    disturbed = steady.copy()
    disturbed[[4, 10, 11]] = 9.0
    assert np.max(np.abs(running_median(disturbed, half_width=5) - steady)) < 0.2


def test_a_running_median_of_width_zero_changes_nothing() -> None:
    np.testing.assert_array_equal(running_median(np.array([3.0, 1.0, 2.0]), half_width=0), [3.0, 1.0, 2.0])


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0], [float("nan")], [float("inf"), 1.0], [[1.0]]])
def test_times_that_are_not_positive_numbers_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="samples_ms"):
        summarize(np.array(bad))


def test_half_an_anchor_is_refused() -> None:
    with pytest.raises(ValueError, match="go together"):
        summarize(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="go together"):
        summarize(np.ones(3), anchor_ms=1.0)
    with pytest.raises(ValueError, match="3 samples but 2"):
        summarize(np.ones(3), np.ones(2), anchor_ms=1.0)
