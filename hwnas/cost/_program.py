"""The networks of a space as the integer points of a linear program, with their costs as linear expressions.

A choice has a column (0 or 1) for each of its options, and exactly one of them is taken, or none where its parent
switches it off. A factor over several choices has a column for each way they can be set: the local marginal polytope
(Wainwright & Jordan, 2008, section 4.1), whose columns are integers by themselves once the options are. Factors whose
choices are among those of another one, of whatever cost, share its columns; and where one option alone decides what a
table costs (a block that is absent under a depth), it pays by itself and the table is smaller by those ways.

This module knows choices and tables, as `hwnas.cost.elimination` does; never what a number means, nor a solver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hwnas.cost.elimination import Factor
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import BoolArray, Choice, FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(slots=True)
class _Rows:
    """Linear constraints in the making, by coordinates: `low <= sum of values times columns <= high`."""

    row: list[int] = field(default_factory=list)
    column: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, plus: Iterable[int], minus: Iterable[int], *, low: float, high: float) -> None:
        """The sum of some columns less that of others."""
        for sign, columns in ((1.0, plus), (-1.0, minus)):
            for column in columns:
                self.row.append(len(self.low))
                self.column.append(column)
                self.value.append(sign)
        self.low.append(low)
        self.high.append(high)


class Program:
    """Columns and rows for the networks of a space, and some costs over the columns.

    Args:
        choices: of the space.
        costs: for each cost, the factors whose sum it is.

    Attributes:
        n_options: the first columns are options of choices, 0 or 1; the rest follows from them.
        coefficients: (K, columns) of the K costs.
        constants: (K,) what is added to each.
    """

    def __init__(self, choices: Sequence[Choice], costs: Sequence[Sequence[Factor]]) -> None:
        self._choices = tuple(choices)
        self._tree = ChoiceTree(choices)
        self._sizes: list[int] = self._tree.sizes.tolist()
        self._starts: list[int] = np.cumsum([0, *self._sizes]).tolist()
        self.n_options = self._starts[-1]
        self.constants = np.zeros(len(costs))
        self._of_options = np.zeros((len(costs), self.n_options))
        self._of_cells: list[FloatArray] = []
        self._rows = _Rows()
        self._columns = self.n_options
        for c, choice in enumerate(self._choices):
            switch = [] if choice.parent is None else [self._starts[choice.parent] + o for o in choice.active_when]
            taken = 1.0 if choice.parent is None else 0.0
            self._rows.add(self._options(c), switch, low=taken, high=taken)
        for k, own in enumerate(costs):
            self.constants[k] = sum(float(f.values) for f in own if not f.scope)
        for scope, values in _grouped(costs, self._sizes):
            self._add_table(scope, values)
        self.coefficients: FloatArray = np.concatenate([self._of_options, *self._of_cells], axis=1)

    # ------------------------------------------------------------ what a solver needs

    def constraints(self) -> tuple[csr_array, FloatArray, FloatArray]:
        """The matrix of all rows, their smallest and their largest values."""
        from scipy.sparse import csr_array

        r = self._rows
        shape = (len(r.low), self._columns)
        return csr_array((r.value, (r.row, r.column)), shape=shape), np.array(r.low), np.array(r.high)

    def option(self, choice: int, option: int) -> int:
        """The column that is 1 where a choice has this option."""
        return self._starts[choice] + option

    def encoding(self, x: FloatArray) -> IntArray:
        """(columns,) a solution -> (D,) the canonical encoding of its network."""
        taken = [int(np.argmax(x[self._options(c)])) for c in range(len(self._choices))]
        found: IntArray = self._tree.canonical(np.array(taken, dtype=np.int64)[None])[0]
        return found

    def exclude(self, encoding: IntArray) -> None:
        """Add a row that one network, (D,) canonical, alone does not keep."""
        active = np.flatnonzero(self._tree.active(encoding[None])[0]).tolist()
        own = [self._starts[c] + int(encoding[c]) for c in active]
        # a choice that is active in it may be off in another; that other one then lacks this option too
        self._rows.add(own, (), low=-np.inf, high=len(own) - 1.0)

    # ------------------------------------------------------------ tables

    def _options(self, choice: int) -> range:
        return range(self._starts[choice], self._starts[choice + 1])

    def _add_table(self, scope: tuple[int, ...], values: FloatArray) -> None:
        """Columns for the ways to set some choices: (K, *sizes) what the K costs pay for each."""
        cells, costs = self._ways(scope, values)
        axis, alone = _decided_alone(cells, costs)
        paid = np.isin(cells[:, axis], alone)
        for state in alone:
            first = int(np.argmax(cells[:, axis] == state))
            self._pay(scope[axis], state, costs[:, first])
        # states that some of the ways paid for had too: the columns that are left need not add up to them
        loose = [set(cells[paid, i].tolist()) for i in range(len(scope))]
        cells, costs = cells[~paid], costs[:, ~paid]
        kept = list(range(len(scope)))
        for i in reversed(range(len(scope))):
            if i != axis:
                cells, costs, dropped = _without(cells, costs, kept.index(i))
                if dropped:
                    kept.remove(i)
        if not len(cells):
            return
        first_column = self._columns
        self._columns += len(cells)
        self._of_cells.append(costs)
        for column, i in enumerate(kept):
            present = np.unique(cells[:, column]).tolist()
            if i != axis and not loose[i]:
                present = present[:-1]  # the last one follows, as all columns add up to what they do on the first axis
            for state in present:
                members = (first_column + np.flatnonzero(cells[:, column] == state)).tolist()
                self._tie(members, scope[i], state, exactly=state not in loose[i])

    def _ways(self, scope: tuple[int, ...], values: FloatArray) -> tuple[IntArray, FloatArray]:
        """(N, len(scope)) the states that some choices can have together, and (K, N) what they cost.

        A choice with a parent has one more state, off, the last one, in which it costs what its first option does.
        """
        for i, c in enumerate(scope):
            if self._choices[c].parent is not None:
                values = np.concatenate([values, values.take([0], axis=1 + i)], axis=1 + i)
        states = values.shape[1:]
        possible: BoolArray = np.ones(states, dtype=bool)
        for i, c in enumerate(scope):
            parent = self._choices[c].parent
            if parent is not None and parent in scope:
                p = scope.index(parent)
                on = np.isin(np.arange(states[p]), sorted(self._choices[c].active_when))
                off = np.arange(states[i]) == self._sizes[c]
                possible &= _along(off, i, len(scope)) != _along(on, p, len(scope))
        return np.argwhere(possible), values[:, possible]

    def _pay(self, choice: int, state: int, cost: FloatArray) -> None:
        """Let a state of one choice cost something, whatever the others are."""
        if state < self._sizes[choice]:
            self._of_options[:, self._starts[choice] + state] += cost
        else:  # off: that none of its options is taken
            self.constants += cost
            self._of_options[:, self._options(choice)] -= cost[:, None]

    def _tie(self, members: Sequence[int], choice: int, state: int, *, exactly: bool) -> None:
        """The columns of ways in which a choice has a state add up to that state, or to no more."""
        if state < self._sizes[choice]:
            self._rows.add(members, [self._starts[choice] + state], low=0.0 if exactly else -np.inf, high=0.0)
        else:
            self._rows.add([*members, *self._options(choice)], (), low=1.0 if exactly else -np.inf, high=1.0)


def _grouped(costs: Sequence[Sequence[Factor]], sizes: Sequence[int]) -> list[tuple[tuple[int, ...], FloatArray]]:
    """Scopes of which none is among another's, and (K, *sizes) the sum of each cost's factors that fit in there."""
    factors = [(k, f) for k, own in enumerate(costs) for f in own if f.scope]
    groups: list[tuple[tuple[int, ...], FloatArray]] = []
    # the widest first: narrower ones then find their host
    for k, factor in sorted(factors, key=lambda each: -len(each[1].scope)):
        host = next((g for g in groups if set(factor.scope) <= set(g[0])), None)
        if host is None:
            host = (factor.scope, np.zeros((len(costs), *(sizes[c] for c in factor.scope))))
            groups.append(host)
        host[1][k] += factor.aligned(host[0])
    return groups


def _decided_alone(cells: IntArray, costs: FloatArray) -> tuple[int, list[int]]:
    """The axis on which most ways have a state that decides all costs by itself, and these states."""
    best: tuple[int, int, list[int]] = (-1, 0, [])
    for axis in range(cells.shape[1]):
        alone, saved = [], 0
        for state in np.unique(cells[:, axis]).tolist():
            own = costs[:, cells[:, axis] == state]
            if (own == own[:, :1]).all():
                alone.append(state)
                saved += own.shape[1]
        if saved > best[0]:
            best = (saved, axis, alone)
    return best[1], best[2]


def _without(cells: IntArray, costs: FloatArray, axis: int) -> tuple[IntArray, FloatArray, bool]:
    """The ways without one choice, if it changes no cost; whether it did not."""
    if not len(cells):
        return cells, costs, False
    fewer, first, inverse = np.unique(np.delete(cells, axis, axis=1), axis=0, return_index=True, return_inverse=True)
    if not (costs == costs[:, first[inverse.ravel()]]).all():
        return cells, costs, False
    return fewer, costs[:, first], True


def _along(values: BoolArray, axis: int, n_axes: int) -> BoolArray:
    return values.reshape([-1 if i == axis else 1 for i in range(n_axes)])
