"""Which positions of which axes stand and fall together, as rules of operators say it, one after another.

A position is one index of one axis of a value or a weight: channel 7 of a tensor. Rules join positions that must be
removed together and pin those that cannot be. Beside single positions the same is kept for whole axes, as far as a
rule speaks of these: by that the way through a reshape is chosen, before anything is joined there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.errors import GraphError
from hwnas.graph.costs import call_of
from hwnas.graph.types import Op, OpGraph
from hwnas.types import IntArray

Shape = tuple[int, ...]
_MOST_POSITIONS = 1 << 26  # a large transformer has a million


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a value or of a weight.

    Attributes:
        tensor: name of the value or weight.
        axis: counted from the front, without the batch axis.
        is_weight: of the two, which: a value may have a weight's name.
    """

    tensor: str
    axis: int
    is_weight: bool


@dataclass(frozen=True, slots=True)
class Positions:
    """Some positions of one axis.

    Attributes:
        axis: number of the axis.
        ids: (n,) of the positions, unique among all axes.
        whole: whether they are all of the axis, in its order.
    """

    axis: int
    ids: IntArray
    whole: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Positions:
        ids = self.ids[part]
        return Positions(self.axis, ids, whole=self.whole and len(ids) == len(self.ids))


class Links:
    """What is known of a graph's positions.

    Args:
        graph: any.

    Raises:
        GraphError: its tensors are larger than any network's.

    Attributes:
        axes: all of them; positions of axis i are numbered from `starts[i]` to `starts[i + 1]`.
        starts: see there.
        borders: number of an axis -> places along it that an operator's attributes name, as the ends of slices.
    """

    def __init__(self, graph: OpGraph) -> None:
        tensors = [(v.name, v.shape, False) for v in graph.values]
        tensors += [(w.name, w.shape, True) for w in graph.weights()]
        self.axes = [Axis(name, i, w) for name, shape, w in tensors for i in range(len(shape))]
        sizes = [n for _, shape, _ in tensors for n in shape]
        if sum(sizes) > _MOST_POSITIONS:  # a file may be anybody's
            raise GraphError(
                f"the graph's tensors have {sum(sizes):,} positions along their axes; at most "
                f"{_MOST_POSITIONS:,} are told apart"
            )
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.borders: dict[int, set[int]] = {}
        self._number = {axis: i for i, axis in enumerate(self.axes)}
        self._sides: list[IntArray] = []  # pairs of positions: first sides and second sides in turn
        self._pinned: list[tuple[IntArray, str]] = []
        self._size = int(self.starts[-1])
        self._parent = list(range(len(self.axes)))  # of whole axes that stand and fall together
        self._reason: dict[int, str] = {}  # root of such axes -> why they are pinned

    def positions(self, tensor: str, axis: int, *, is_weight: bool = False) -> Positions:
        """All of an axis."""
        i = self._number[Axis(tensor, axis, is_weight)]
        return Positions(i, np.arange(self.starts[i], self.starts[i + 1]))

    def unnamed(self, n: int) -> IntArray:
        """Ids of positions of an axis that no tensor has: a reshape's, between two tensors."""
        self._size += n
        return np.arange(self._size - n, self._size)

    # ------------------------------------------------------------ what rules say

    def join(self, a: Positions, b: Positions) -> None:
        """Both stand and fall together, one by one."""
        self.join_ids(a.ids, b.ids)
        if a.whole and b.whole:
            self.join_axes(a.axis, b.axis)

    def join_ids(self, a: IntArray, b: IntArray) -> None:
        """Single positions, one by one."""
        assert len(a) == len(b)
        self._sides += [a, b]

    def join_axes(self, a: int, b: int) -> None:
        """Two axes of which one is pinned if the other is."""
        a, b = self._root(a), self._root(b)
        if a == b:
            return
        self._parent[b] = a
        if b in self._reason:
            self._reason.setdefault(a, self._reason[b])

    def pin(self, positions: Positions, reason: str) -> None:
        """They cannot be removed."""
        self.pin_ids(positions.ids, reason)
        if positions.whole:
            self._reason.setdefault(self._root(positions.axis), reason)

    def pin_ids(self, ids: IntArray, reason: str) -> None:
        """Single positions that cannot be removed."""
        if len(ids):
            self._pinned.append((ids, reason))

    def border(self, axis: int, *places: int) -> None:
        """Whoever shrinks the axis must know how much of it remains on either side of these places."""
        self.borders.setdefault(axis, set()).update(places)

    def why_pinned(self, axis: int) -> str:
        """Why a whole axis is pinned; empty if nothing is known."""
        return self._reason.get(self._root(axis), "")

    def _root(self, axis: int) -> int:
        while self._parent[axis] != axis:
            self._parent[axis] = self._parent[self._parent[axis]]
            axis = self._parent[axis]
        return axis

    # ------------------------------------------------------------ what follows

    def components(self) -> tuple[IntArray, dict[int, str]]:
        """Which positions stand and fall together.

        Returns:
            (positions of all axes,) number of each position's component; and component -> why it is pinned.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        first = np.concatenate([*self._sides[::2], np.empty(0, dtype=np.int64)])
        second = np.concatenate([*self._sides[1::2], np.empty(0, dtype=np.int64)])
        pairs = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(self._size, self._size))
        _, found = connected_components(pairs, directed=False)
        labels: IntArray = found.astype(np.int64)
        pinned: dict[int, str] = {}
        for ids, reason in self._pinned:
            for component in np.unique(labels[ids]).tolist():
                pinned.setdefault(component, reason)
        return labels[: self.starts[-1]], pinned


class Site:
    """An operator among its tensors, as a rule sees it.

    Args:
        links: what the rule adds to.
        graph: of the operator.
        op: a known one.

    Attributes:
        op: the operator.
        inputs: shapes of what it reads.
        outputs: shapes of what it makes.
        weights: role -> shape.
        batched: of each input, whether it follows from the network's inputs, not from weights alone.
        attributes: all of them, defaults included.
    """

    def __init__(self, links: Links, graph: OpGraph, op: Op) -> None:
        call = call_of(graph, op)
        self.op = op
        self.links = links
        self.inputs = tuple(call.inputs)
        self.outputs = tuple(v.shape for v in graph.output_values(op))
        self.weights = dict(call.weights)
        self.batched = tuple(v.batched for v in graph.input_values(op))
        self.attributes = dict(call.attributes)

    def __getitem__(self, attribute: str) -> object:
        return self.attributes[attribute]

    def integer(self, attribute: str) -> int:
        """An attribute that is one number."""
        value = self.attributes[attribute]
        assert isinstance(value, int)
        return value

    def integers(self, attribute: str) -> tuple[int, ...]:
        """An attribute that is several."""
        value = self.attributes[attribute]
        assert isinstance(value, tuple)
        return value

    def x(self, axis: int, which: int = 0) -> Positions:
        """An axis of an input; negative ones count from the end."""
        return self.links.positions(self.op.inputs[which], range(len(self.inputs[which]))[axis])

    def y(self, axis: int, which: int = 0) -> Positions:
        """An axis of an output."""
        return self.links.positions(self.op.outputs[which], range(len(self.outputs[which]))[axis])

    def w(self, role: str, axis: int) -> Positions:
        """An axis of a weight."""
        weight = self.op.weight(role)
        assert weight is not None
        return self.links.positions(weight.name, axis, is_weight=True)

    def join(self, a: Positions, *others: Positions) -> None:
        """They stand and fall together, one by one."""
        for b in others:
            self.links.join(a, b)

    def pin(self, reason: str, *positions: Positions) -> None:
        """They cannot be removed; the reason goes on from "...because"."""
        for p in positions:
            self.links.pin(p, reason)

    def join_groups(self, count: int, *positions: Positions) -> None:
        """All positions of the first of `count` equal runs stand and fall together, likewise of the others."""
        runs = [p.ids.reshape(count, -1) for p in positions]
        anchor = runs[0][:, 0]
        for run in runs:
            for column in run.T:
                self.links.join_ids(anchor, column)
        for p in positions[1:]:
            self.links.join_axes(positions[0].axis, p.axis)

    def every_axis(self) -> Iterator[Positions]:
        """All axes of all its tensors."""
        for i, shape in enumerate(self.inputs):
            yield from (self.x(axis, i) for axis in range(len(shape)))
        for i, shape in enumerate(self.outputs):
            yield from (self.y(axis, i) for axis in range(len(shape)))
        for role, shape in self.weights.items():
            yield from (self.w(role, axis) for axis in range(len(shape)))


def pin_tensors(links: Links, graph: OpGraph, names: Sequence[str], *, reason: str) -> None:
    """Hold values in the shapes they have."""
    for name in names:
        for axis in range(len(graph.by_name[name].shape)):
            links.pin(links.positions(name, axis), reason)


def flat_indices(shape: Shape) -> tuple[IntArray, ...]:
    """For each axis the index along it of every number of a tensor, in its order."""
    return tuple(np.asarray(i) for i in np.unravel_index(np.arange(math.prod(shape)), shape))
