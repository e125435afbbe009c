"""Which networks answer a question, of those that were evaluated and those that are predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hwnas.catalogue import Catalogue, DeviceNetworks
from hwnas.errors import InfeasibleError, UnknownNameError
from hwnas.search import Study
from hwnas.spaces import CategoricalSpace
from hwnas.types import Direction

SPACE = CategoricalSpace({"a": tuple(range(8)), "b": tuple(range(8))})


def made_of(accuracy: Sequence[float], latency_ms: Sequence[float], *, error: float, name: str = "made-up") -> Study:
    n = len(accuracy)
    return Study(
        name=name,
        space_name=SPACE.name,
        choices=SPACE.choices,
        directions={"accuracy": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE},
        limits={},
        numbers=np.arange(n),
        encodings=np.stack([np.arange(n), np.zeros(n, dtype=int)], axis=1),
        values={"accuracy": np.array(accuracy), "latency_ms": np.array(latency_ms)},
        standard_errors={"accuracy": np.full(n, error)},
        feasible=np.ones(n, dtype=bool),
    )


EVALUATED = made_of([0.90, 0.80], [2.0, 1.0], error=0.01)


def networks(accuracy: Sequence[float], latency_ms: Sequence[float]) -> DeviceNetworks:
    predicted = made_of(accuracy, latency_ms, error=0.02, name="predicted")
    return DeviceNetworks(device="cpu", evaluated=EVALUATED, predicted=predicted)


@pytest.mark.parametrize(
    ("accuracy", "latency_ms", "is_named"),
    [
        (0.92, 2.5, True),  # beyond the noise of what was measured
        (0.905, 2.5, False),  # within it, and slower
        (0.895, 1.5, True),  # within it, and faster
        (0.895, 2.0, False),  # within it, and as fast
        (0.88, 1.5, False),
    ],
)
def test_a_predicted_network_is_named_if_it_would_be_the_answer(
    accuracy: float, latency_ms: float, is_named: bool
) -> None:
    offers = networks([accuracy], [latency_ms]).ask({})
    assert [a.number for a in offers.evaluated] == [0]
    assert bool(offers.predicted) is is_named


def test_a_predicted_network_tells_how_sure_it_is() -> None:
    (answer,) = networks([0.92], [2.5]).ask({}).predicted
    assert answer.standard_errors == {"accuracy": 0.02}
    assert EVALUATED.standard_errors["accuracy"][0] == 0.01


def test_of_predictions_as_good_within_the_noise_the_faster_is_named() -> None:
    (answer,) = networks([0.95, 0.945, 0.93], [3.0, 2.5, 2.0]).ask({}).predicted
    assert answer.number == 1


def test_where_no_evaluated_network_keeps_a_limit_a_predicted_one_may() -> None:
    offers = networks([0.7], [0.5]).ask({"latency_ms": 0.6})
    assert offers.evaluated == ()
    assert [a.number for a in offers.predicted] == [0]
    assert offers.infeasible is not None
    assert offers.infeasible.reachable == 1.0


def test_where_nothing_keeps_a_limit_the_nearest_that_was_evaluated_is_told() -> None:
    with pytest.raises(InfeasibleError, match="latency_ms binds") as e:
        networks([0.7], [0.5]).ask({"latency_ms": 0.4})
    assert e.value.reachable == 1.0


def test_predictions_answer_no_question_about_another_metric() -> None:
    offers = networks([0.99], [0.1]).ask({"accuracy": 0.5}, metric="latency_ms")
    assert [a.number for a in offers.evaluated] == [1]
    assert offers.predicted == ()


def test_none_is_predicted_where_none_is_asked_for() -> None:
    assert networks([0.99], [0.1]).ask({}, n_predicted=0).predicted == ()
    assert len(networks([0.99, 0.97], [3.0, 2.5]).ask({}, n_predicted=2, tolerance=0.0).predicted) == 2


def test_a_catalogue_names_the_devices_it_knows() -> None:
    with pytest.raises(UnknownNameError, match=r"'phone'.*cpu"):
        Catalogue({"cpu": networks([0.9], [1.0])})["phone"]
