"""When a network is timed once more, and which of the two times counts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hwnas.measure import Worker
from hwnas.pipeline import verdict
from hwnas.pipeline.verdict import Verdict, reach_verdict
from hwnas.testing.fake import fake_device
from hwnas.types import Artefact, Statistic

ARTEFACT = Artefact(path=Path("a.onnx"), format="onnx", precision="fp32", sha256="0" * 64, size_bytes=1)


def seen(minimum: float, *, drift: float = 1.0, phase_drift: float | None = 1.0) -> Statistic:
    return Statistic(
        minimum=minimum,
        median=minimum,
        p90=minimum,
        n=30,
        cv=0.0,
        drift=drift,
        phase_drift=phase_drift,
        phase_share=1.0,
    )


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Statistic]], Verdict]:
    """The verdict on a network that was to take 1 ms, if these are its looks."""
    monkeypatch.setattr(verdict, "_PAUSE_S", 0.0)

    def reached(looks: Sequence[Statistic]) -> Verdict:
        left = iter(looks)

        def measure(*_: Any, **__: Any) -> Statistic:
            return next(left)

        monkeypatch.setattr(verdict, "measure_latency", measure)
        return reach_verdict(Worker(fake_device()), ARTEFACT, anchor=ARTEFACT, anchor_ms=1.0, predicted_ms=1.0)

    return reached


def test_a_time_near_its_prediction_is_taken_at_once(reach: Callable[[Sequence[Statistic]], Verdict]) -> None:
    found = reach([seen(1.05)])
    assert (found.statistic.minimum, found.looks, found.doubts) == (1.05, 1, ())


@pytest.mark.parametrize("first", [seen(1.3), seen(0.8), seen(1.0, drift=1.7), seen(1.0, phase_drift=1.6)])
def test_a_doubtful_time_is_measured_again_and_the_second_counts(
    first: Statistic, reach: Callable[[Sequence[Statistic]], Verdict]
) -> None:
    found = reach([first, seen(1.01)])
    assert (found.statistic.minimum, found.looks, found.doubts) == (1.01, 2, ())


def test_a_second_time_that_is_doubtful_too_is_told(reach: Callable[[Sequence[Statistic]], Verdict]) -> None:
    found = reach([seen(1.3), seen(1.29)])
    assert (found.statistic.minimum, found.looks, found.doubts) == (1.29, 2, ("far_from_prediction",))


def test_a_second_look_at_a_slower_machine_does_not_count(reach: Callable[[Sequence[Statistic]], Verdict]) -> None:
    found = reach([seen(1.2), seen(1.0, phase_drift=1.6)])  # though it is what was predicted
    assert (found.statistic.minimum, found.looks, found.doubts) == (1.2, 2, ("far_from_prediction",))
