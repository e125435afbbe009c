"""What cannot be compared is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from hwnas.comparison.checks import check_comparable
from hwnas.errors import StudyError
from hwnas.search import Study
from hwnas.types import Direction
from tests.comparison.studies import study

FIRST = study()


def with_provenance(**told: Any) -> dict[str, Any]:
    return {"provenance": {**FIRST.provenance, **told}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space_name": "other"}, "their spaces are xyz and other"),
        ({"choices": FIRST.choices[:2]}, "both are of xyz, but its choices were others"),
        ({"directions": {"accuracy": Direction.MAXIMIZE}}, r"cost \(minimize\), the other for accuracy \(maximize\)"),
        (with_provenance(device="elsewhere"), "for different devices, here and elsewhere"),
        ({"sources": {**FIRST.sources, "accuracy": "predicted"}}, "accuracy is measured in one and predicted in the"),
        ({"values": {**FIRST.values, "cost": FIRST.values["cost"] * 1.5}}, "same network has cost .* in trial 0 of"),
        ({"values": {**FIRST.values, "accuracy": FIRST.values["accuracy"] + 1e-3}}, "weights or tables differ"),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], said: str) -> None:
    other = dataclasses.replace(FIRST, **changes)
    with pytest.raises(StudyError, match=said) as error:
        check_comparable({"mine": FIRST, "yours": other})
    assert str(error.value).startswith("mine and yours cannot be compared")


def estimated(factor: float) -> Study:
    """As the first, but its cost is an estimate by another fit, bounded by 5 % more."""
    cost = factor * (FIRST.values["cost"] + 1)
    return dataclasses.replace(FIRST, values={**FIRST.values, "cost": cost}, upper={"cost": 1.05 * cost})


def test_estimates_of_one_network_may_differ_within_their_bounds_and_that_is_told() -> None:
    (note,) = check_comparable({"mine": estimated(1.0), "yours": estimated(1.01)})
    assert note.startswith("Cost of the same network differs by up to 0.99\u00a0%")
    with pytest.raises(StudyError, match="same network has cost"):
        check_comparable({"mine": estimated(1.0), "yours": estimated(1.2)})


def test_a_search_without_a_network_is_refused() -> None:
    empty = dataclasses.replace(
        FIRST,
        numbers=FIRST.numbers[:0],
        encodings=FIRST.encodings[:0],
        values={m: v[:0] for m, v in FIRST.values.items()},
        feasible=FIRST.feasible[:0],
    )
    with pytest.raises(StudyError, match="yours has no evaluated network"):
        check_comparable({"mine": FIRST, "yours": empty})


def test_samplers_seeds_and_limits_may_differ() -> None:
    assert check_comparable({"a": FIRST, "b": study("nsga2", 1), "c": study(within={"cost": 6.0})}) == []


def test_studies_that_tell_no_device_are_believed() -> None:
    assert check_comparable({"a": FIRST, "b": study("nsga2", provenance={})}) == []


def part(rows: list[int]) -> Any:
    whole = study(n=52)
    index = np.array(rows)
    return dataclasses.replace(
        whole,
        numbers=whole.numbers[index],
        encodings=whole.encodings[index],
        values={m: v[index] for m, v in whole.values.items()},
        feasible=whole.feasible[index],
    )


def test_searches_without_a_network_in_common_are_told() -> None:
    notes = check_comparable({"a": part([0, 1]), "b": part([2, 3]), "c": part([1, 4])})
    assert len(notes) == 1
    assert "a and c; b have none with the others" in notes[0]


def test_a_chain_of_networks_in_common_is_enough() -> None:
    assert check_comparable({"a": part([0, 1]), "b": part([2, 3]), "c": part([1, 2])}) == []
