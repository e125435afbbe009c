"""Encodings of architectures and the choices behind them: encode, decode, what is active, how many networks there are.

A choice may be switched on and off by an earlier one, its parent. Given the parent's option, the
choices below different options are independent, so everything here is a sum over options and a
product over children. This module knows choices only: no slots, no blocks. Whoever has choices without
their space (a study read from its file) makes their tree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import SpaceError
from hwnas.types import BoolArray, Choice, IntArray, Option


class ChoiceTree:
    """The choices of a space with their conditions, checked.

    Attributes:
        sizes: (D,) number of options of each choice.

    Raises:
        SpaceError: the choices do not make a tree (a name twice, a parent that comes later, ...).
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        _check_choices(choices)
        self._choices = tuple(choices)
        self._index = {c.name: i for i, c in enumerate(self._choices)}
        self._options = [{o: j for j, o in enumerate(c.options)} for c in self._choices]
        self.sizes: IntArray = np.array([len(c.options) for c in choices], dtype=np.int64)
        # Children under one condition are switched together: (parent, lookup over its options, children).
        groups: dict[tuple[int, frozenset[int]], list[int]] = {}
        for i, c in enumerate(self._choices):
            if c.parent is not None:
                groups.setdefault((c.parent, c.active_when), []).append(i)
        self._groups: list[tuple[int, BoolArray, list[int]]] = []
        for (parent, when), children in sorted(groups.items(), key=lambda g: g[0][0]):
            lookup = np.zeros(len(self._choices[parent].options), dtype=np.bool_)
            lookup[sorted(when)] = True
            self._groups.append((parent, lookup, children))

    @cached_property
    def _thresholds(self) -> list[npt.NDArray[np.float64]]:
        # Python divides integers of any size correctly rounded: each threshold is exact to one ulp.
        return [np.array([part / sum(n) for part in itertools.accumulate(n)][:-1]) for n in self._counts]

    @cached_property
    def _counts(self) -> list[list[int]]:
        """For each choice and option: the distinct settings of everything below, that option chosen."""
        counts: list[list[int]] = [[1] * len(c.options) for c in self._choices]
        for i in reversed(range(len(self._choices))):  # children stand after their parent
            c = self._choices[i]
            if c.parent is not None:
                below = sum(counts[i])
                for option in c.active_when:
                    counts[c.parent][option] *= below
        return counts

    def count(self) -> int:
        """Number of distinct settings: rows that differ after `canonical`."""
        return math.prod(sum(n) for n, c in zip(self._counts, self._choices, strict=True) if c.parent is None)

    def validate(self, encodings: IntArray) -> IntArray:
        """The encodings, (D,) or (N, D), as int64; not a copy if they were.

        Raises:
            SpaceError: no integers, another number of choices, or an index without an option.
        """
        given = np.asarray(encodings)
        d = len(self._choices)
        if not np.issubdtype(given.dtype, np.integer):
            raise SpaceError(f"encodings must be integers (option indices), not {given.dtype}")
        if given.ndim not in (1, 2) or given.shape[-1] != d:
            raise SpaceError(f"encodings have shape ({d},) or (N, {d}), one index a choice; got {given.shape}")
        rows = np.atleast_2d(given)
        # the ends of each column tell it without a mask of all rows, which only the error needs
        if rows.size and ((rows.min(axis=0) < 0) | (rows.max(axis=0) >= self.sizes)).any():
            at = tuple(np.argwhere((given < 0) | (given >= self.sizes))[0])
            choice = self._choices[at[-1]]
            raise SpaceError(
                f"option index {given[at]} for choice {choice.name!r}; allowed: 0 to {len(choice.options) - 1} "
                f"({', '.join(map(repr, choice.options))})"
            )
        return given.astype(np.int64, copy=False)

    def encode(self, architecture: Mapping[str, Option]) -> IntArray:
        """(D,) canonical encoding of an architecture given as choice name -> option.

        Choices that are switched off may be missing; what is given for them must be an option all the same.

        Raises:
            SpaceError: an unknown choice, a value that is no option, or an active choice that is missing.
        """
        unknown = [name for name in architecture if name not in self._index]
        if unknown:
            raise SpaceError(f"there is no choice {unknown[0]!r}; the choices: {', '.join(self._index) or 'none'}")
        out: npt.NDArray[np.int64] = np.zeros(len(self._choices), dtype=np.int64)
        for i, choice in enumerate(self._choices):
            if choice.name in architecture:
                out[i] = self._option_index(i, architecture[choice.name])
        for i in np.flatnonzero(self.active(out[None])[0]).tolist():
            choice = self._choices[i]
            if choice.name not in architecture:
                raise SpaceError(
                    f"the architecture says nothing about {choice.name!r}; give it one of "
                    f"{', '.join(map(repr, choice.options))}"
                )
        encoding: IntArray = self.canonical(out[None])[0]
        return encoding

    def _option_index(self, choice: int, value: Option) -> int:
        options = self._options[choice]
        try:
            index = options[value]
        except (KeyError, TypeError):  # unknown, or not hashable
            index = -1
        # True == 1 in a dictionary, but they are different answers here
        if index < 0 or isinstance(value, bool | np.bool_) != isinstance(self._choices[choice].options[index], bool):
            raise SpaceError(
                f"{value!r} is no option of choice {self._choices[choice].name!r}; "
                f"allowed: {', '.join(map(repr, options))}"
            )
        return index

    def decode(self, encoding: IntArray) -> dict[str, Option]:
        """(D,) -> choice name -> option, active choices only, in the order of the choices.

        Raises:
            SpaceError: as `validate`, or several encodings at once.
        """
        one = self.validate(encoding)
        if one.ndim != 1:
            raise SpaceError(f"one encoding of shape ({len(self._choices)},) is asked for; got {one.shape}")
        on = self.active(one[None])[0]
        return {c.name: c.options[i] for c, i, matters in zip(self._choices, one, on, strict=True) if matters}

    def active(self, encodings: IntArray) -> BoolArray:
        """(N, D) -> (N, D): which choices matter in each row."""
        on = np.ones(encodings.shape, dtype=np.bool_)
        for parent, lookup, children in self._groups:  # by parent: its own column is final by then
            on[:, children] = (lookup[encodings[:, parent]] & on[:, parent])[:, None]
        return on

    def canonical(self, encodings: IntArray) -> IntArray:
        """(N, D) -> (N, D) int64: choices that are switched off become 0. A new array."""
        return np.multiply(encodings, self.active(encodings), dtype=np.int64)

    def sample_networks(self, n: int, rng: np.random.Generator) -> IntArray:
        """(n, D) canonical rows, uniform over the `count()` distinct ones."""
        # Each option comes as often as there are networks below it, as if its choice mattered; where it does not,
        # `canonical` forgets it. So every network has the product of the same shares, 1 / count().
        u = rng.random((n, len(self._choices)))
        out: npt.NDArray[np.int64] = np.zeros(u.shape, dtype=np.int64)
        for i, thresholds in enumerate(self._thresholds):
            out[:, i] = np.searchsorted(thresholds, u[:, i], side="right")
        return self.canonical(out)

    def sample_encodings(self, n: int, rng: np.random.Generator) -> IntArray:
        """(n, D) rows, each choice uniform over its options whether active or not; not canonical."""
        drawn: npt.NDArray[np.int64] = rng.integers(0, self.sizes, size=(n, len(self._choices)), dtype=np.int64)
        return drawn


