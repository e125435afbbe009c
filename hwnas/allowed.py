"""What is allowed of a metric, as files, commands and programs say it: a number, or one or two sides by name.

Knows numbers and names of metrics alone, so that a configuration need not load arrays; `hwnas.limits` says which values
keep it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hwnas.errors import ConfigError

ACCURACY, AGREEMENT = "accuracy", "agreement"
MACRO_F1, MEAN_IOU, R2, SCORE = "macro_f1", "mean_iou", "r2", "score"
# what networks are ranked by, shares of which 1 is perfect: how they answer as their targets say, each task in its own
# way (`hwnas/tasks/`; `score`: one of a user's own), or as the given network does
EVALUATED = (ACCURACY, AGREEMENT, MACRO_F1, MEAN_IOU, R2, SCORE)
PLURALS: Mapping[str, str] = {ACCURACY: "accuracies", AGREEMENT: "agreements"}  # of others: scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """What is allowed of a metric where a number alone would not say it: a side that is not the usual one, or both.

    Attributes:
        at_least: the smallest value allowed; None: any.
        at_most: the largest value allowed; None: any.

    Raises:
        ConfigError: neither is given, one is no finite number, or nothing is left between them.
    """

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        given = list(self.to_json().values())
        if not given or not all(map(math.isfinite, given)):
            raise ConfigError(f"{self} limits nothing; give at_least, at_most or both, as finite numbers")
        if len(given) == 2 and given[0] > given[1]:
            raise ConfigError(f"{self} allows nothing; at_least must not be above at_most")

    def __str__(self) -> str:
        return "{ " + ", ".join(f"{side} = {value:g}" for side, value in self.to_json().items()) + " }"

    def to_json(self) -> dict[str, float]:
        """Those of the sides that are limited, by name."""
        sides = (("at_least", self.at_least), ("at_most", self.at_most))
        return {side: float(value) for side, value in sides if value is not None}


Allowed = float | Between
"""Of one metric: a number is the most, or the least of a metric that is maximised."""
Limits = Mapping[str, Allowed]
"""Metric -> what is allowed of it."""


def allowed_to_json(allowed: Allowed) -> float | dict[str, float]:
    """As a JSON value: a number, or an object with `at_least`, `at_most` or both."""
    return allowed.to_json() if isinstance(allowed, Between) else float(allowed)


def allowed_from_json(value: object) -> Allowed:
    """The inverse of `allowed_to_json`.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(value, Between):
        return value
    if _is_number(value):
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping) and value.keys() <= {"at_least", "at_most"} and all(map(_is_number, value.values())):
        return Between(**{side: float(v) for side, v in value.items()})
    raise ConfigError(f"is {value!r}, but should be a number, or at_least, at_most or both with numbers")


def limits_to_json(limits: Limits) -> dict[str, float | dict[str, float]]:
    """Limits as JSON values; see `allowed_to_json`."""
    return {metric: allowed_to_json(allowed) for metric, allowed in limits.items()}


def limits_from_json(values: object) -> dict[str, Allowed]:
    """The inverse of `limits_to_json`; also reads limits from before a metric could have two.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"limits are {values!r}, but should be an object: metric and what is allowed of it")
    found = {}
    for metric, value in values.items():
        try:
            found[str(metric)] = allowed_from_json(value)
        except ConfigError as e:
            raise ConfigError(f"the limit of {metric!r} {e}") from None
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
