"""Costs of several metrics over the same variables, as layers: a few variables after others, and what is open of them.

What costs still depend on of the variables set so far is a state, as in dynamic programming, so that the least of a
weighted sum of the metrics from each state on is a few operations on arrays. Variables after which nothing can be
forgotten yet are set together, in one layer. Where most states say what the first variable is (a resolution, on which
nearly all blocks depend), the layers part by its options.
This module knows variables and tables; never limits on sums, blocks, devices or what a number means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.cost.elimination import Combine, Factor
from hwnas.types import BoolArray, FloatArray, IntArray

MAX_STATES = 4_000_000  # of one layer: variables that depend on each other in larger numbers are not decided here
_MOST_OPTIONS = 64  # of variables that are set together


class UndecidedError(Exception):
    """Control flow: neither an answer nor a proof was found within the time or memory allowed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cost:
    """One metric as a sum (or maximum, at least 0) of factors: `(offset + combined) * ratio`."""

    factors: tuple[Factor, ...]
    combine: Combine
    offset: float
    ratio: float

    def combined(self, assignment: IntArray) -> float:
        """The sum or maximum of one assignment, (D,)."""
        entries = [float(f.values[tuple(assignment[v] for v in f.scope)]) for f in self.factors]
        return sum(entries) if self.combine == "sum" else max([0.0, *entries])

    def value(self, assignment: IntArray) -> float:
        """What one assignment, (D,), costs."""
        return (self.offset + self.combined(assignment)) * self.ratio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A few variables that are set together: what their options cost and lead to, from every state.

    Attributes:
        variables: ascending.
        strides: of each in the number of an option, the last one's 1.
        after: (n, S) the state that each option leads to.
        local: (M, n, S) what it adds to each metric.
    """

    variables: IntArray
    strides: IntArray
    after: IntArray
    local: FloatArray

    def set_(self, assignment: IntArray, option: int) -> None:
        """Write an option into (D,) an assignment."""
        for variable, stride in zip(self.variables, self.strides, strict=True):
            assignment[variable], option = divmod(option, int(stride))

    def option(self, assignment: IntArray) -> int:
        """The option that (D,) an assignment has."""
        return int(assignment[self.variables] @ self.strides)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bound:
    """A weighted sum of the metrics and the least that it costs.

    Attributes:
        weights: (M,)
        least: by layer, (S,) from each state on; one more for the end.
        by_first: (n,) in all, by the option of the first variable.
    """

    weights: FloatArray
    least: list[FloatArray]
    by_first: FloatArray

    @property
    def total(self) -> float:
        """The least in all."""
        return float(self.by_first.min())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layers:
    """The layers of all variables, or of those after some that are given.

    Attributes:
        given: (D,) options of variables that are given; 0 for the others.
        layers: in the order of the variables; the first variable is alone in the first.
        sums: (M,) which metrics add up; of the others the largest entry counts.
        start: (M,) what each metric is at before the first layer.
        remembering: how many layers after the first start from states that say what the first variable is.
    """

    given: IntArray
    layers: tuple[Layer, ...]
    sums: BoolArray
    start: FloatArray
    remembering: int

    @classmethod
    def of(cls, costs: Sequence[Cost], sizes: Sequence[int]) -> Layers:
        """Lay out the costs over variables of these sizes.

        Raises:
            UndecidedError: too many variables depend on each other.
        """
        variables = sorted({v for c in costs for f in c.factors for v in f.scope})
        scopes = [f.scope for c in costs for f in c.factors if f.scope]
        layers: list[Layer] = []
        live: list[int] = []  # the state: variables that later factors still ask for
        group: list[int] = []  # that are set together
        remembering = 0
        for i, v in enumerate(variables):
            group.append(v)
            joint = [*live, *group]
            if math.prod(sizes[u] for u in joint) > MAX_STATES:
                raise UndecidedError(
                    f"{math.prod(sizes[u] for u in joint)} combinations of {len(joint)} choices depend on each other"
                )
            needed = {u for scope in scopes if scope[-1] > v for u in scope}
            is_last = i == len(variables) - 1
            options = math.prod(sizes[u] for u in [*group, *variables[i + 1 : i + 2]])
            if layers and not is_last and needed.issuperset(joint) and options <= _MOST_OPTIONS:
                continue
            layers.append(_layer(costs, live, group, sizes, needed=needed))
            live, group = [u for u in joint if u in needed], []
            remembering += not is_last and live[:1] == variables[:1]
        return cls(
            given=np.zeros(len(sizes), dtype=np.int64),
            layers=tuple(layers),
            sums=np.array([c.combine == "sum" for c in costs], dtype=bool),
            start=np.array([_constant(c) for c in costs]),
            remembering=remembering,
        )

    @property
    def can_part(self) -> bool:
        """Whether most states say what the first variable is."""
        return 2 * self.remembering > len(self.layers) > 1

    def part(self, option: int) -> Layers:
        """The layers after one option of the first variable, where they can part."""
        first, *rest = self.layers
        n = len(first.after)
        given = self.given.copy()
        first.set_(given, option)
        layers = []
        for i, layer in enumerate(rest, start=1):
            after, local = layer.after, layer.local
            if i <= self.remembering:  # the first variable is the leading digit of each state
                states = after.shape[1] // n
                mine = slice(option * states, (option + 1) * states)
                after, local = after[:, mine], np.ascontiguousarray(local[:, :, mine])
            if i < self.remembering:
                after = after - option * (self.layers[i + 1].after.shape[1] // n)
            layers.append(
                Layer(variables=layer.variables, strides=layer.strides, after=np.ascontiguousarray(after), local=local)
            )
        return Layers(
            given=given,
            layers=tuple(layers),
            sums=self.sums,
            start=self._joined(self.start, first.local[:, option, 0]),
            remembering=0,
        )

    # ------------------------------------------------------------ the least

    def alone(self, j: int, caps: FloatArray) -> list[FloatArray]:
        """By layer, the least that one metric still adds (or is) from each state on; one more for the end.

        Args:
            j: the metric.
            caps: (M,) of metrics of which the largest entry counts, what no entry exceeds.
        """
        local = [self._allowed(layer, layer.local[j], caps) for layer in self.layers]
        return self._least(local, combine="sum" if self.sums[j] else "max")

    def bound(self, weights: FloatArray, caps: FloatArray) -> Bound:
        """The least of a weighted sum, (M,) weights; `caps` as of `alone`."""
        used = np.flatnonzero(weights)
        local = [self._allowed(la, _weighted(la.local, weights, used), caps) for la in self.layers]
        least = self._least(local)
        start = float(weights[used] @ self.start[used])
        if not self.layers:
            return Bound(weights=weights, least=least, by_first=np.array([start]))
        by_first = start + local[0][:, 0] + least[1][self.layers[0].after[:, 0]]
        return Bound(weights=weights, least=least, by_first=by_first)

    def minimizer(self, bound: Bound, caps: FloatArray) -> IntArray:
        """(D,) an assignment that reaches the least of a weighted sum."""
        assignment = self.given.copy()
        used = np.flatnonzero(bound.weights)
        peaks = np.flatnonzero(~self.sums & np.isfinite(caps))
        state = 0
        for layer, rest in zip(self.layers, bound.least[1:], strict=True):
            after = layer.after[:, state]
            costs = bound.weights[used] @ layer.local[used, :, state] + rest[after]
            for j in peaks:
                costs[layer.local[j, :, state] > caps[j]] = np.inf
            option = int(costs.argmin())
            layer.set_(assignment, option)
            state = int(after[option])
        return assignment

    def values(self, assignment: IntArray) -> FloatArray:
        """(M,) what an assignment costs in each metric, before offset and ratio."""
        values, state = self.start, 0
        for layer in self.layers:
            option = layer.option(assignment)
            values = self._joined(values, layer.local[:, option, state])
            state = int(layer.after[option, state])
        return values

    def _least(self, local: Sequence[FloatArray], *, combine: Combine = "sum") -> list[FloatArray]:
        least: list[FloatArray] = [np.zeros(1)]
        for layer, costs in zip(reversed(self.layers), reversed(local), strict=True):
            rest = least[-1][layer.after]  # (n, S)
            least.append((costs + rest if combine == "sum" else np.maximum(costs, rest)).min(axis=0))
        return least[::-1]

    def _allowed(self, layer: Layer, local: FloatArray, caps: FloatArray) -> FloatArray:
        """(n, S) costs of one layer with inf where a single entry is beyond a limit on a peak."""
        for j in np.flatnonzero(~self.sums & np.isfinite(caps)):
            local = np.where(layer.local[j] > caps[j], np.inf, local)
        return local

    def _joined(self, values: FloatArray, local: FloatArray) -> FloatArray:
        return np.where(self.sums, values + local, np.maximum(values, local))


def largest(cost: Cost) -> float:
    """What no network costs more than, before offset and ratio; 1 where all cost nothing."""
    return sum(float(np.abs(f.values).max()) for f in cost.factors) or 1.0


def _layer(
    costs: Sequence[Cost], live: Sequence[int], group: Sequence[int], sizes: Sequence[int], *, needed: set[int]
) -> Layer:
    """Variables that are set together from the states of others; `needed` is what states are made of after it."""
    joint = [*live, *group]
    shape = [sizes[u] for u in joint]
    n = math.prod(sizes[u] for u in group)
    # options first: the least over few options of many states is then a few operations on long rows
    after = _states(joint, shape, needed).reshape(-1, n).T
    local = np.stack([_local(c, group, joint, shape) for c in costs]).reshape(len(costs), -1, n).swapaxes(1, 2)
    return Layer(
        variables=np.array(group, dtype=np.int64),
        strides=np.cumprod([1, *(sizes[u] for u in group[:0:-1])])[::-1].astype(np.int64),
        after=np.ascontiguousarray(after),
        local=np.ascontiguousarray(local),
    )


def _states(joint: Sequence[int], shape: Sequence[int], needed: set[int]) -> IntArray:
    """(*shape) the number of the state that each setting of some variables leads to: those still needed are digits."""
    after = np.zeros(shape, dtype=np.int64)
    stride = 1
    for axis in reversed(range(len(joint))):
        if joint[axis] in needed:
            index = np.arange(shape[axis]) * stride
            after += index.reshape([-1 if a == axis else 1 for a in range(len(joint))])
            stride *= shape[axis]
    return after


def _local(cost: Cost, group: Sequence[int], joint: Sequence[int], shape: Sequence[int]) -> FloatArray:
    """(*shape) what is paid with some variables: a factor is, once, with its last one."""
    join = np.add if cost.combine == "sum" else np.maximum
    total = np.zeros(shape)
    for f in cost.factors:
        if f.scope and f.scope[-1] in group:
            total = join(total, f.aligned(joint))
    return total


def _weighted(local: FloatArray, weights: FloatArray, used: IntArray) -> FloatArray:
    """(n, S) the weighted sum of the metrics that have a weight."""
    total: FloatArray = np.zeros(local.shape[1:])
    for k in used:
        total += weights[k] * local[k]
    return total


def _constant(cost: Cost) -> float:
    constants = [float(f.values) for f in cost.factors if not f.scope]
    return sum(constants) if cost.combine == "sum" else max([0.0, *constants])
