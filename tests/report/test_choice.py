"""Why a network was chosen, in words."""

from __future__ import annotations

import pytest

from hwnas.query import answer_for, query
from hwnas.report.choice import missing_error_text, preference_text
from tests.test_query import made_of

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("accuracy", "error", "tolerance", "text"),
    [
        ([0.98, 0.97], None, None, "trial 0 has the best accuracy, 98.0 %"),
        ([0.98, 0.98], None, None, "trial 1 has the same accuracy as trial 0 at 0.60 of its latency"),
        (
            [0.98, 0.972],
            0.009,
            None,
            "trial 1 has accuracy 97.2 %, within one standard error (± 0.9 points, measured) of the best, "
            "98.0 % of trial 0, at 0.60 of its latency",
        ),
        (
            [0.98, 0.972],
            0.001,
            0.01,
            "trial 1 has accuracy 97.2 %, within the tolerance of 1.0 points of the best, 98.0 % of trial 0, "
            "at 0.60 of its latency",
        ),
    ],
)
def test_the_words_tell_what_was_given_up_for_what(
    accuracy: list[float], error: float | None, tolerance: float | None, text: str
) -> None:
    answer = query(made_of(accuracy, [1.0, 0.6], [1e5, 1e5], error=error), limits={}, tolerance=tolerance)[0]
    assert preference_text(answer).replace(NBSP, " ") == text


def test_a_small_saving_is_not_rounded_away() -> None:
    answer = query(made_of([0.98, 0.98], [1.0, 0.9985], [1e5, 1e5], error=None), limits={})[0]
    text = preference_text(answer).replace(NBSP, " ")
    assert text == "trial 1 has the same accuracy as trial 0 with 0.15 % less latency"


def test_a_study_that_does_not_tell_its_noise_is_told_of() -> None:
    answer, known = (query(made_of([0.9], [1.0], [1.0], error=error), limits={})[0] for error in (None, 0.01))
    assert "does not tell the standard error of accuracy" in missing_error_text(answer)
    assert missing_error_text(known) == ""


def test_a_network_that_was_asked_for_itself_is_compared_with_none() -> None:
    study = made_of([0.98, 0.97], [1.0, 0.6], [1e5, 1e5], error=None)
    assert (
        preference_text(answer_for(study, 1)).replace(NBSP, " ")
        == "trial 1 was asked for itself; it has accuracy 97.0 %"
    )
