"""The networks that a device can have, with their costs there, and which of them answer a question.

Columns of numbers only; never torch, a runtime, files or tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwnas.allowed import Limits
from hwnas.errors import InfeasibleError, UnknownNameError
from hwnas.query import Answer, query
from hwnas.types import SearchSpace

if TYPE_CHECKING:
    from hwnas.search import Study

_PAID = ("latency_ms", "size_bytes")  # in what an answer is cheaper than another, the first that differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The networks that answer a question.

    Attributes:
        evaluated: the best of those that were evaluated, the best first; none if none of them keeps the limits.
        predicted: networks that were not evaluated and would be answered in their place if they are as predicted.
        infeasible: why none that was evaluated is among them; None if one is.
    """

    evaluated: tuple[Answer, ...]
    predicted: tuple[Answer, ...]
    infeasible: InfeasibleError | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceNetworks:
    """What one device can have.

    Attributes:
        device: its name.
        entry: what a configuration calls it: the name, or the path of its description.
        runtime: registered name.
        space: the networks it can compute; None where nobody draws them.
        evaluated: networks whose accuracy was measured, with their costs on the device.
        predicted: others; their accuracy is a prediction, and its standard error the prediction's.
        searched_for: the devices whose searches evaluated them.
        left_out: networks of these searches that the device cannot have.
    """

    device: str
    entry: str = ""
    runtime: str = ""
    space: SearchSpace | None = None
    evaluated: Study
    predicted: Study | None = None
    searched_for: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def metric(self) -> str:
        """What networks were evaluated for: accuracy, or agreement with a given network."""
        return self.evaluated.ranked_by

    def ask(
        self,
        limits: Limits,
        *,
        metric: str = "",
        top: int = 1,
        n_predicted: int = 1,
        tolerance: float | None = None,
    ) -> Offers:
        """The best networks within limits; see `hwnas.query.query` for the arguments.

        Args:
            limits: metric -> limit.
            metric: what to be best in; empty: what networks were evaluated for.
            top: how many evaluated networks at most.
            n_predicted: how many predicted ones at most. Only of what networks were evaluated for there are any.
            tolerance: how much worse a cheaper network may be.

        Raises:
            InfeasibleError: no network at all keeps the limits; tells what the nearest that was evaluated would need.
            StudyError, ConfigError: see `hwnas.query.query`.
        """
        metric = metric or self.metric
        infeasible, evaluated = None, []
        try:
            evaluated = query(self.evaluated, limits=limits, metric=metric, top=top, tolerance=tolerance)
        except InfeasibleError as e:
            infeasible = e
        predicted = []
        if self.predicted is not None and n_predicted and metric == self.metric:
            predicted = self._predicted(limits, evaluated[:1], most=n_predicted, tolerance=tolerance)
        if infeasible is not None and not predicted:
            raise infeasible
        return Offers(evaluated=tuple(evaluated), predicted=tuple(predicted), infeasible=infeasible)

    def _predicted(
        self, limits: Limits, answer: Sequence[Answer], *, most: int, tolerance: float | None
    ) -> list[Answer]:
        """Predicted networks that would be answered in the place of the best evaluated one, if there is one."""
        assert self.predicted is not None
        # what a prediction may be off by is no noise of the images: as good is what would be for a measured accuracy
        noise = tolerance or 0.0
        if tolerance is None:
            errors = self.evaluated.standard_errors.get(self.metric, np.zeros(1))
            noise = answer[0].preference.tolerance if answer else float(np.nan_to_num(np.nanmedian(errors)))
        # asked first: to say why nothing keeps them takes longer than the answer, and nobody reads it
        if not self.predicted.keeps(limits).any():
            return []
        found = query(self.predicted, limits=limits, metric=self.metric, top=most, tolerance=noise)
        return [other for other in found if not answer or _is_worth_more(other, answer[0], noise=noise)]


def _is_worth_more(other: Answer, answer: Answer, *, noise: float) -> bool:
    """Whether a prediction is beyond the noise of what was measured, or as good and cheaper than what is answered."""
    gain = other.values[answer.preference.metric] - answer.preference.best_value
    if gain > noise:
        return True
    cost = next((m for m in _PAID if m in answer.values and other.values[m] != answer.values[m]), "")
    return gain >= -noise and bool(cost) and other.values[cost] < answer.values[cost]


class Catalogue(Mapping[str, DeviceNetworks]):
    """Device name -> what it can have.

    Args:
        devices: of the run, its own first.
    """

    def __init__(self, devices: Mapping[str, DeviceNetworks]) -> None:
        self._devices = dict(devices)

    def __getitem__(self, device: str) -> DeviceNetworks:
        """What a device can have.

        Raises:
            UnknownNameError: the run knows no such device; lists those it knows.
        """
        if device not in self._devices:
            raise UnknownNameError("profiled device", device, self._devices)
        return self._devices[device]

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)
