"""The assignment with the largest objective within linear rows, by integer programming (HiGHS through SciPy).

HiGHS (Huangfu & Hall, 2018) solves the program that `hwnas.cost._program` makes of choices and factors, and tells how
much better any other assignment could be. A choice that most tables ask for (a resolution) is decided first: a program
for each of its options, the most promising by its linear relaxation first, each only for what beats the best so far.

A solver keeps rows to a millionth. What it finds is held against the limits by whoever asked; an assignment that is
beyond one is excluded and the program solved again, and where that happens repeatedly the solver is given its rows as
much tighter as it is wrong. So what is returned keeps the limits to the last digit.
This module knows choices and tables; never blocks, devices, limits or what a number means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.cost._program import Program
from hwnas.cost.elimination import Combine, Factor
from hwnas.cost.exact import UndecidedError
from hwnas.types import BoolArray, Choice, FloatArray, IntArray

_TOLERANCE = 1e-6  # of the solver, relative to what it is given: rows and columns are scaled to about 1
_EXCLUDED = 3  # assignments beyond a limit by rounding, before the rows are tightened
_TIGHTENED = 4  # times
_MOST_OPTIONS = 64  # of a choice that is decided first


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objective:
    """What is to be largest: `constant` + the sum of factors.

    Attributes:
        factors: over the choices of a space.
        constant: added to every network.
    """

    factors: tuple[Factor, ...]
    constant: float = 0.0

    @classmethod
    def over_states(
        cls, choices: Sequence[Choice], tables: Iterable[tuple[tuple[int, ...], FloatArray]], *, constant: float = 0.0
    ) -> Objective:
        """The sum of tables that say of a choice with a parent, in one more place, what it counts where it is off.

        Args:
            choices: of the space.
            tables: scope, ascending, and values: one axis a choice, its options and, if it has a parent, off.
            constant: added to every network.
        """
        return cls(factors=tuple(_over_options(choices, *table) for table in tables), constant=constant)

    def value(self, encoding: IntArray) -> float:
        """Of one network, (D,) canonical."""
        return self.constant + math.fsum(float(f.values[tuple(encoding[c] for c in f.scope)]) for f in self.factors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """The best network found, and how good any can be.

    Attributes:
        encoding: (D,) canonical; keeps all limits.
        value: its objective.
        bound: no network within the limits exceeds it.
        seconds: what it took.
    """

    encoding: IntArray
    value: float
    bound: float
    seconds: float

    @property
    def gap(self) -> float:
        """By how much another network could be better: at least 0, in the objective's unit."""
        return max(0.0, self.bound - self.value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """A limit as a program sees it: `low <= sum of factors <= high`."""

    factors: tuple[Factor, ...]
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def at_most(cls, factors: tuple[Factor, ...], combine: Combine, value: float) -> Row:
        """That the sum, or the largest (at least 0), of some factors is at most a value."""
        if combine == "sum":
            return cls(factors=factors, high=value)
        return cls(factors=_where([f.values > value for f in factors], factors), high=min(value, 0.0))

    @classmethod
    def at_least(cls, factors: tuple[Factor, ...], combine: Combine, value: float) -> Row:
        """That it is at least that value: of a largest, that one of them is; without any it is 0."""
        if combine == "sum":
            return cls(factors=factors, low=value)
        return cls(factors=_where([f.values >= value for f in factors], factors), low=float(value > 0))


def largest(
    objective: Objective,
    choices: Sequence[Choice],
    *,
    rows: Sequence[Row],
    keeps: Callable[[IntArray], bool],
    seconds: float,
    gap: float = 0.0,
) -> Solution | None:
    """The assignment with the largest objective that keeps all rows; None if it is proven that there is none.

    Args:
        objective: over the choices.
        choices: some may be switched off by others.
        rows: what limits are to the solver.
        keeps: whether (D,) a canonical assignment keeps the limits indeed.
        seconds: after which the best so far is returned, with its bound.
        gap: how much better another one may be, in the objective's unit, when the answer is good enough.

    Raises:
        UndecidedError: neither an assignment nor a proof was found in the time.
    """
    return _Search(objective, choices, rows=rows, keeps=keeps, seconds=seconds, gap=gap).best()


def _over_options(choices: Sequence[Choice], scope: tuple[int, ...], values: FloatArray) -> Factor:
    """A table over states as a factor over options, those of the choices that switch on and off among them."""
    wider = list(scope)
    for c in wider:  # which grows: parents of parents too
        if (parent := choices[c].parent) is not None and parent not in wider:
            wider.append(parent)
    order = sorted(wider)
    sizes = [len(choices[c].options) for c in order]
    # all ways to set them, as encodings of these choices alone
    ways = np.indices(sizes).reshape(len(order), -1)
    on = np.ones(ways.shape, dtype=bool)
    for row, c in enumerate(order):  # a parent stands before its children
        if (parent := choices[c].parent) is not None:
            above = order.index(parent)
            on[row] = on[above] & np.isin(ways[above], sorted(choices[c].active_when))
    states = [np.where(on[order.index(c)], ways[order.index(c)], len(choices[c].options)) for c in scope]
    found: FloatArray = np.asarray(values[tuple(states)])
    return Factor.over(order, found.reshape(sizes))


def _where(is_so: Sequence[BoolArray], factors: Sequence[Factor]) -> tuple[Factor, ...]:
    return tuple(Factor.over(f.scope, np.asarray(x, dtype=float)) for x, f in zip(is_so, factors, strict=True))


class _Search:
    """Best-first over the options of one choice, an integer program for each."""

    def __init__(
        self,
        objective: Objective,
        choices: Sequence[Choice],
        *,
        rows: Sequence[Row],
        keeps: Callable[[IntArray], bool],
        seconds: float,
        gap: float,
    ) -> None:
        self._objective, self._choices, self._rows, self._keeps, self._gap = objective, choices, rows, keeps, gap
        self._began = time.monotonic()
        self._until = self._began + seconds
        self._best: IntArray | None = None
        self._value = -math.inf

    def best(self) -> Solution | None:
        constant = self._objective.constant
        parts = [(constant + part.relaxed(self._left()), part) for part in self._parts()]
        parts = [(most, part) for most, part in parts if most > -math.inf]
        bounds: list[float] = []  # of what is not better than the best, or was not looked at
        for most, part in sorted(parts, key=lambda each: -each[0]):
            if most <= self._value + self._gap or not self._left():
                bounds.append(most)
                continue
            bounds.append(min(most, self._solve(part)))
        if self._best is None:
            if any(bound > -math.inf for bound in bounds):
                raise UndecidedError("the time allowed was not enough to find a network within the limits, or a proof")
            return None
        return Solution(
            encoding=self._best,
            value=self._value,
            bound=max([self._value, *bounds]),
            seconds=time.monotonic() - self._began,
        )

    def _parts(self) -> list[_Part]:
        factors = [self._objective.factors, *(row.factors for row in self._rows)]
        choice = _asked_most(self._choices, [f for each in factors for f in each])
        scale = max((float(np.abs(f.values).max()) for f in self._objective.factors), default=0.0) or 1.0
        options = range(len(self._choices[choice].options)) if choice is not None else (None,)
        given = [None if choice is None or o is None else (choice, o) for o in options]
        return [_Part(self._choices, factors, rows=self._rows, scale=scale, given=g) for g in given]

    def _solve(self, part: _Part) -> float:
        """Look for something better in one part; how good it can be there at most, of what keeps the limits."""
        most = math.inf
        for attempt in range(_EXCLUDED + _TIGHTENED):
            tighter = 2 * _TOLERANCE * 2.0 ** (attempt - _EXCLUDED) if attempt >= _EXCLUDED else 0.0
            least = self._value + self._gap - self._objective.constant
            found, bound = part.solve(least=least, gap=self._gap, tighter=tighter, seconds=self._left())
            if not tighter:  # a program with tighter limits says nothing about these
                # where nothing beats the best by more than the gap, that is as good as any can be
                most = min(most, max(bound + self._objective.constant, self._value + self._gap))
            if found is None:
                return most
            if self._keeps(found):
                value = self._objective.value(found)
                if value > self._value:
                    self._best, self._value = found, value
                return most
            part.program.exclude(found)
        return most

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())


