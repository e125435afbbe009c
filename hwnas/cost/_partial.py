"""Partial networks, layer by layer: those that can still be brought within limits and that no other one dominates.

Of all that are left at the end one costs least. Where too many are left on the way, the nearest to the limits are
followed (a beam): what is found is then a network, and that nothing is found proves nothing.
Knows layers of costs and limits on their metrics; never what a metric means.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.cost._cutting_planes import most
from hwnas.cost._dominance import undominated
from hwnas.cost._layers import Bound, Layers, UndecidedError
from hwnas.types import FloatArray, IntArray

_AT_ONCE = 1 << 18  # partial networks that are made before any of them is dropped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What is left at the end.

    Attributes:
        network: (D,) one within the limits.
        is_all: nothing was put aside: none costs less, or without one there is none.
        most: partial networks that were kept at once.
    """

    network: IntArray | None
    is_all: bool
    most: int


def within(
    layers: Layers, caps: FloatArray, bounds: Sequence[Bound], *, objective: int | None, widest: int, until: float
) -> Found:
    """A network within the limits.

    Args:
        layers: the costs.
        caps: (M,) limits; inf without one.
        bounds: for the same limits or tighter ones.
        objective: the metric to be least in.
        widest: how many partial networks are kept at once: those nearest to keeping the limits by the bounds.
        until: when to give up, by `time.monotonic`.

    Raises:
        UndecidedError: it is too late.
    """
    growth = _Growth(layers, caps, bounds, objective=objective)
    if not growth.can_start:
        return Found(network=None, is_all=True, most=0)
    is_all, most_rows = True, 1
    state: IntArray = np.zeros(1, dtype=np.int64)
    values: FloatArray = layers.start[None, growth.tracked]
    trail: list[tuple[IntArray, IntArray]] = []  # of each layer: the partial network before, the option taken
    for i, layer in enumerate(layers.layers):
        step = max(1, _AT_ONCE // len(layer.after))
        grown = [growth.step(i, state, values, slice(at, at + step)) for at in range(0, len(state), step)]
        before, option, reached, values, excess = (np.concatenate(each) for each in zip(*grown, strict=True))
        rows = undominated(reached, values, states=int(layer.after.max()) + 1)
        if not len(rows):
            return Found(network=None, is_all=is_all, most=most_rows)
        if len(rows) > widest:
            rows, is_all = np.sort(rows[np.argpartition(excess[rows], widest)[:widest]]), False
        most_rows = max(most_rows, len(rows))
        trail.append((before[rows], option[rows]))
        state, values = reached[rows], values[rows]
        if time.monotonic() > until:
            raise UndecidedError("the time allowed was not enough")
    row = 0 if objective is None else int(np.argmin(values[:, growth.tracked.index(objective)]))
    return Found(network=_assignment(layers, row, trail), is_all=is_all, most=most_rows)


class _Growth:
    """Partial networks one layer longer, those that may still keep the limits; arguments as of `within`.

    Attributes:
        tracked: metrics of which a partial network's value is to be known: of a peak all that counts is that no single
            entry is beyond its limit, unless it is to be least.
        can_start: what is paid whatever the choices is within the limits on peaks.
    """

    def __init__(self, layers: Layers, caps: FloatArray, bounds: Sequence[Bound], *, objective: int | None) -> None:
        self._layers, self._caps = layers, caps
        capped = np.flatnonzero(np.isfinite(caps)).tolist()
        self.tracked = [j for j in capped if layers.sums[j] or j == objective]
        self._peaks = [j for j in capped if j not in self.tracked]
        self.can_start = bool((layers.start[self._peaks] <= caps[self._peaks]).all())
        self._sums = layers.sums[self.tracked]
        self._alone = {j: layers.alone(j, caps) for j in capped}  # exact least of each metric to the end
        self._bounds = [(bound, most(bound, caps)) for bound in reversed(bounds)]

    def step(
        self, i: int, state: IntArray, values: FloatArray, part: slice
    ) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
        """With each option of layer `i`: the row before, the option, the state, its values, how far it is beyond the
        bound that is worst.
        """
        layer, caps = self._layers.layers[i], self._caps
        n, first = len(layer.after), part.start
        state, values = state[part], values[part]
        before, option = np.repeat(np.arange(len(state)), n), np.tile(np.arange(n), len(state))  # (P * n,)
        cell = option * layer.after.shape[1] + state[before]  # in a layer's tables, as long rows
        reached = layer.after.ravel()[cell]
        local = layer.local.reshape(len(layer.local), -1)
        grown = np.empty((len(cell), len(self.tracked)))
        keep = np.ones(len(cell), dtype=bool)
        for column, j in enumerate(self.tracked):
            join = np.add if self._sums[column] else np.maximum
            grown[:, column] = join(values[before, column], local[j][cell])
            keep &= join(grown[:, column], self._alone[j][i + 1][reached]) <= caps[j]
        for j in self._peaks:
            keep &= np.maximum(local[j][cell], self._alone[j][i + 1][reached]) <= caps[j]
        rows = np.flatnonzero(keep)
        excess = np.full(len(rows), -np.inf)
        for bound, ceiling in self._bounds:  # the last and best first: the others are asked about what it leaves
            beyond = grown[rows] @ bound.weights[self.tracked] + bound.least[i + 1][reached[rows]] - ceiling
            may_keep = beyond <= 0
            excess = np.maximum(excess[may_keep], beyond[may_keep])
            rows = rows[may_keep]
        return first + before[rows], option[rows], reached[rows], grown[rows], excess


def _assignment(layers: Layers, row: int, trail: Sequence[tuple[IntArray, IntArray]]) -> IntArray:
    assignment = layers.given.copy()
    for layer, (before, option) in zip(reversed(layers.layers), reversed(trail), strict=True):
        layer.set_(assignment, int(option[row]))
        row = int(before[row])
    return assignment
