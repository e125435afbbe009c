"""What speaks against a measured latency."""

import re

import pytest

from hwnas.deployment import Latency
from hwnas.deployment.doubts import Doubt, doubt_texts, doubts_of


def latency(
    minimum: float = 1.0, *, drift: float = 1.0, phase_drift: float | None = 1.0, phase_share: float | None = 0.5
) -> Latency:
    return Latency(
        minimum=minimum,
        median=1.1 * minimum,
        p90=1.2 * minimum,
        n=30,
        cv=0.01,
        drift=drift,
        phase_drift=phase_drift,
        phase_share=phase_share,
    )


@pytest.mark.parametrize(
    ("found", "predicted_ms", "doubts"),
    [
        (latency(), 1.0, ()),
        (latency(), None, ()),
        (latency(1.14), 1.0, ()),
        (latency(1.16), 1.0, ("far_from_prediction",)),
        (latency(0.84), 1.0, ("far_from_prediction",)),
        (latency(9.0), None, ()),
        (latency(drift=1.24), 1.0, ()),
        (latency(drift=1.26), 1.0, ("large_drift",)),
        (latency(drift=0.79), 1.0, ("large_drift",)),
        (latency(phase_drift=1.26), 1.0, ("large_drift",)),
        (latency(phase_drift=None, phase_share=None), 1.0, ()),
        (latency(0.7, drift=1.68), 1.0, ("far_from_prediction", "large_drift")),
    ],
)
def test_what_is_far_off_is_doubted_and_said(
    found: Latency, predicted_ms: float | None, doubts: tuple[Doubt, ...]
) -> None:
    assert doubts_of(found, predicted_ms=predicted_ms) == doubts
    assert len(doubt_texts(found, predicted_ms=predicted_ms)) == len(doubts)


def test_a_distance_from_the_prediction_is_told_with_both_times() -> None:
    (text,) = doubt_texts(latency(0.0286), predicted_ms=0.0373)
    assert text.replace("\u00a0", " ") == (
        "the measured latency is 23 % below its prediction (28.6 µs measured, 37.3 µs predicted): "
        "one of the two is wrong"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (latency(drift=1.68, phase_drift=1.02, phase_share=0.12), "1.68 times as long .* but 12 % of the rounds"),
        (latency(drift=1.68, phase_drift=1.6, phase_share=0.9), "and at best 1.60 times: .* measure again"),
        (latency(drift=1.68, phase_drift=1.02, phase_share=0.0), "measure again"),
        (latency(drift=1.68, phase_drift=None, phase_share=None), "the correction for that may be wrong"),
    ],
)
def test_a_drift_is_told_with_whether_the_fast_machine_was_seen(found: Latency, words: str) -> None:
    (text,) = doubt_texts(found, predicted_ms=None)
    assert re.search(words, text.replace("\u00a0", " "))