class _Part:
    """The networks with one option of one choice, or all.

    Args:
        choices: of the space.
        factors: of the objective, then of each row.
        rows: limits.
        scale: of the objective: what it is divided by.
        given: a choice and its option.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        factors: Sequence[Sequence[Factor]],
        *,
        rows: Sequence[Row],
        scale: float,
        given: tuple[int, int] | None,
    ) -> None:
        if given is not None:
            factors = [[_given(f, *given) for f in each] for each in factors]
        self.program = Program(choices, factors)
        self._rows, self._scale = rows, scale
        self._relaxed = 0.0
        self._low = np.zeros(self.program.coefficients.shape[1])
        if given is not None:
            self._low[self.program.option(*given)] = 1.0

    def relaxed(self, seconds: float) -> float:
        """What no network here exceeds by the linear relaxation: -inf where it proves that none keeps the limits."""
        if not seconds:
            return math.inf
        self._relaxed = self._run(seconds=seconds, whole=False)[1]
        return self._relaxed

    def solve(self, *, least: float, gap: float, tighter: float, seconds: float) -> tuple[IntArray | None, float]:
        """A network that is better than `least`, and how good one can be: -inf if it is proven that there is none.

        Args:
            least: without the objective's constant.
            gap: how much better than what is found another one may be.
            tighter: as which share of themselves limits are taken tighter than they are.
            seconds: for it.
        """
        if not seconds:
            return None, math.inf
        # of the solver's own number, which lacks the program's constant; the relaxation is about as large
        share = gap / (abs(self._relaxed - self.program.constants[0]) or 1.0) if math.isfinite(self._relaxed) else 0.0
        return self._run(seconds=seconds, whole=True, least=least, tighter=tighter, share=share)

    def _run(
        self, *, seconds: float, whole: bool, least: float = -math.inf, tighter: float = 0.0, share: float = 0.0
    ) -> tuple[IntArray | None, float]:
        from scipy.optimize import Bounds, LinearConstraint, milp  # takes half a second to import, which few need

        p = self.program
        constraints = [LinearConstraint(*p.constraints())]
        for k, row in enumerate(self._rows, start=1):
            constraints.append(LinearConstraint(*_scaled(p.coefficients[k], p.constants[k], row, tighter=tighter)))
        objective = p.coefficients[0] / self._scale
        if least > -math.inf:
            constraints.append(LinearConstraint(objective[None], (least - p.constants[0]) / self._scale, np.inf))
        integer = np.zeros(len(objective), dtype=np.int64)
        integer[: p.n_options] = whole
        found = milp(
            -objective,
            constraints=constraints,
            bounds=Bounds(self._low, 1.0),
            integrality=integer,
            options={"time_limit": seconds, "mip_rel_gap": share},
        )
        if found.status == 2:  # infeasible
            return None, -math.inf
        bound = found.mip_dual_bound if whole else found.fun
        # a time limit leaves a bound only where the solver came so far
        most = math.inf if bound is None else p.constants[0] - self._scale * float(bound)
        return (p.encoding(found.x) if whole and found.x is not None else None), most


def _scaled(coefficients: FloatArray, constant: float, row: Row, *, tighter: float) -> tuple[FloatArray, float, float]:
    """A row whose limits are about 1: (1, columns) coefficients, low, high."""
    low, high = row.low - constant, row.high - constant
    sizes = [abs(x) for x in (low, high) if math.isfinite(x)]
    scale = max([*sizes, float(np.abs(coefficients).max(initial=0.0))]) or 1.0
    return coefficients[None] / scale, low / scale + tighter, high / scale - tighter


def _asked_most(choices: Sequence[Choice], factors: Sequence[Factor]) -> int | None:
    """The choice that at least half of the factors over several choices ask for, if there is one."""
    joint = [f.scope for f in factors if len(f.scope) > 1]
    counts = {c: sum(c in scope for scope in joint) for c in {c for scope in joint for c in scope}}
    shared = [c for c, n in counts.items() if 2 * n >= len(joint) > 2 and len(choices[c].options) <= _MOST_OPTIONS]
    # a choice that may be switched off is no way to part the space
    shared = [c for c in shared if choices[c].parent is None]
    return max(shared, key=lambda c: (counts[c], -c), default=None)


def _given(factor: Factor, choice: int, option: int) -> Factor:
    """The factor under one option of a choice."""
    if choice not in factor.scope:
        return factor
    axis = factor.scope.index(choice)
    values: FloatArray = np.asarray(factor.values.take(option, axis=axis))
    return Factor.over(factor.scope[:axis] + factor.scope[axis + 1 :], values)
