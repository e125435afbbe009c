"""What stands behind the question mark of a data source, read and checked. Knows texts, not what they are used for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from hwnas.data.decoding import GROUNDS
from hwnas.data.images import ReadingOptions
from hwnas.errors import DataError

# of every source that reads image files
READING = ("size", "channels", "ground", "range", "unreadable", "stream")


def check_known(options: Mapping[str, str], *, source: str, known: Iterable[str] = ()) -> None:
    """Hold that a source has all options that are given.

    Raises:
        DataError: it has not; lists those it has.
    """
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DataError(
            f"the source {source!r} has no option {', '.join(map(repr, unknown))}; known: "
            f"{', '.join([*known, 'augment'])}"
        )


def reading_options(options: Mapping[str, str]) -> ReadingOptions:
    """How images are to be read, of the options in `READING`.

    Raises:
        DataError: one has a value that it cannot have.
    """
    return ReadingOptions(
        size=integer(options, "size", allowed=range(4, 4097)),
        channels=integer(options, "channels", allowed=(1, 3)),
        ground=word(options, "ground", allowed=tuple(GROUNDS)) or "white",
        value_range=span(options, "range"),
        skip_unreadable=word(options, "unreadable", allowed=("skip",)) is not None,
        stream={"always": True, "never": False, None: None}[word(options, "stream", allowed=("always", "never"))],
    )


def integer(options: Mapping[str, str], name: str, *, allowed: range | tuple[int, ...]) -> int | None:
    """A whole number; None if it is not given.

    Raises:
        DataError: it is not one of those allowed.
    """
    if name not in options:
        return None
    text = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
    try:
        # -1 below is in no allowed range, so both faults get one message
        value = int(options[name])
    except ValueError:
        value = -1
    if value not in allowed:
        raise DataError(f"the option {name} is {options[name]!r}, but must be {text}")
    return value


def word(options: Mapping[str, str], name: str, *, allowed: tuple[str, ...]) -> str | None:
    """One of several words; None if it is not given.

    Raises:
        DataError: it is another.
    """
    value = options.get(name)
    if value is not None and value not in allowed:
        raise DataError(f"the option {name} is {value!r}, but must be {' or '.join(allowed)}")
    return value


def span(options: Mapping[str, str], name: str) -> tuple[float, float] | None:
    """`LOW..HIGH`; None if it is not given.

    Raises:
        DataError: it is not two numbers that grow.
    """
    if name not in options:
        return None
    low, dots, high = options[name].partition("..")
    try:
        found = (float(low), float(high))
    except ValueError:
        found = (math.nan, math.nan)
    if not dots or not (math.isfinite(found[0]) and math.isfinite(found[1]) and found[0] < found[1]):
        raise DataError(f"the option {name} is {options[name]!r}, but must be two numbers that grow, as in 0..65535")
    return found