def _check_choices(choices: Sequence[Choice]) -> None:
    seen: dict[str, int] = {}
    for i, c in enumerate(choices):
        if c.name in seen:
            raise SpaceError(f"two choices are named {c.name!r}; names must be unique in a space")
        seen[c.name] = i
        _check_options(c)
        if c.parent is None:
            if c.active_when:
                raise SpaceError(f"choice {c.name!r} has active_when but no parent; name the parent or drop it")
            continue
        if not 0 <= c.parent < i:
            raise SpaceError(
                f"choice {c.name!r} (index {i}) has parent {c.parent}; a parent must stand before its children"
            )
        parent = choices[c.parent]
        if not c.active_when or not all(0 <= o < len(parent.options) for o in c.active_when):
            raise SpaceError(
                f"choice {c.name!r} is active when {parent.name!r} has option indices {sorted(c.active_when)}; "
                f"give at least one, each from 0 to {len(parent.options) - 1}"
            )


def _check_options(choice: Choice) -> None:
    if not choice.options:
        raise SpaceError(f"choice {choice.name!r} has no options; give at least one")
    seen: set[Any] = set()
    for option in choice.options:
        if not isinstance(option, str | int | float | bool) or (
            isinstance(option, float) and not math.isfinite(option)
        ):
            raise SpaceError(
                f"choice {choice.name!r} has the option {option!r}; options are text, finite numbers or booleans"
            )
        if option in seen:  # also True beside 1, which a file could not tell apart
            raise SpaceError(f"choice {choice.name!r} has the option {option!r} twice; options must differ")
        seen.add(option)
