"""What a limit on a metric is: which values keep it, how far others are beyond it, and how it is written.

A limit is exact. A value equal to it keeps it, the next float beyond does not, and a value that is not known keeps
none; whoever wants room (for noise, for the rounding of a sum) takes it from the value before asking. Searches, cost
models, studies, deployments and reports all ask here. Knows numbers and names of metrics, never where they are from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import numpy as np

from hwnas.allowed import EVALUATED, Allowed, Between, Limits
from hwnas.errors import ConfigError
from hwnas.types import BoolArray, Direction, FloatArray

_DIGITS = 4  # of a value told as a limit: at most a thousandth looser than it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A hard constraint: `metric <= value`, or `metric >= value` where it is a floor.

    Attributes:
        metric: what it is about.
        value: the largest value allowed, or the smallest.
        floor: it is the smallest.
    """

    metric: str
    value: float
    floor: bool = False

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.floor else '<='} {self.value:g}"

    def is_kept_by(self, value: float) -> bool:
        """Whether one value keeps it; NaN does not."""
        return value >= self.value if self.floor else value <= self.value

    def kept(self, values: FloatArray) -> BoolArray:
        """Which values keep it; NaN does not."""
        return values >= self.value if self.floor else values <= self.value

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


USUAL: Mapping[str, Direction] = dict.fromkeys(EVALUATED, Direction.MAXIMIZE)
"""Directions of the metrics of a run of ours; all others are minimised."""


def as_limits(limits: Limits, directions: Mapping[str, Direction] | None = None) -> tuple[Limit, ...]:
    """Limits as files and commands have them, one by one; of a maximised metric a number is a floor."""
    directions = directions or {}
    found: list[Limit] = []
    for metric, allowed in limits.items():
        if not isinstance(allowed, Between):
            found.append(Limit(metric=metric, value=allowed, floor=directions.get(metric) is Direction.MAXIMIZE))
            continue
        if allowed.at_least is not None:
            found.append(Limit(metric=metric, value=allowed.at_least, floor=True))
        if allowed.at_most is not None:
            found.append(Limit(metric=metric, value=allowed.at_most))
    return tuple(found)


def as_mapping(limits: Iterable[Limit], directions: Mapping[str, Direction] | None = None) -> dict[str, Allowed]:
    """The inverse of `as_limits`, in the fewest words: a number where it says all. Of several on one side the tightest.

    Raises:
        ConfigError: two of them leave no value of a metric.
    """
    sides: dict[str, dict[bool, float]] = {}
    for limit in limits:
        mine = sides.setdefault(limit.metric, {})
        tighter = max if limit.floor else min
        mine[limit.floor] = tighter(limit.value, mine.get(limit.floor, limit.value))
    found: dict[str, Allowed] = {}
    for metric, mine in sides.items():
        usual = (directions or {}).get(metric) is Direction.MAXIMIZE
        if mine.keys() == {usual}:
            found[metric] = mine[usual]
            continue
        try:
            found[metric] = Between(at_least=mine.get(True), at_most=mine.get(False))
        except ConfigError as e:
            raise ConfigError(f"{metric}: {e}") from None
    return found


def ceiling(limits: Limits, metric: str) -> float | None:
    """The most that is allowed of a metric that is not maximised, None if there is no such limit."""
    return next((x.value for x in as_limits(limits) if x.metric == metric and not x.floor), None)


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
    kept = np.ones(len(next(iter(values.values()), np.zeros(0))), dtype=bool)
    for limit in limits:
        kept &= limit.kept(limit.decisive(values, upper or {}))
    return kept


def conflicting(limits: Sequence[Limit], possible: Callable[[Sequence[Limit]], bool]) -> list[Limit]:
    """Of limits that nothing keeps together: all that nothing keeps alone, or a set of which none can be spared.

    Such a set (an irreducible inconsistent subsystem; Chinneck, 2008, section 6.3) is not kept by anything, and without
    any one of its limits it is.

    Args:
        limits: not kept together by anything.
        possible: whether something keeps some of them together.
    """
    if alone := [limit for limit in limits if not possible([limit])]:
        return alone
    # without one of these the others can be kept: they are in every such set, and often are all of one
    needed = [limit for limit in limits if possible([x for x in limits if x is not limit])]
    if not possible(needed):
        return needed
    kept = list(limits)
    for limit in limits:
        fewer = [x for x in kept if x is not limit]
        if limit not in needed and not possible(fewer):
            kept = fewer
    return kept


def listed(limits: Iterable[Limit]) -> str:
    """`latency_ms <= 2 and accuracy >= 0.9`."""
    return " and ".join(map(str, limits))


def round_up(value: float) -> str:
    """Four digits, never below the value: what may be typed as a limit that it keeps."""
    return _rounded(value, ROUND_CEILING)


def _rounded(value: float, rounding: str) -> str:
    return f"{Context(prec=_DIGITS, rounding=rounding).create_decimal_from_float(value):f}"
