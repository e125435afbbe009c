"""What a limit on a metric is: which values keep it, how far others are beyond it, and how it is written.

A limit is exact. A value equal to it keeps it, the next float beyond does not, and a value that is not known keeps
none; whoever wants room (for noise, for the rounding of a sum) takes it from the value before asking. Searches, cost
models, studies, deployments and reports all ask here. Knows numbers and names of metrics, never where they are from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import numpy as np

from hwnas.types import BoolArray, Direction, FloatArray

_DIGITS = 4  # of a value told as a limit: at most a thousandth looser than it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A hard constraint: `metric <= value`, or `metric >= value` where it is a floor.

    Attributes:
        metric: what it is about.
        value: the largest value allowed, or the smallest.
        floor: it is the smallest: the metric is maximised.
    """

    metric: str
    value: float
    floor: bool = False

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.floor else '<='} {self.value:g}"

    def is_kept_by(self, value: float) -> bool:
        """Whether one value keeps it; NaN does not."""
        return value >= self.value if self.floor else value <= self.value

    def beyond(self, values: FloatArray) -> FloatArray:
        """How far values are beyond it, in its own unit: at most 0 where they keep it, NaN where they are NaN."""
        return self.value - values if self.floor else values - self.value

    def excess(self, values: FloatArray) -> FloatArray:
        """How far values are beyond it, as a share of it: 0 where they keep it, inf where they are NaN."""
        with np.errstate(over="ignore"):  # so far beyond that the share is no float: inf
            share = np.maximum(self.beyond(values), 0.0) / (abs(self.value) or 1.0)
        return np.where(np.isnan(share), np.inf, share)

    def decisive(self, values: Mapping[str, FloatArray], upper: Mapping[str, FloatArray]) -> FloatArray:
        """The numbers by which it is kept: upper bounds where there are any, for a floor the values themselves.

        Args:
            values: metric -> (N,), this one among them.
            upper: metric -> (N,) upper bounds, of metrics that have one.

        Returns:
            (N,)
        """
        own = values[self.metric]
        return own if self.floor else upper.get(self.metric, own)

    def met_at(self, value: float) -> str:
        """A value as a limit of this kind which it keeps: four digits, rounded up, or down for a floor."""
        return _rounded(value, ROUND_FLOOR if self.floor else ROUND_CEILING)


def as_limits(limits: Mapping[str, float], directions: Mapping[str, Direction] | None = None) -> tuple[Limit, ...]:
    """Metric -> number, as files and commands have limits, as limits; of a maximised metric it is a floor."""
    directions = directions or {}
    return tuple(
        Limit(metric=m, value=value, floor=directions.get(m) is Direction.MAXIMIZE) for m, value in limits.items()
    )


def excess(
    limits: Sequence[Limit], values: Mapping[str, FloatArray], upper: Mapping[str, FloatArray] | None = None
) -> FloatArray:
    """How far N networks are beyond L limits, as a share of each.

    Args:
        limits: on metrics of `values`.
        values: metric -> (N,).
        upper: metric -> (N,) upper bounds for the metrics that have one; a limit is kept by them.

    Returns:
        (N, L): 0 where the limit is kept, inf where the value is not known.
    """
    n = len(next(iter(values.values()), np.zeros(0)))
    columns = [limit.excess(limit.decisive(values, upper or {})) for limit in limits]
    return np.stack(columns, axis=1) if columns else np.zeros((n, 0))


def feasible(
    limits: Sequence[Limit], values: Mapping[str, FloatArray], upper: Mapping[str, FloatArray] | None = None
) -> BoolArray:
    """(N,) which networks keep all limits; arguments as of `excess`."""
    beyond = excess(limits, values, upper)
    return np.asarray((beyond == 0).all(axis=1))


def listed(limits: Iterable[Limit]) -> str:
    """`latency_ms <= 2 and accuracy >= 0.9`."""
    return " and ".join(map(str, limits))


def round_up(value: float) -> str:
    """Four digits, never below the value: what may be typed as a limit that it keeps."""
    return _rounded(value, ROUND_CEILING)


def _rounded(value: float, rounding: str) -> str:
    return f"{Context(prec=_DIGITS, rounding=rounding).create_decimal_from_float(value):f}"
