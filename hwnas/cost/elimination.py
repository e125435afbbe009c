"""Exact minima and maxima of decomposable costs, by variable elimination (Dechter, 1999).

A cost is a set of factors: small tables, each over a few discrete variables, that are added up or of
which the largest counts. Eliminating one variable after another gives the true optimum over all
assignments, in time exponential only in the width of the graph, not in the number of variables.
This module knows variables and tables; it must never know blocks, devices or what a number means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from hwnas.errors import SpaceError
from hwnas.types import FloatArray, IntArray

Combine = Literal["sum", "max"]
MAX_ENTRIES = 50_000_000  # of one intermediate table: 400 MB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factor:
    """A table over some variables.

    Attributes:
        scope: the variables, ascending.
        values: one axis a variable, in the scope's order; inf forbids an assignment in a minimisation.
    """

    scope: tuple[int, ...]
    values: FloatArray

    @classmethod
    def over(cls, scope: Sequence[int], values: FloatArray) -> Factor:
        """A factor whose axes come in any order; variables it does not really depend on are dropped."""
        order = sorted(range(len(scope)), key=lambda axis: scope[axis])
        values = values.transpose(order)
        kept: list[int] = []
        for axis, variable in enumerate(scope[i] for i in order):
            # the narrower the scopes, the smaller the tables that elimination makes
            first = values.take([0], axis=axis)
            if (values == first).all():
                values = first
            else:
                kept.append(variable)
        return cls(scope=tuple(kept), values=values.reshape([n for n in values.shape if n > 1]))

    def aligned(self, scope: Sequence[int]) -> FloatArray:
        """The values with one axis for each variable of a wider ascending scope, ready to broadcast."""
        shape = iter(self.values.shape)
        mine = set(self.scope)
        return self.values.reshape([next(shape) if v in mine else 1 for v in scope])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Optimum:
    """The best value and one assignment that reaches it: (D,) int64, 0 for variables in no factor."""

    value: float
    assignment: IntArray


def optimum(
    factors: Sequence[Factor],
    sizes: Sequence[int],
    *,
    combine: Combine = "sum",
    maximize: bool = False,
    max_entries: int = MAX_ENTRIES,
) -> Optimum:
    """The exact minimum (or maximum) of the combined factors over all assignments.

    Variables are eliminated greedily, the one whose intermediate table is smallest first. Both
    reductions distribute over both combinations, so one algorithm serves min-sum, max-sum, min-max
    and max-max. Without factors the value is 0.

    Args:
        factors: each over variables that index `sizes`.
        sizes: (D,) number of options of each variable.
        combine: whether factors are added or the largest of them counts.
        maximize: look for the maximum instead of the minimum.
        max_entries: bound on the size of an intermediate table.

    Raises:
        SpaceError: an intermediate table would have more than `max_entries` entries.
    """
    join = np.add if combine == "sum" else np.maximum
    pick = np.argmax if maximize else np.argmin
    constants = [float(f.values) for f in factors if not f.scope]
    live = {i: f for i, f in enumerate(factors) if f.scope}
    neighbours = _neighbourhoods(live.values())
    decisions: list[tuple[int, tuple[int, ...], IntArray]] = []  # variable, the scope it was decided from, its options
    serial = len(factors)
    while neighbours:
        # min-weight order; ties by number, so that the same cost always gives the same optimum
        variable = min(neighbours, key=lambda v: (math.prod(sizes[n] for n in neighbours[v]), v))
        scope = sorted(neighbours.pop(variable))
        _check_entries(scope, sizes, max_entries=max_entries)
        bucket = [i for i, f in live.items() if variable in f.scope]
        # small ones first: they broadcast among themselves before the large one fills the table
        ordered = sorted((live.pop(i) for i in bucket), key=lambda f: f.values.size)
        joined = reduce(join, (f.aligned(scope) for f in ordered))
        axis = scope.index(variable)
        # argmin, then gathered: the options are needed for the way back, and min alone would not tell them
        best = np.expand_dims(pick(joined, axis=axis), axis)
        rest = tuple(v for v in scope if v != variable)
        reduced = np.take_along_axis(joined, best, axis).squeeze(axis)
        decisions.append((variable, rest, best.squeeze(axis)))
        # the reduced table makes neighbours of all it depends on
        for v in rest:
            neighbours[v] = neighbours[v].union(rest) - {variable}
        if rest:
            live[serial] = Factor(scope=rest, values=reduced)
            serial += 1
        else:
            constants.append(float(reduced))
    assignment = np.zeros(len(sizes), dtype=np.int64)
    # backwards: each decision depends on variables eliminated after it
    for variable, rest, options in reversed(decisions):
        assignment[variable] = options[tuple(assignment[v] for v in rest)]
    value = (sum(constants) if combine == "sum" else max(constants)) if constants else 0.0
    return Optimum(value=value, assignment=assignment)


def _check_entries(scope: Sequence[int], sizes: Sequence[int], *, max_entries: int) -> None:
    """Refuse an intermediate table that is too large, before it is allocated."""
    entries = math.prod(sizes[v] for v in scope)
    if entries > max_entries:
        raise SpaceError(
            f"the exact optimum needs a table of {entries:,} entries over {len(scope)} choices that depend on each "
            f"other, and at most {max_entries:,} are allowed; let slots depend on fewer choices"
        )


def _neighbourhoods(factors: Iterable[Factor]) -> dict[int, set[int]]:
    """Each variable with itself and those it shares a factor with."""
    found: dict[int, set[int]] = {}
    for factor in factors:
        for variable in factor.scope:
            found.setdefault(variable, set()).update(factor.scope)
    return found
