"""Checks of what a space is defined by: every one answers with a SpaceError that says how to mend it.

This module knows values and their names, not what a space does with them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

import numpy as np

from hwnas.errors import SpaceError

T = TypeVar("T")


def integer(what: str, value: object, *, at_least: int = 1) -> int:
    """The value as an int.

    Raises:
        SpaceError: it is no integer, or smaller than `at_least`.
    """
    try:
        if isinstance(value, bool | np.bool_):  # `index` takes True for 1; as a number of layers it is a slip
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # what it refuses is what we look for
    except TypeError:
        raise SpaceError(f"{what} must be an integer of at least {at_least}, not {value!r}") from None
    if number < at_least:
        raise SpaceError(f"{what} is {number}; it must be at least {at_least}")
    return number


def odd(what: str, value: object) -> int:
    """The value as an odd int of at least 1: a kernel size, which must have a middle.

    Raises:
        SpaceError: it is something else.
    """
    number = integer(what, value)
    if number % 2 == 0:
        raise SpaceError(f"{what} is {number}; kernel sizes must be odd (3, 5, 7), so that a kernel has a middle")
    return number


def positive(what: str, value: object) -> float:
    """The value as a positive, finite float.

    Raises:
        SpaceError: it is something else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise SpaceError(f"{what} must be a number above 0, not {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise SpaceError(f"{what} is {value!r}; it must be finite and above 0")
    return number


def ratio(what: str, value: object) -> int | float:
    """The value as a number above 0; an int if it is whole, so that 6.0 and 6 are one option.

    Raises:
        SpaceError: it is something else.
    """
    number = positive(what, value)
    return int(number) if number.is_integer() else number


def boolean(what: str, value: object) -> bool:
    """The value as a bool.

    Raises:
        SpaceError: it is not True or False.
    """
    if not isinstance(value, bool | np.bool_):
        raise SpaceError(f"{what} must be true or false, not {value!r}")
    return bool(value)


def member(what: str, value: object, *, of: Iterable[str]) -> str:
    """The value, one of a set of names.

    Raises:
        SpaceError: it is not among them; lists them.
    """
    allowed = tuple(of)
    if not isinstance(value, str) or value not in allowed:
        raise SpaceError(f"{what} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def among(what: str, values: Iterable[T], *, known: Sequence[T], space: str) -> tuple[T, ...]:
    """Options of a space's dimension that are to be kept, in the order they are given in.

    Args:
        what: the dimension's name, for errors.
        values: one or more, all different.
        known: all options of the dimension.
        space: name of the space.

    Raises:
        SpaceError: as `options`, or one that the space does not have.
    """
    wanted: tuple[T, ...] = options(what, values, each=lambda _, option: cast("T", option))
    wrong = [o for o in wanted if o not in known]
    if wrong:
        allowed = ", ".join(map(str, known)) or "none"
        raise SpaceError(f"space {space!r} has no {wrong[0]!r} among its {what}; allowed: {allowed}")
    return wanted


def options(what: str, values: Iterable[object], *, each: Callable[[str, object], T]) -> tuple[T, ...]:
    """The options of a dimension, each checked and converted, in their order.

    Args:
        what: the dimension's name, for errors.
        values: one or more, all different.
        each: converts one value or raises; gets `what` and the value.

    Raises:
        SpaceError: no sequence, empty, a wrong value, or one value twice.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise SpaceError(f"{what} must be a sequence of options, not {values!r}; for a single one write ({values!r},)")
    given = tuple(each(what, v) for v in values)
    if not given:
        raise SpaceError(f"{what} has no options; give at least one")
    for i, option in enumerate(given):
        if option in given[:i]:  # by ==, so that 1 and 1.0 are one option: their networks would be
            raise SpaceError(f"{what} has the option {option!r} twice; options must differ")
    return given
