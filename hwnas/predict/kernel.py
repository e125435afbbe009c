"""How alike two architectures are, choice by choice: what a Gaussian process over a space of networks needs.

Numpy only: knows choices and option indices, never what a metric means.

Two options of an ordered choice (numbers that ascend: widths, depths, kernel sizes) are as far apart as their places in
the list; two of any other choice are at distance 1 (Hamming). A choice that is switched off has a value of its own, at
distance 1 from all its options. Every such distance is a sum of cuts, so that `exp(-distance)` is positive definite.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import Choice, FloatArray, IntArray


class ChoiceDistances:
    """Distances between architectures, one for each choice that has more than one option.

    Attributes:
        tables: for each such choice its distances, (options + 1)^2, the last row for a choice that is switched off.
        width: of one-hot rows, S: the sum of the sizes of all tables.
        places: for each choice of the space the columns of one-hot rows that stand for its options; empty where it has
            one option alone.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._tree = ChoiceTree(choices)
        self._columns = [i for i, c in enumerate(choices) if len(c.options) > 1]
        self.tables = [_distances(choices[i]) for i in self._columns]
        sizes = [len(table) for table in self.tables]
        self._starts = np.cumsum([0, *sizes], dtype=np.int64)[:-1]
        self.width = sum(sizes)
        starts = {column: int(start) for column, start in zip(self._columns, self._starts, strict=True)}
        self.places = [
            starts[i] + np.arange(len(c.options)) if i in starts else np.zeros(0, dtype=np.int64)
            for i, c in enumerate(choices)
        ]
        self._off = np.array([len(c.options) for c in choices], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tables)

    def one_hot(self, encodings: IntArray) -> FloatArray:
        """(N, D) canonical -> (N, S) float32, a one for the option of each choice."""
        # the last place stands for a choice that is switched off
        place = np.where(self._tree.active(encodings), encodings, self._off)[:, self._columns] + self._starts
        found = np.zeros((len(encodings), self.width), dtype=np.float32)
        found.reshape(-1)[place + np.arange(len(encodings))[:, None] * self.width] = 1.0
        return found

    def matrix(self, weights: FloatArray) -> FloatArray:
        """(S, S): `a @ matrix @ b` is the weighted distance of the architectures with one-hot rows a and b."""
        found = np.zeros((self.width, self.width))
        for start, table, weight in zip(self._starts, self.tables, weights, strict=True):
            found[start : start + len(table), start : start + len(table)] = weight * table
        return found

    def contract(self, pairs: FloatArray) -> FloatArray:
        """(S, S) sums over pairs of options -> for each choice, their sum weighted with its distances."""
        return np.array(
            [
                float((pairs[start : start + len(table), start : start + len(table)] * table).sum())
                for start, table in zip(self._starts, self.tables, strict=True)
            ]
        )


def _distances(choice: Choice) -> FloatArray:
    n = len(choice.options)
    places = np.arange(n)
    if is_ordered(choice):
        apart = np.abs(places[:, None] - places[None, :]) / (n - 1)
    else:
        apart = (places[:, None] != places[None, :]).astype(float)
    found = np.ones((n + 1, n + 1))
    found[:n, :n] = apart
    found[n, n] = 0.0
    return found


def is_ordered(choice: Choice) -> bool:
    """Whether the options of a choice are numbers that ascend."""
    numbers = [o for o in choice.options if isinstance(o, int | float) and not isinstance(o, bool)]
    return len(numbers) == len(choice.options) and all(a < b for a, b in itertools.pairwise(numbers))
