"""The conditions between choices, as a tree: what is active, how many networks there are, how to draw one.

A choice may be switched on and off by an earlier one, its parent. Given the parent's option, the
choices below different options are independent, so everything here is a sum over options and a
product over children. This module knows choices only: no slots, no blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import SpaceError
from hwnas.types import Choice, IntArray


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
        self.sizes: IntArray = np.array([len(c.options) for c in choices], dtype=np.int64)
        # Children under one condition are switched together: (parent, lookup over its options, children).
        groups: dict[tuple[int, frozenset[int]], list[int]] = {}
        for i, c in enumerate(self._choices):
            if c.parent is not None:
                groups.setdefault((c.parent, c.active_when), []).append(i)
        self._groups: list[tuple[int, npt.NDArray[np.bool_], list[int]]] = []
        for (parent, when), children in sorted(groups.items(), key=lambda g: g[0][0]):
            lookup = np.zeros(len(self._choices[parent].options), dtype=np.bool_)
            lookup[sorted(when)] = True
            self._groups.append((parent, lookup, children))
        self._counts = self._subtree_counts()
        # Python divides integers of any size correctly rounded: each threshold is exact to one ulp.
        self._thresholds: list[npt.NDArray[np.float64]] = [
            np.array([part / sum(counts) for part in itertools.accumulate(counts)][:-1]) for counts in self._counts
        ]

    def _subtree_counts(self) -> list[list[int]]:
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

    def active(self, encodings: IntArray) -> npt.NDArray[np.bool_]:
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
