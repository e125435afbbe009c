"""One-hot rows of architectures, a place for each choice that is switched off among them, and kernels between them.

Numpy only: knows choices and option indices, never what a metric means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import Choice, FloatArray, IntArray

Pair = tuple[int, int]


class States:
    """The state of each choice in an architecture: its option, or that it is switched off."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._tree = ChoiceTree(choices)
        self._sizes = [len(c.options) for c in choices]
        states = [n + (c.parent is not None) for n, c in zip(self._sizes, choices, strict=True)]
        # what has one state says nothing
        self.columns = [i for i, n in enumerate(states) if n > 1]
        starts = np.cumsum([0, *(states[c] for c in self.columns)]).tolist()
        self._blocks = {c: slice(starts[i], starts[i + 1]) for i, c in enumerate(self.columns)}
        self.width = int(starts[-1])
        alike: dict[tuple[object, ...], list[int]] = {}
        for c in self.columns:
            alike.setdefault((choices[c].options, states[c]), []).append(c)
        # (S,) the number that each state shares with those of other choices
        self.shared = np.zeros(self.width, dtype=np.int64)
        for n, columns in enumerate(alike.values()):
            for c in columns:
                self.shared[self.block(c)] = max(states) * n + np.arange(states[c])
        self.n_shared = max(states, default=1) * max(len(alike), 1)

    def block(self, choice: int) -> slice:
        """The columns of a choice's states."""
        return self._blocks[choice]

    def __call__(self, encodings: IntArray) -> IntArray:
        """(N, D) -> (N, D) states."""
        found: IntArray = np.where(self._tree.active(encodings), encodings, np.array(self._sizes))
        return found

    def hot(self, states: IntArray) -> FloatArray:
        """(N, D) -> (N, S), a one for each choice's state."""
        found = np.zeros((len(states), self.width))
        for c in self.columns:
            found[np.arange(len(states)), self.block(c).start + states[:, c]] = 1.0
        return found


class CenteredRows:
    """One-hot rows less their mean over the evaluated networks, and kernels between them.

    Args:
        hot: (N, S) of the evaluated networks.
        states: that made them.
    """

    def __init__(self, hot: FloatArray, states: States) -> None:
        self._states = states
        self.means = hot.mean(axis=0)
        self.rows = hot - self.means

    def centered(self, hot: FloatArray) -> FloatArray:
        """(M, S) less the same means."""
        found: FloatArray = hot - self.means
        return found

    def kernels(self, rows: FloatArray, pairs: Sequence[Pair]) -> list[FloatArray]:
        """(M, S) -> (M, N) of what choices have alone, of what they share, and of pairs."""
        return [self.main(rows), self.shared(rows), self.joint(rows, pairs)]

    def main(self, rows: FloatArray) -> FloatArray:
        """(M, S) -> (M, N)."""
        return np.asarray(rows @ self.rows.T)

    def counts(self, rows: FloatArray) -> FloatArray:
        """(M, S) -> (M, T) summed over the states that share a number."""
        found = np.zeros((len(rows), self._states.n_shared))
        np.add.at(found.T, self._states.shared, rows.T)
        return found

    def shared(self, rows: FloatArray) -> FloatArray:
        """(M, S) -> (M, N)."""
        return np.asarray(self.counts(rows) @ self.counts(self.rows).T)

    def unshared(self, values: FloatArray) -> FloatArray:
        """(S,) -> (S,) each the sum over the states that share its number."""
        return np.asarray(self.counts(values[None])[0][self._states.shared])

    def joint(self, rows: FloatArray, pairs: Sequence[Pair]) -> FloatArray:
        """(M, S) -> (M, N), summed over pairs."""
        found = np.zeros((len(rows), len(self.rows)))
        if len(pairs) == len(self._states.columns) * (len(self._states.columns) - 1) // 2:
            # all of them: what two choices add is half of what all add squared, less the squares
            for c in self._states.columns:
                found -= (rows[:, self._states.block(c)] @ self.rows[:, self._states.block(c)].T) ** 2
            return (found + self.main(rows) ** 2) / 2
        of = {c: rows[:, b] @ self.rows[:, b].T for c in {c for p in pairs for c in p} for b in [self._states.block(c)]}
        for a, b in pairs:
            found += of[a] * of[b]
        return found

    def diagonals(self, rows: FloatArray, pairs: Sequence[Pair]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(M, S) -> each (M,), the three kernels of rows with themselves."""
        of = {c: (rows[:, self._states.block(c)] ** 2).sum(axis=1) for c in self._states.columns}
        joint: FloatArray = sum((of[a] * of[b] for a, b in pairs), start=np.zeros(len(rows)))
        return (rows**2).sum(axis=1), (self.counts(rows) ** 2).sum(axis=1), joint

    def offset(self, choice: int) -> FloatArray:
        """(n, n) the centered row of each state of one choice."""
        means = self.means[self._states.block(choice)]
        found: FloatArray = np.eye(len(means)) - means
        return found
